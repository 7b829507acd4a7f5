"""FLOPs and kept numbers of the two extra paths, a token (section 4.5 of the paper).

Both paths are lists of matrix products, so that the counts follow from shapes and not from the formulas
they are compared with. A product of (a x b) with (b x c) is 2abc FLOPs. What both paths share is left out:
adding the path's output to the layer's, adding its gradient to the input's, the scale alpha/r.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil

from diablo.audit.findings import Finding
from diablo.audit.paper import Line, Paper
from diablo.shapes import Width, diablo_parameters, lora_parameters

#: (how many, rows, inner, columns) of equal matrix products. A rank may be no whole number: where it has to be, for
#: equal parameters, nothing that trains has it.
Product = tuple[int, Fraction, Fraction, Fraction]
FORMULA = (
    "forward 2 r (m1 + m2) for LoRA and 2 N d1 d2 for DiaBlo, 2 FLOPs a parameter; backward twice that, "
    "for the parameters' gradient and the input's"
)


def lora_products(width: Width, rank: Fraction) -> tuple[list[Product], list[Product]]:
    """Products of LoRA's path for one token: forward, and backward."""
    m1, m2, one = Fraction(width[0]), Fraction(width[1]), Fraction(1)
    forward = [(1, one, m1, rank), (1, one, rank, m2)]  # X A, (X A) B
    backward = [
        (1, rank, one, m2),  # gradient of B
        (1, one, m2, rank),  # of X A
        (1, m1, one, rank),  # of A
        (1, one, rank, m1),  # of X
    ]
    return forward, backward


def diablo_products(width: Width, num_blocks: int) -> tuple[list[Product], list[Product]]:
    """Products of DiaBlo's path for one token, padding included: forward, and backward."""
    one = Fraction(1)
    d1, d2 = (Fraction(ceil(m / num_blocks)) for m in width)
    forward = [(num_blocks, one, d1, d2)]
    # Gradients of the blocks, and of their inputs.
    backward = [(num_blocks, d1, one, d2), (num_blocks, one, d2, d1)]
    return forward, backward


def flops(products: list[Product]) -> Fraction:
    """FLOPs of matrix products, multiplications and additions."""
    return sum(
        (2 * count * rows * inner * columns for count, rows, inner, columns in products),
        Fraction(0),
    )


def equal_rank(widths: list[Width], num_blocks: int) -> Fraction:
    """The rank that has as many parameters as N blocks; seldom a whole number."""
    return Fraction(diablo_parameters(widths, num_blocks), lora_parameters(widths, 1))


def totals(
    widths: list[Width], num_blocks: int, rank: Fraction
) -> dict[str, tuple[Fraction, Fraction]]:
    """(forward, backward) FLOPs a token of each path, over all layers."""
    sums = {"diablo": [Fraction(0)] * 2, "lora": [Fraction(0)] * 2}
    for width, layers in Counter(widths).items():
        paths = {"diablo": diablo_products(width, num_blocks), "lora": lora_products(width, rank)}
        for name, passes in paths.items():
            sums[name] = [
                total + layers * flops(part) for total, part in zip(sums[name], passes, strict=True)
            ]
    return {name: (forward, backward) for name, (forward, backward) in sums.items()}


def count_flops(paper: Paper) -> list[Finding]:
    """Section 4.5's claim, for each model, set of modules and N that the tables have."""
    seen: dict[tuple[str, str, int], Line] = {}
    for line in paper.lines(parts=False):
        if line.row.method == "diablo" and line.row.num_blocks and not line.settings.layers:
            modules = line.settings.modules or ""
            seen.setdefault((line.group.model, modules, line.row.num_blocks), line)
    settings = list(seen.values())
    memory = [_memory(paper, settings)] if settings else []
    return [*(_setting(paper, line) for line in settings), *memory]


def _setting(paper: Paper, line: Line) -> Finding:
    blocks, modules = line.row.num_blocks or 0, line.settings.modules or ""
    widths = line.shapes.widths(line.modules())
    name = f"{line.group.model}/{modules}/n{blocks}"
    model = paper.catalog.model(line.group.model).title
    place = f"{model}, {modules.upper()}, N = {blocks}"
    rank, params = equal_rank(widths, blocks), diablo_parameters(widths, blocks)
    both = totals(widths, blocks, rank)
    text = "; ".join(
        f"{title} {float(forward) / 1e6:,.1f} + {float(backward) / 1e6:,.1f} MFLOP"
        for title, (forward, backward) in (("DiaBlo", both["diablo"]), ("LoRA", both["lora"]))
    )
    exact_rank = "" if rank.denominator == 1 else ", which no whole rank has"
    return Finding(
        id=f"flops/{name}",
        statement=f"{place}: as many FLOPs a token as LoRA of equal parameters, forward and backward",
        evidence=f"{params:,} parameters are r = {float(rank):.2f}{exact_rank}: {text}; {FORMULA}",
        verdict="agrees" if both["diablo"] == both["lora"] else "disagrees",
        source="paper, section 4.5",
    )


def _memory(paper: Paper, settings: list[Line]) -> Finding:
    """The claim's other half: numbers that are kept between the two passes."""
    kept = []
    for line in settings:
        blocks, widths = line.row.num_blocks or 0, line.shapes.widths(line.modules())
        name = f"{paper.catalog.model(line.group.model).title} N = {blocks}"
        kept.append((float(equal_rank(widths, blocks)) * len(widths), name))
    (least, small), (most, large) = min(kept), max(kept)
    batch = 16 * 256 * 2 / 2**20
    return Finding(
        id="memory/claim",
        statement="DiaBlo and LoRA of equal parameters have the same memory footprint",
        evidence=(
            "parameters, gradients and optimiser state are equal, and both keep the layer's input for the backward "
            "pass; LoRA keeps X A too, r numbers a token and layer: between "
            f"{least:,.0f} ({small}) and {most:,.0f} ({large}) a token, {least * batch:,.0f} to {most * batch:,.0f} "
            "MiB of 16-bit numbers for 16 examples of 256 tokens. DiaBlo's footprint is the smaller"
        ),
        verdict="disagrees",
        source="paper, section 4.5",
        entries=("D-37",),
    )
