"""What a row of the paper becomes at a scale: N, rank and number of blocks on the model really used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diablo.experiments import Row
from diablo.scales import RankReference
from diablo.settings import ALL_LINEAR, MODULES, Settings
from diablo.shapes import Shapes, diablo_parameters, lora_parameters, matched_blocks, matched_rank

TOO_WIDE = "wider than the layer at this scale"


@dataclass(frozen=True)
class Sizes:
    """How much a run trains, or why it is not run; `notes` say what differs from the paper's row."""

    num_blocks: int | None = None
    rank: int | None = None
    block_size: int | None = None
    chosen_blocks: int | None = None
    notes: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def label(self) -> str:
        """For the name of a run's folder: `n64`, `r4`, `b115` or nothing."""
        named = {"n": self.num_blocks, "r": self.rank, "b": self.chosen_blocks}
        return next((f"{letter}{value}" for letter, value in named.items() if value), "")


def realise(
    row: Row,
    paper: Settings,
    used: Settings,
    blocks: Mapping[int, int | None] | None,
    ranks: RankReference | None,
    theirs: Shapes | None,
    ours: Shapes,
) -> Sizes:
    """The sizes of `row` at a scale.

    N is mapped by the scale's `blocks` (None: it stays); a rank that follows from N (`rank_of`) is solved
    for; other ranks and numbers of chosen blocks keep the paper's ratio to
    DiaBlo's parameters where the scale has a reference for it (`ranks`).

    Args:
        paper, used: the row's settings in the paper and here.
        ranks, theirs: the scale's reference for this experiment, and the shapes of its model.
        ours: the model that is really used.
    """
    if row.num_blocks is not None:
        return _blocks(row.num_blocks, blocks)
    if row.rank_of is not None:
        return _rank_of(row.rank_of, paper, blocks, ours)
    if row.rank is None and row.chosen_blocks is None:
        return Sizes()
    if ranks is None:
        return Sizes(rank=row.rank, chosen_blocks=row.chosen_blocks, block_size=used.block_size)
    assert theirs is not None
    reference = ranks.num_blocks
    here = (blocks or {}).get(reference) or reference
    their_widths = theirs.widths(linear_modules(paper, theirs), paper.layers)
    budget = diablo_parameters(their_widths, reference)
    widths = ours.widths(linear_modules(paper, ours), paper.layers)
    if row.rank is not None:
        ratio = lora_parameters(their_widths, row.rank) / budget
        rank = matched_rank(ratio, widths, here)
        realised = lora_parameters(widths, rank) / diablo_parameters(widths, here)
        return Sizes(
            rank=rank,
            notes=(
                f"rank {rank} here for the paper's {row.rank}: {realised:.2f} of the parameters of "
                f"DiaBlo N = {here} (paper: {ratio:.2f} of N = {reference})",
            ),
        )
    assert row.chosen_blocks is not None
    if paper.block_size is None or used.block_size is None:
        raise ValueError(f"{row.label}: chosen_blocks = {row.chosen_blocks} needs `block_size`")
    ratio = row.chosen_blocks * paper.block_size**2 / budget
    chosen = matched_blocks(ratio, widths, here, used.block_size)
    realised = chosen * used.block_size**2 / diablo_parameters(widths, here)
    return Sizes(
        chosen_blocks=chosen,
        block_size=used.block_size,
        notes=(
            f"{chosen} blocks of {used.block_size} x {used.block_size} here for the paper's "
            f"{row.chosen_blocks} of {paper.block_size} x {paper.block_size}: {realised:.2f} of the "
            f"parameters of DiaBlo N = {here} (paper: {ratio:.2f} of N = {reference})",
        ),
    )


def _blocks(num_blocks: int, blocks: Mapping[int, int | None] | None) -> Sizes:
    if blocks is None:
        return Sizes(num_blocks=num_blocks)
    used = blocks.get(num_blocks)
    if used is None:
        return Sizes(reason=TOO_WIDE)
    note = f"N = {used} here for the paper's N = {num_blocks}"
    return Sizes(num_blocks=used, notes=() if used == num_blocks else (note,))


def _rank_of(
    num_blocks: int, paper: Settings, blocks: Mapping[int, int | None] | None, ours: Shapes
) -> Sizes:
    """The rank nearest to DiaBlo's parameters in the same layers of the model that is really used."""
    here = _blocks(num_blocks, blocks).num_blocks
    if here is None:
        return Sizes(reason=TOO_WIDE)
    widths = ours.widths(linear_modules(paper, ours), paper.layers)
    rank = matched_rank(1.0, widths, here)
    ratio = lora_parameters(widths, rank) / diablo_parameters(widths, here)
    note = (
        f"rank {rank} here: {ratio:.2f} of the parameters of DiaBlo N = {here} in the same layers"
    )
    return Sizes(rank=rank, notes=(note,))


def paper_rank(row: Row, paper: Settings, theirs: Shapes) -> int | None:
    """The row's rank on the paper's model: as it says, or solved for by `rank_of`."""
    if row.rank_of is None:
        return row.rank
    return matched_rank(
        1.0, theirs.widths(linear_modules(paper, theirs), paper.layers), row.rank_of
    )


def linear_modules(settings: Settings, shapes: Shapes) -> list[str]:
    """Names of the targeted linear layers of a model, such as `q_proj`."""
    letters = settings.modules or ""
    return shapes.modules if letters == ALL_LINEAR else [MODULES[letter] for letter in letters]
