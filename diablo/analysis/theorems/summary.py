"""What the measurements say: one line a setting, and each statement with its limit and its verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from diablo.analysis.theorems.sweep import LeastSquares, affordable_rank, largest_blocks
from diablo.tables.theorems import extreme

#: Largest gap or gradient that counts as zero, and smallest one that counts as not zero.
GAP_ZERO, GAP_BEYOND = 1e-10, 1e-3
BLOCKS_ZERO, FULL_BEYOND = 1e-12, 1e-3
#: The same for the network, whose blocks L-BFGS brings to about 1e-9.
TRAINED_ZERO = 1e-7
#: What identifies a setting of Theorem 1 and one of Theorem 2.
SETTING = ["inputs", "outputs", "rank", "target_rank"]
MAP = ["inputs", "outputs", "blocks"]


def summarise_least_squares(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a setting of `sweep_least_squares`: DiaBlo at and above the bound, LoRA at three ranks.

    Gaps where the minimum is reached are the largest magnitude over seeds (and, for DiaBlo, over all N up to
    the bound), elsewhere the smallest over seeds.
    """
    return pd.DataFrame.from_records(
        [_least_squares(lines) for _, lines in frame.groupby(SETTING, dropna=False, sort=False)]
    ).astype({"target_rank": "Int64", "next_blocks": "Int64"})


def _least_squares(lines: pd.DataFrame) -> dict[str, Any]:
    first = lines.iloc[0]
    target_rank = None if pd.isna(first["target_rank"]) else int(first["target_rank"])
    setting = LeastSquares(first["inputs"], first["outputs"], first["rank"], target_rank)
    blocks, affordable = largest_blocks(setting), affordable_rank(setting)
    diablo, lora = (lines[lines["method"] == method] for method in ("diablo", "lora"))
    beyond = diablo[~diablo["reaches"]]
    next_blocks = None if beyond.empty else int(beyond["size"].min())
    # The rank that suffices for every seed.
    required = int(lora[lora["reaches"]].groupby("seed")["size"].min().max())

    def at(method: pd.DataFrame, size: int | None, column: str) -> pd.Series:
        return method.loc[method["size"] == size, column]

    params = int(at(diablo, blocks, "params").iloc[0])
    lora_params = int(at(lora, required, "params").iloc[0])
    return {
        **asdict(setting),
        "blocks": blocks,
        "params": params,
        "gap": diablo.loc[diablo["reaches"], "gap"].abs().max(),
        "next_blocks": next_blocks,
        "next_gap": at(diablo, next_blocks, "gap").min(),
        "lora_rank": required,
        "lora_params": lora_params,
        "lora_gap": at(lora, required, "gap").abs().max(),
        "below_rank": required - 1,
        "below_gap": at(lora, required - 1, "gap").min(),
        "affordable_rank": affordable,
        # Zero but for rounding where that rank suffices.
        "affordable_gap": max(0.0, at(lora, affordable, "gap").min()),
        "fewer": params < lora_params,
    }


def merge_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """`sweep_stationary` with one line for each (N, r1, r2): the worst over its seeds.

    `certain` says whether all seeds have one rank, the exact one.
    """
    cells = frame.groupby([*MAP, "rank1", "rank2"], sort=False)
    merged = cells.agg(
        needed=("needed", "first"),
        inside=("inside", "first"),
        unknowns=("unknowns", "first"),
        equations=("equations", "first"),
        exact_rank=("exact_rank", "first"),
        rank=("rank", "min"),
        rank_max=("rank", "max"),
        outcome=("outcome", "first"),
        bound=("bound", "max"),
        blocks_norm=("blocks_norm", "max"),
        full_norm=("full_norm", "min"),
    ).reset_index()
    merged["certain"] = (merged["rank"] == merged.pop("rank_max")) & (
        merged["rank"] == merged["exact_rank"]
    )
    return merged


def summarise_stationary(cells: pd.DataFrame) -> pd.DataFrame:
    """One line a map: how many pairs (r1, r2) have which outcome, and the extreme values."""
    records = []
    for key, pairs in cells.groupby(MAP, sort=False):
        by = {name: pairs[pairs["outcome"] == name] for name in pairs["outcome"].unique()}
        nothing = pairs.iloc[:0]
        found = by.get("counter-example", nothing)
        records.append(
            {
                **dict(zip(MAP, key, strict=True)),
                "pairs": len(pairs),
                "inside": int(pairs["inside"].sum()),
                "contradictions": len(by.get("contradiction", nothing)),
                "bound": by.get("zero", nothing)["bound"].max(),
                "zero_outside": len(by.get("zero outside the condition", nothing)),
                "counter_examples": len(found),
                "spare_equations": int((found["equations"] >= found["unknowns"]).sum()),
                "blocks_norm": found["blocks_norm"].max(),
                "full_norm": found["full_norm"].min(),
                "certain": int(pairs["certain"].sum()),
            }
        )
    return pd.DataFrame.from_records(records)


def summarise_network(frame: pd.DataFrame) -> pd.DataFrame:
    """One line for each N: parameters, condition, ranks, and the extreme gradients over the seeds."""
    summary = frame.groupby(["width", "rows", "blocks"], sort=False).agg(
        params=("params", "first"),
        rank1=("rank1", "max"),
        rank2=("rank2", "max"),
        needed=("needed", "max"),
        inside=("inside", "all"),
        full_start=("full_start", "min"),
        blocks_end=("blocks_end", "max"),
        full_end_min=("full_end", "min"),
        full_end=("full_end", "max"),
        ratio=("ratio", "max"),
        bound=("bound", "max"),
    )
    return summary.reset_index()


@dataclass(frozen=True)
class Statement:
    """A sentence, what was found, the limit it was held to, and whether it holds."""

    statement: str
    found: str
    limit: str
    holds: bool


def statements(gaps: pd.DataFrame, cells: pd.DataFrame, network: pd.DataFrame) -> pd.DataFrame:
    """Every statement about the theorems, from `sweep_least_squares`, `merge_seeds` and `sweep_network`."""
    return pd.DataFrame(
        [*_theorem1(gaps), *_parameters(gaps), *_theorem2(cells), *_of_network(network)]
    )


def _theorem1(gaps: pd.DataFrame) -> list[Statement]:
    names = {
        ("diablo", True): "Theorem 1: DiaBlo with N ≤ m1/r reaches the full minimum",
        ("diablo", False): "DiaBlo with N > m1/r does not",
        ("lora", True): "LoRA reaches it from the rank of the projected targets on",
        ("lora", False): "LoRA of a lower rank does not, however it is trained",
    }
    found = []
    for (method, reaches), sentence in names.items():
        one = gaps.loc[(gaps["method"] == method) & (gaps["reaches"] == reaches), "gap"]
        value = one.abs().max() if reaches else one.min()
        found.append(
            Statement(
                sentence,
                f"{'largest' if reaches else 'smallest'} gap {extreme(value)} of {len(one)}",
                f"≤ {GAP_ZERO:g}" if reaches else f"≥ {GAP_BEYOND:g}",
                bool(value <= GAP_ZERO if reaches else value >= GAP_BEYOND),
            )
        )
    return found


def _parameters(gaps: pd.DataFrame) -> list[Statement]:
    summary = summarise_least_squares(gaps)
    exact = summary["blocks"] * summary["rank"] == summary["inputs"]
    generic = summary["target_rank"].isna()
    parts = {
        "where m1/r is a common factor and the targets are generic": exact & generic,
        "at the largest N ≤ m1/r otherwise, with generic targets": ~exact & generic,
        "where the targets have a rank below r": ~generic,
    }
    return [
        Statement(
            f"DiaBlo reaches the full minimum with fewer parameters than LoRA, {where}",
            f"{int(summary['fewer'][chosen].sum())} of {int(chosen.sum())} settings",
            "all",
            bool(summary["fewer"][chosen].all()),
        )
        for where, chosen in parts.items()
        if chosen.any()
    ]


def _theorem2(cells: pd.DataFrame) -> list[Statement]:
    inside, outcome = cells[cells["inside"]], cells["outcome"]
    zero = int((inside["outcome"] == "zero").sum())
    found, spare = cells[outcome == "counter-example"], outcome == "zero outside the condition"
    blocks, full = found["blocks_norm"].max(), found["full_norm"].min()
    return [
        Statement(
            "Theorem 2: inside its condition vanishing blocks make the whole gradient vanish",
            f"{zero} of {len(inside)} pairs of ranks; whole at most {extreme(inside['bound'].max())} × blocks",
            "all",
            zero == len(inside),
        ),
        Statement(
            "Outside, wherever the stacked system is deficient, there is a counter-example",
            f"{len(found)} pairs: blocks ≤ {extreme(blocks)}, whole ≥ {extreme(full)} of ||X|| ||g_Y||",
            f"blocks ≤ {BLOCKS_ZERO:g}, whole ≥ {FULL_BEYOND:g}",
            bool(blocks <= BLOCKS_ZERO and full >= FULL_BEYOND),
        ),
        Statement(
            "The condition is sufficient, not necessary: outside there are systems of full rank",
            f"{int(spare.sum())} of {int((~cells['inside']).sum())} pairs outside",
            "some",
            bool(spare.any()),
        ),
        Statement(
            "The rank in float64 is the rank without rounding, for every seed",
            f"{int(cells['certain'].sum())} of {len(cells)} pairs",
            "all",
            bool(cells["certain"].all()),
        ),
    ]


def _of_network(network: pd.DataFrame) -> list[Statement]:
    # Outside the condition the system may have full rank all the same; then nothing is left there either.
    inside, deficient = network[network["inside"]], network[np.isinf(network["bound"])]
    worst, least = inside["full_end"].max(), deficient["full_end"].min()
    trained, within = deficient["blocks_end"].max(), (inside["ratio"] <= inside["bound"]).all()
    ratio = extreme(inside["ratio"].max())
    return [
        Statement(
            "Network, inside: trained blocks leave no gradient anywhere, and no more than the bound",
            f"whole ≤ {extreme(worst)}, whole at most {ratio} × blocks, {len(inside)} runs",
            f"whole ≤ {TRAINED_ZERO:g} and within the bound",
            bool(worst <= TRAINED_ZERO and within),
        ),
        Statement(
            "Network, stacked system deficient: trained blocks leave a gradient",
            f"blocks ≤ {extreme(trained)}, whole ≥ {extreme(least)}, {len(deficient)} runs",
            f"blocks ≤ {TRAINED_ZERO:g}, whole ≥ {FULL_BEYOND:g}",
            bool(trained <= TRAINED_ZERO and least >= FULL_BEYOND),
        ),
    ]
