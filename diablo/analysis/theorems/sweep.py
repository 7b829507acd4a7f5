"""The experiments over N, r and m, with several seeds: one line a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from diablo.analysis.theorems.exact import generic_rank
from diablo.analysis.theorems.least_squares import (
    diablo_minimum,
    diablo_parameters,
    generic,
    lora_minimum,
    lora_parameters,
    relative_gap,
    required_rank,
)
from diablo.analysis.theorems.linear import common_factors
from diablo.analysis.theorems.network import Network, train_and_measure
from diablo.analysis.theorems.stationary import (
    System,
    needed_blocks,
    relative_gradients,
    row_space,
)


@dataclass(frozen=True)
class LeastSquares:
    """Widths m1 and m2, the inputs' rank r, and the targets' rank if they are not generic."""

    inputs: int
    outputs: int
    rank: int
    target_rank: int | None = None


@dataclass(frozen=True)
class Map:
    """Widths and a number of blocks, for all ranks r1 <= m1 and r2 <= m2."""

    inputs: int
    outputs: int
    blocks: int


@dataclass(frozen=True)
class Grid:
    """What is swept.

    Attributes:
        least_squares: the settings of Theorem 1; every common factor N, and every LoRA rank up to one more
            than r, or as many as DiaBlo's parameters buy if these are more.
        rows: b of those; more than any rank, so that no update fits the targets.
        maps: the settings of Theorem 2.
        width, network_rows, network_ranks: the network's m1 = m2, b, and (r1, r2).
        seeds, map_seeds, network_seeds: how many draws of each.
    """

    # 46 = 2 · 23 has no common factor near 46 / 5; the last two have targets of a low rank.
    least_squares: tuple[LeastSquares, ...] = (
        *(LeastSquares(48, 48, rank) for rank in (2, 4, 5, 6, 12)),
        *(LeastSquares(96, 48, rank) for rank in (4, 6, 12)),
        *(LeastSquares(48, 96, rank) for rank in (4, 6, 12)),
        LeastSquares(46, 46, 5),
        LeastSquares(48, 48, 6, target_rank=1),
        LeastSquares(48, 48, 12, target_rank=3),
    )
    rows: int = 64
    maps: tuple[Map, ...] = (
        *(Map(18, 18, blocks) for blocks in (3, 6, 9)),
        *(Map(12, 18, blocks) for blocks in (3, 6)),
        *(Map(12, 12, blocks) for blocks in (2, 4, 12)),
    )
    width: int = 24
    network_rows: int = 24
    network_ranks: tuple[int, int] = (6, 6)
    seeds: int = 5
    map_seeds: int = 3
    network_seeds: int = 3


def sweep_least_squares(grid: Grid) -> pd.DataFrame:
    """Theorem 1: the relative residual gap of every method, N, LoRA rank and seed.

    `size` is N or LoRA's rank; `reaches` says whether the gap is zero by the theorem (N <= m1 / r) or by
    LoRA's required rank.
    """
    return pd.DataFrame.from_records(
        [
            {**vars(setting), "seed": seed, **line}
            for setting in grid.least_squares
            for seed in range(grid.seeds)
            for line in _gaps(setting, grid.rows, seed)
        ]
    ).astype({"target_rank": "Int64"})


def _gaps(setting: LeastSquares, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    m1, m2, rank = setting.inputs, setting.outputs, setting.rank
    random = np.random.default_rng([seed, m1, m2, rank])
    inputs = generic(rows, m1, rank, random)
    targets = generic(rows, m2, setting.target_rank or min(rows, m2), random)
    for blocks in common_factors(m1, m2):
        yield {
            "method": "diablo",
            "size": blocks,
            "reaches": blocks * rank <= m1,
            "params": diablo_parameters(m1, m2, blocks),
            "gap": relative_gap(inputs, targets, diablo_minimum(inputs, targets, blocks)),
        }
    required = required_rank(inputs, targets)
    for lora_rank in range(max(rank + 1, affordable_rank(setting)) + 1):
        yield {
            "method": "lora",
            "size": lora_rank,
            "reaches": lora_rank >= required,
            "params": lora_parameters(m1, m2, lora_rank),
            "gap": relative_gap(inputs, targets, lora_minimum(inputs, targets, lora_rank)),
        }


def largest_blocks(setting: LeastSquares) -> int:
    """The largest N that Theorem 1 allows: a common factor of m1 and m2 that is at most m1 / r."""
    factors = common_factors(setting.inputs, setting.outputs)
    return max(blocks for blocks in factors if blocks * setting.rank <= setting.inputs)


def affordable_rank(setting: LeastSquares) -> int:
    """The largest LoRA rank with no more parameters than DiaBlo at :func:`largest_blocks`."""
    m1, m2 = setting.inputs, setting.outputs
    return diablo_parameters(m1, m2, largest_blocks(setting)) // lora_parameters(m1, m2, 1)


#: What a pair of row spaces shows, by whether Theorem 2's condition holds and whether the system is full.
OUTCOMES = {
    (True, True): "zero",
    (False, True): "zero outside the condition",
    (False, False): "counter-example",
    (True, False): "contradiction",
}


def sweep_stationary(grid: Grid) -> pd.DataFrame:
    """Theorem 2: the stacked system's rank for every N, r1, r2 and seed, and what follows from it.

    `exact_rank` is the rank modulo a prime, of one draw a line of (N, r1, r2). `blocks_norm` and `full_norm`
    are a counter-example's gradients relative to ||X|| · ||g_Y||; `bound` is the most that full over blocks
    can be where there is none.
    """
    return pd.DataFrame.from_records(
        [
            {**vars(one), "rank1": rank1, "rank2": rank2, **line}
            for one in grid.maps
            for rank1 in range(1, one.inputs + 1)
            for rank2 in range(1, one.outputs + 1)
            for line in _systems(one, rank1, rank2, grid.map_seeds)
        ]
    )


def _systems(one: Map, rank1: int, rank2: int, seeds: int) -> Iterator[dict[str, Any]]:
    m1, m2, blocks = one.inputs, one.outputs, one.blocks
    needed = needed_blocks(m1, m2, blocks, rank1, rank2)
    random = np.random.default_rng([m1, m2, blocks, rank1, rank2])
    exact = generic_rank(m1, m2, blocks, rank1, rank2, random)
    for seed in range(seeds):
        system = System.of(row_space(rank1, m1, random), row_space(rank2, m2, random), blocks)
        of_blocks = full = None
        if not system.full:
            inputs, output_gradient = system.realise(system.null_core(random), random)
            of_blocks, full = relative_gradients(inputs, output_gradient, blocks)
        yield {
            "seed": seed,
            "needed": needed,
            "inside": blocks >= needed,
            "unknowns": system.unknowns,
            "equations": system.equations,
            "rank": system.rank,
            "exact_rank": exact,
            "outcome": OUTCOMES[blocks >= needed, system.full],
            "bound": system.bound,
            "blocks_norm": of_blocks,
            "full_norm": full,
        }


def sweep_network(grid: Grid) -> pd.DataFrame:
    """Theorem 2 in a network, for every common factor N and seed; see `train_and_measure`."""
    return pd.DataFrame.from_records(
        [
            {
                "width": grid.width,
                "rows": grid.network_rows,
                "seed": seed,
                "blocks": blocks,
                **train_and_measure(network, blocks),
            }
            for seed in range(grid.network_seeds)
            for network in [
                Network.draw(grid.network_rows, grid.width, *grid.network_ranks, seed=seed)
            ]
            for blocks in common_factors(grid.width, grid.width)
        ]
    )
