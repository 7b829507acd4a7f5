"""Effective ranks of activations and output gradients (Figure 3), and Theorem 2's condition with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from diablo.analysis.theorems.linear import common_factors
from diablo.analysis.theorems.stationary import needed_blocks
from diablo.io import read_json
from diablo.tables.checks import check_same
from diablo.tables.render import number
from diablo.tables.run_sections import Section, load_rows, not_run, places, writers
from diablo.tables.runs import Training, read_training
from diablo.tables.table import Table

#: Key of a matrix in the file -> how it is written.
MATRICES = {"x": "X", "g": "g_Y"}


@dataclass(frozen=True)
class RankedRun(Training):
    """A run with the content of its file of ranks (`diablo.analysis.ranks`)."""

    ranks: Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """Theorem 2's condition on one module: N >= ⌈r1 N / m1⌉ · ⌈r2 N / m2⌉, N a common factor of both widths.

    Attributes:
        inputs, outputs: m1 and m2.
        rank1, rank2: r1 of X and r2 of g_Y, by one criterion.
    """

    inputs: int
    outputs: int
    rank1: int
    rank2: int

    def needed(self, blocks: int) -> int | None:
        """What N has to reach; None where N divides not both widths, and the theorem says nothing."""
        if self.inputs % blocks or self.outputs % blocks:
            return None
        return needed_blocks(self.inputs, self.outputs, blocks, self.rank1, self.rank2)

    def holds(self, blocks: int) -> bool | None:
        """Whether it holds at N; None where the theorem says nothing."""
        needed = self.needed(blocks)
        return None if needed is None else blocks >= needed

    @property
    def largest(self) -> int:
        """The largest common factor of both widths at which it holds; at N = 1 it always does."""
        return max(n for n in common_factors(self.inputs, self.outputs) if self.holds(n))


def load_ranks(plan_path: str | Path) -> Table:
    """Read a plan of kind `effective-rank` and the ranks of its runs.

    Raises:
        ValueError: if a file or its provenance is missing or does not fit the plan; names the file.
    """
    return load_rows(plan_path, read_ranked_run)


def read_ranked_run(
    entry: Mapping[str, Any], plan: Mapping[str, Any], row: Mapping[str, Any]
) -> RankedRun:
    """Read one entry of a row's `runs`."""
    path = Path(entry["ranks"])
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `diablo ranks` for {entry['run']}")
    training, found = read_training(entry, row, path), read_json(path)
    check_same(path, found, {"run": entry["run"]})
    wanted = {key: plan["probe"][key] for key in ("layer", "examples", "seed", "thresholds")}
    check_same(path, found["probe"], wanted)
    if not found.get("provenance"):
        raise ValueError(f"{path}: has no provenance; run `diablo ranks` again")
    if not found["modules"]:
        raise ValueError(f"{path}: has no modules; run `diablo ranks` again")
    return RankedRun(**{**vars(training), "files": (*training.files, path)}, ranks=found)


def short(name: str) -> str:
    """`q_proj` for `self_attn.q_proj`."""
    return name.rpartition(".")[2]


def ratio(matrix: Mapping[str, Any], rank: int) -> float:
    """The effective ratio k / min(b, m)."""
    return float(rank / min(matrix["rows"], matrix["width"]))


def criteria(matrix: Mapping[str, Any]) -> Iterator[tuple[str, int, float | None, int]]:
    """(criterion, power, threshold, rank): the numerical rank (power 0), then every effective one."""
    yield "numerical rank", 0, None, matrix["rank"]
    for one in matrix["effective"]:
        power, threshold = one["power"], one["threshold"]
        yield f"{powers(power)} ≥ {threshold:g}", power, threshold, one["rank"]


def powers(power: int) -> str:
    """How the sum of a criterion is written."""
    return {1: "Σσ", 2: "Σσ²"}[power]


def tidy_ranks(table: Table) -> pd.DataFrame:
    """One line per run, module, matrix and criterion: the rank and its ratio."""
    return pd.DataFrame.from_records(
        [
            {
                **place,
                **_of_probe(run),
                "module": module["name"],
                "matrix": MATRICES[key],
                "width": module[key]["width"],
                "zero_rows": module[key]["zero_rows"],
                "criterion": criterion,
                "power": power or None,
                "threshold": threshold,
                "rank": rank,
                "of": min(module[key]["rows"], module[key]["width"]),
                "ratio": round(ratio(module[key], rank), 6),
            }
            for place, _, _, run in places(table)
            for module in run.ranks["modules"]
            for key in MATRICES
            for criterion, power, threshold, rank in criteria(module[key])
        ]
    )


def conditions(run: RankedRun) -> Iterator[tuple[Mapping[str, Any], str, int, Condition]]:
    """(module, criterion, power, condition) of every module and criterion."""
    for module in run.ranks["modules"]:
        m1, m2 = module["inputs"], module["outputs"]
        pairs = zip(criteria(module["x"]), criteria(module["g"]), strict=True)
        for (criterion, power, _, rank1), (_, _, _, rank2) in pairs:
            yield module, criterion, power, Condition(m1, m2, rank1, rank2)


def tidy_conditions(table: Table) -> pd.DataFrame:
    """One line per run, module, criterion and N; `needed` is empty where N divides not both widths."""
    frame = pd.DataFrame.from_records(
        [
            {
                **place,
                **_of_probe(run),
                "module": module["name"],
                "criterion": criterion,
                "inputs": one.inputs,
                "outputs": one.outputs,
                "rank1": one.rank1,
                "rank2": one.rank2,
                "blocks": blocks,
                "needed": one.needed(blocks),
                "holds": {True: "yes", False: "no", None: ""}[one.holds(blocks)],
                "largest_blocks": one.largest,
            }
            for place, _, _, run in places(table)
            for module, criterion, _, one in conditions(run)
            for blocks in table.plan["probe"]["blocks"]
        ]
    )
    return frame.astype({"needed": "Int64"}) if len(frame) else frame


def tidy(table: Table) -> pd.DataFrame:
    """Both frames in one; `part` says which, columns of the other are empty."""
    parts = {"ranks": tidy_ranks(table), "condition": tidy_conditions(table)}
    frames = [frame.assign(part=name).astype(object) for name, frame in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["part", *(name for name in frame if name != "part")]]


def _of_probe(run: RankedRun) -> dict[str, Any]:
    probe = run.ranks["probe"]
    return {
        "layer": probe["layer"],
        "layer_from": probe["layer_from"],
        "examples": run.ranks["examples"],
        "tokens": run.ranks["tokens"],
    }


def probed(table: Table) -> str:
    """What was decomposed, in words."""
    probe = table.plan["probe"]
    tokens = sorted({run.ranks["tokens"] for _, _, _, run in places(table)})
    of = " to ".join(f"{n:,}" for n in tokens[:: max(1, len(tokens) - 1)])
    return (
        f"Layer {probe['layer']} of {probe['layers']} (from 0, {probe['layer_from']}), "
        f"{probe['examples']} training examples{of and f', b = {of} tokens'}: one row of X and g_Y for each token, "
        "prompts and answers, without padding"
    )


def sections(table: Table) -> list[Section]:
    """The ranks of every module, and the condition at every N."""
    return [_ranks_section(table), _condition_section(table)]


def _ranks_section(table: Table) -> Section:
    known = next((run.ranks["modules"][0]["x"] for _, _, _, run in places(table)), None)
    labels = [criterion for criterion, *_ in criteria(known)] if known else ["numerical rank"]
    heads = ("Row", "Seed", "Module", "Matrix", "Width", *labels)
    lines = [
        (
            table.row_name(group, row),
            str(run.seed),
            short(module["name"]),
            MATRICES[key],
            f"{module[key]['width']:,}",
            *(
                f"{rank:,} ({number(ratio(module[key], rank), 3)})"
                for *_, rank in criteria(module[key])
            ),
        )
        for _, group, row, run in places(table)
        for module in run.ranks["modules"]
        for key in MATRICES
    ]
    reading = (
        f"{probed(table)}. A rank and, in brackets, the effective ratio k / min(b, m). Σσ² ≥ 0.9: the least k whose "
        "k largest singular values have that share of the sum of squares; Σσ: of the sum of the values "
        "themselves. Numerical rank: singular values above max(b, m) · 1.2e-7 times the largest (float32, in "
        "which the matrices were computed; decomposed in float64). The paper's criterion is lost from its text."
    )
    return Section("Ranks", reading, heads, lines + not_run(table, len(heads)), texts=4)


def _condition_section(table: Table) -> Section:
    grid = table.plan["probe"]["blocks"]
    heads = (
        *("Row", "Seed", "Module", "m1 × m2", "Criterion", "r1", "r2"),
        *(f"N={blocks}" for blocks in grid),
        "largest N",
    )
    lines = [
        (
            table.row_name(group, row),
            str(run.seed),
            short(module["name"]),
            f"{one.inputs:,} × {one.outputs:,}",
            criterion,
            f"{one.rank1:,}",
            f"{one.rank2:,}",
            *({True: "yes", False: "no", None: "–"}[one.holds(blocks)] for blocks in grid),
            str(one.largest),
        )
        for _, group, row, run in places(table)
        for module, criterion, power, one in conditions(run)
        if power != 1
    ]
    reading = (
        "Whether N ≥ ⌈r1 N/m1⌉ · ⌈r2 N/m2⌉ with the ranks above; “–”: N divides not both widths, and the theorem "
        "says nothing. Largest N: of all common factors of the widths; N = 1, the whole weight, satisfies it always. The "
        "theorem speaks of ranks, which is the line “numerical rank”: with an effective rank the condition "
        "holds for a matrix nearby, not for the measured one. The criteria Σσ are in the CSV file."
    )
    lines += not_run(table, len(heads))
    return Section("Theorem 2's condition", reading, heads, lines, texts=5)


WRITERS = writers(tidy, sections)
