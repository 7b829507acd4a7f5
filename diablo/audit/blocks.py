"""Where N and the number of layers make the paper and its released code train different parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from diablo.audit.counts import OWN, SHRUNK, conventions, fits
from diablo.audit.facts import Layers
from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Line, Paper
from diablo.audit.shrunk import shrunk_blocks, shrunk_parameters
from diablo.shapes import diablo_parameters


def check_blocks(paper: Paper, layers: Layers) -> list[Finding]:
    """Every N that does not divide the widths, and every model that a default trains a part of."""
    return [
        *(finding for line in paper.lines(parts=False) for finding in _common_factor(line)),
        *_left_out(paper, layers),
    ]


def _common_factor(line: Line) -> Iterator[Finding]:
    """Section 3.1: the N that are used divide the widths; and which rule the printed count follows."""
    row, blocks = line.row, line.row.num_blocks
    if row.method != "diablo" or not blocks or line.settings.layers:
        return
    widths = line.shapes.widths(line.modules())
    edges = sorted({m for width in widths for m in width if m % blocks})
    if not edges:
        return
    kept, made = diablo_parameters(widths, blocks), shrunk_parameters(widths, blocks)
    yield Finding(
        id=f"blocks/{line.id}/common-factor",
        statement=f"{line.place}: N is a common factor of the widths (section 3.1)",
        evidence=f"N = {blocks} does not divide {', '.join(map(str, edges))}",
        verdict="disagrees",
        source="paper, section 3.1",
        entries=("D-10",),
    )
    smaller = sorted({shrunk_blocks(width, blocks) for width in widths} - {blocks})
    if not row.params or not smaller:
        return
    counts = conventions(line)
    fit = {
        c.counting for c in counts if c.modules == counts[0].modules and fits(row.params, c.value)
    }
    verdicts: dict[frozenset[str], Verdict] = {
        frozenset([OWN]): "disagrees",
        frozenset([SHRUNK]): "agrees",
    }
    yield Finding(
        id=f"blocks/{line.id}/rule",
        statement=f"{line.place}: the printed #Params follow the released code's rule",
        evidence=(
            f"paper's rule, N kept and padded: {kept:,} ({kept / 2**20:.4f} x 2^20); released code, N = "
            f"{', '.join(map(str, smaller))}: {made:,} ({made / 2**20:.4f} x 2^20); {row.params} fits "
            f"{'; '.join(sorted(fit)) or 'neither'}"
        ),
        verdict=verdicts.get(frozenset(fit), "cannot tell"),
        source="ziyangjoy/DiaBlo@83ffb6c: diablo/block_linear.py",
        entries=("D-10",),
    )


def _left_out(paper: Paper, layers: Layers) -> Iterator[Finding]:
    """Models with more layers than a default trains."""
    seen: set[tuple[str, int]] = set()
    for line in paper.lines(parts=False):
        blocks, shapes = line.row.num_blocks, line.shapes
        if line.row.method != "diablo" or not blocks or (line.group.model, blocks) in seen:
            continue
        seen.add((line.group.model, blocks))
        if shapes.decoder_layers is None and shapes.layers > layers.last + 1:
            names = line.modules()
            whole = diablo_parameters(shapes.widths(names), blocks)
            part = diablo_parameters(replace(shapes, layers=layers.last + 1).widths(names), blocks)
            yield Finding(
                id=f"layers/{line.id}",
                statement=f"{line.place}: the released default trains all {shapes.layers} layers",
                evidence=(
                    f"it trains layers 0 to {layers.last}: {part / 1e6:.1f}M of {whole / 1e6:.1f}M parameters "
                    f"(printed: {line.row.params})"
                ),
                verdict="disagrees",
                source=layers.source,
                entries=(layers.entry,),
            )
