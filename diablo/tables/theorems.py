"""The theorems' table: what was stated and what held, then the settings of each theorem."""

from __future__ import annotations

from typing import Any

import pandas as pd

from diablo.tables.gradient_formats import significant
from diablo.tables.sections import Columns, Page, Section

HEADING = "Theorems 1 and 2 as experiments"
PLACE = "float64, random matrices, no model and no data set: the same at every scale"


def extreme(value: float) -> str:
    """`3.9e-14`, `0.34`, `2686`; `-` where there is no number, `∞` for infinity."""
    if pd.isna(value):
        return "-"
    return "\N{INFINITY}" if value == float("inf") else significant(value, 2)


def at(size: Any, gap: float) -> str:
    """`16: 0.20`, the gap at an N or a rank."""
    return "-" if pd.isna(size) else f"{size}: {extreme(gap)}"


def yes(value: bool) -> str:
    return "yes" if value else "no"


def widths(line: Any) -> str:
    return f"{line.inputs} \N{MULTIPLICATION SIGN} {line.outputs}"


STATEMENTS: Columns = {
    "Statement": lambda line: line.statement,
    "Found": lambda line: line.found,
    "Limit": lambda line: line.limit,
    "Verdict": lambda line: "holds" if line.holds else "does not hold",
}
LEAST_SQUARES: Columns = {
    "m1 \N{MULTIPLICATION SIGN} m2": widths,
    "r": lambda line: str(line.rank),
    "targets": lambda line: "generic" if pd.isna(line.target_rank) else f"rank {line.target_rank}",
    "largest N ≤ m1/r": lambda line: str(line.blocks),
    "DiaBlo's parameters": lambda line: f"{line.params:,}",
    "DiaBlo's gap up to it": lambda line: extreme(line.gap),
    "at the next N": lambda line: at(line.next_blocks, line.next_gap),
    "LoRA's least rank": lambda line: str(line.lora_rank),
    "LoRA's parameters": lambda line: f"{line.lora_params:,}",
    "LoRA's gap": lambda line: extreme(line.lora_gap),
    "at one rank less": lambda line: at(line.below_rank, line.below_gap),
    "LoRA with DiaBlo's parameters": lambda line: at(line.affordable_rank, line.affordable_gap),
    "DiaBlo needs fewer": lambda line: yes(line.fewer),
}
STATIONARY: Columns = {
    "m1 \N{MULTIPLICATION SIGN} m2": widths,
    "N": lambda line: str(line.blocks),
    "pairs (r1, r2)": lambda line: str(line.pairs),
    "inside": lambda line: str(line.inside),
    "of them deficient": lambda line: str(line.contradictions),
    "whole / blocks at most": lambda line: extreme(line.bound),
    "outside, full rank": lambda line: str(line.zero_outside),
    "outside, counter-example": lambda line: str(line.counter_examples),
    "of them with equations enough": lambda line: str(line.spare_equations),
    "blocks at most": lambda line: extreme(line.blocks_norm),
    "whole at least": lambda line: extreme(line.full_norm),
    "rank is the exact one": lambda line: str(line.certain),
}
NETWORK: Columns = {
    "N": lambda line: str(line.blocks),
    "parameters": lambda line: str(line.params),
    "r1, r2": lambda line: f"{line.rank1}, {line.rank2}",
    "N needed": lambda line: str(line.needed),
    "inside": lambda line: yes(line.inside),
    "blocks, trained": lambda line: extreme(line.blocks_end),
    "whole, least": lambda line: extreme(line.full_end_min),
    "whole, most": lambda line: extreme(line.full_end),
    "whole / blocks": lambda line: extreme(line.ratio),
    "at most": lambda line: extreme(line.bound),
}
READING = {
    "statements": "Every number is an extreme over all settings and seeds below.",
    "least squares": (
        "Gap: (L(Δ) − L*) / (L(0) − L*), the share of what training the whole weight gains that the method "
        "leaves; L(Δ) = ||XΔ − Y||². All minima are exact (least squares; Eckart and Young for LoRA), so a gap "
        "belongs to the method and not to its training. Where the minimum is reached the gap is the largest "
        "magnitude over seeds, elsewhere the smallest. LoRA's rank is the least that reaches the minimum: the rank of "
        "the targets' projection on the range of X. “16: 0.20” is the gap 0.20 at N or rank 16."
    ),
    "stationary points": (
        "For every pair of ranks up to m1 and m2, the rank of the stacked Kronecker system of random row spaces. "
        "Full rank: vanishing diagonal blocks make the whole gradient vanish, and the whole is never more than so many "
        "times the blocks. Deficient: a pair X, g_Y was built whose blocks vanish; norms are relative to "
        "||X|| ||g_Y||. Equations enough: no fewer than unknowns, and deficient all the same. Exact rank: "
        "of one draw modulo 2^31 − 1."
    ),
    "network": (
        "One layer of width {width} in a nonlinear network, {rows} inputs, blocks trained by L-BFGS. Norms of the gradient "
        "relative to ||X|| ||g_Y||; ranks are measured where training ended. At most: what the stacked system "
        "of the row spaces found there allows."
    ),
}


def theorems_page(
    statements: pd.DataFrame,
    least_squares: pd.DataFrame,
    stationary: pd.DataFrame,
    network: pd.DataFrame,
) -> Page:
    """The page of tables, from the frames of `diablo.analysis.theorems.summary`."""
    of_network = READING["network"].format(**network.iloc[0][["width", "rows"]])
    layout = r"p{0.5\linewidth}p{0.45\linewidth}p{0.25\linewidth}l"
    parts = [
        Section("statements", "What holds", READING["statements"], STATEMENTS, statements, layout),
        Section(
            "least squares",
            "Theorem 1: least squares with inputs of rank r",
            READING["least squares"],
            LEAST_SQUARES,
            least_squares,
        ),
        Section(
            "stationary points",
            "Theorem 2: N ≥ ⌈r1 N/m1⌉ · ⌈r2 N/m2⌉",
            READING["stationary points"],
            STATIONARY,
            stationary,
        ),
        Section("network", "Theorem 2 in a network", of_network, NETWORK, network),
    ]
    return Page("theorems", HEADING, PLACE, parts)
