"""Average gradient norms of the full weights and of their diagonal blocks, by epoch (Figure 4).

Of a matrix' gradient G the root mean square ||G||_F / sqrt(numel) comes first: it stays what it is if the entries
are as large as before and only more of them. ||G||_F / numel, the other reading of the paper's "normalises by the
number of parameters", does not: with entries alike, blocks of 1/N of them come out sqrt(N) times as large as
the whole. An average is the mean over the matrices, each counting once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diablo.io import read_jsonl
from diablo.tables.gradient_formats import significant
from diablo.tables.ranks import short
from diablo.tables.run_sections import Section, load_rows, not_run, places, writers
from diablo.tables.runs import Training, read_training
from diablo.tables.statistics import spread
from diablo.tables.table import Table

#: Keys of a line's numbers: the two norms of the full weight and of its blocks.
NORMS = ("rms_full", "rms_blocks", "per_entry_full", "per_entry_blocks")


@dataclass(frozen=True)
class MonitoredRun(Training):
    """A run with the lines of its `gradients.jsonl`, by epoch (0: before training)."""

    epochs: Mapping[int, Mapping[str, Any]]


def load_gradient_norms(plan_path: str | Path) -> Table:
    """Read a plan of kind `gradient-norms` and the gradients of its runs.

    Raises:
        ValueError: if a column is no epoch, or a file or its provenance is missing or does not fit; it names
            the file.
    """
    table = load_rows(plan_path, read_monitored_run)
    for column in table.columns:
        epoch_of(column, table.plan["name"])
    return table


def epoch_of(column: str, experiment: str) -> int:
    """The epoch at whose end a column's gradients were measured: 0, before training, for `epoch0`."""
    if not (found := re.fullmatch(r"epoch(0|[1-9]\d*)", column)):
        raise ValueError(
            f"{experiment}: column {column!r} is no epoch; name columns epoch0 (before training), epoch1 and so on"
        )
    return int(found[1])


def read_monitored_run(
    entry: Mapping[str, Any], plan: Mapping[str, Any], row: Mapping[str, Any]
) -> MonitoredRun:
    """Read one entry of a row's `runs`.

    Raises:
        ValueError: if the file is missing, has not every epoch from 0 on, or not the same matrices in all.
    """
    path = Path(entry["gradients"])
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run `diablo finetune` for {entry['run']}")
    training, lines = read_training(entry, row, path), read_jsonl(path)
    if not lines or [line.get("epoch") for line in lines] != list(range(len(lines))):
        raise ValueError(
            f"{path}: has not every epoch from 0 on; delete the run's folder and train it again"
        )
    names = list(lines[0]["modules"])
    for line in lines:
        if list(line["modules"]) != names or not names:
            raise ValueError(f"{path}: epoch {line['epoch']} has other matrices than epoch 0")
    epochs = {line["epoch"]: line for line in lines}
    return MonitoredRun(**{**vars(training), "files": (*training.files, path)}, epochs=epochs)


def of_matrix(one: Mapping[str, Any]) -> dict[str, float]:
    """Both average norms of a matrix' full gradient and of its diagonal blocks."""
    found = {}
    for part in ("full", "blocks"):
        norm, entries = one[part], one[f"{part}_entries"]
        found[f"rms_{part}"] = norm / math.sqrt(entries)
        found[f"per_entry_{part}"] = norm / entries
    return found


def averages(line: Mapping[str, Any]) -> dict[str, float]:
    """The means over the matrices of one epoch, and the ratios of the blocks' to the full weights'."""
    matrices = [of_matrix(one) for one in line["modules"].values()]
    found = {key: float(np.mean([one[key] for one in matrices])) for key in NORMS}
    for kind in ("rms", "per_entry"):
        found[f"{kind}_ratio"] = _ratio(found[f"{kind}_blocks"], found[f"{kind}_full"])
    return found


def _ratio(blocks: float, full: float) -> float:
    return blocks / full if full else math.nan


def tidy(table: Table) -> pd.DataFrame:
    """One line per run and epoch for the means (`part` mean) and one for each matrix (`part` matrix)."""
    records = []
    for place, _, _, run in places(table):
        for epoch, line in run.epochs.items():
            shared = {key: line[key] for key in ("step", "examples", "targets", "loss")}
            base = {**place, "epoch": epoch, **shared}
            records.append({"part": "mean", **base, "module": "", **averages(line)})
            for name, one in line["modules"].items():
                norms = of_matrix(one)
                records.append(
                    {
                        "part": "matrix",
                        **base,
                        "module": name,
                        **norms,
                        "rms_ratio": _ratio(norms["rms_blocks"], norms["rms_full"]),
                        "per_entry_ratio": _ratio(
                            norms["per_entry_blocks"], norms["per_entry_full"]
                        ),
                        **{key: one[key] for key in ("full", "blocks")},
                        **{key: one[key] for key in ("full_entries", "blocks_entries")},
                    }
                )
    frame = pd.DataFrame.from_records(records)
    whole = ["full_entries", "blocks_entries"]
    return frame.astype(dict.fromkeys(whole, "Int64")) if records else frame


#: What is printed of an epoch's averages: key -> its name.
QUANTITIES = {
    "rms_full": "full weights, RMS",
    "rms_blocks": "diagonal blocks, RMS",
    "rms_ratio": "blocks / full, RMS",
    "per_entry_full": "full weights, ||G|| / numel",
    "per_entry_blocks": "diagonal blocks, ||G|| / numel",
    "per_entry_ratio": "blocks / full, ||G|| / numel",
    "loss": "loss of the examples",
}


def measured(table: Table) -> str:
    """Of what the gradients are, in words."""
    runs = [run for _, _, _, run in places(table)]
    counts = sorted({line["examples"] for run in runs for line in run.epochs.values()})
    trained = sorted({run.provenance["examples"] for run in runs if "examples" in run.provenance})
    count = f"{_several(counts)} training examples" if counts else "training examples"
    if trained:
        count = f"{_several(counts)} of {_several(trained)} training examples"
    if counts == trained and counts:
        count = f"all {_several(counts)} training examples"
    return (
        f"Gradient of the mean loss per labelled token over {count}, the same at every epoch, "
        "without dropout; only the blocks train"
    )


def _several(counts: list[int]) -> str:
    return " or ".join(f"{one:,}" for one in counts)


def sections(table: Table) -> list[Section]:
    """The averages by epoch, and the ratios of each kind of matrix."""
    return [_averages_section(table), _matrices_section(table)]


def _averages_section(table: Table) -> Section:
    epochs = [epoch_of(column, table.plan["name"]) for column in table.columns]
    lines = []
    for group, row in table.rows:
        for key, what in QUANTITIES.items() if row.runs else ():
            cells = [_cell(row.runs, epoch, key) for epoch in epochs]
            lines.append((table.row_name(group, row), what, *cells))
    several = any(len(row.runs) > 1 for _, row in table.rows)
    seeds = " Mean ± sample standard deviation over seeds." if several else ""
    reading = (
        f"{measured(table)}. Means over the matrices. RMS: ||G||_F / √numel. ||G|| / numel: with it "
        "blocks of 1/N of the entries are √N times as large as the full weights where all entries are alike. The paper's "
        f"definition is lost from its text.{seeds} An epoch that was not trained to its end has no numbers."
    )
    heads = ("Row", "Average", *table.columns.values())
    return Section(
        "Average gradient norms", reading, heads, lines + not_run(table, len(heads)), texts=2
    )


def _cell(runs: Any, epoch: int, key: str) -> str:
    """Mean over the seeds with its spread; empty where a run has not reached the epoch."""
    if any(epoch not in run.epochs for run in runs):
        return ""
    lines = [run.epochs[epoch] for run in runs]
    values = [line["loss"] if key == "loss" else averages(line)[key] for line in lines]
    sd = spread(values)
    text = significant(float(np.mean(values)))
    return text if sd is None else f"{text} \N{PLUS-MINUS SIGN} {significant(sd, 2)}"


def _matrices_section(table: Table) -> Section:
    epochs = [epoch_of(column, table.plan["name"]) for column in table.columns]
    lines = []
    for group, row in table.rows:
        kinds = [short(name) for run in row.runs[:1] for name in _matrices(run)]  # type: ignore[arg-type]
        for kind in dict.fromkeys(kinds):
            cells = [_range(row.runs, epoch, kind) for epoch in epochs]
            lines.append((table.row_name(group, row), kind, *cells))
    reading = (
        "RMS of the blocks over RMS of the full weight: median over the layers and seeds, with the least and the largest. "
        "1: the blocks' entries are as large as the others. The CSV file has every matrix."
    )
    heads = ("Row", "Matrices", *table.columns.values())
    return Section("Blocks / full, by kind of matrix", reading, heads, lines, texts=2)


def _matrices(run: MonitoredRun) -> list[str]:
    return list(run.epochs[0]["modules"])


def _range(runs: Any, epoch: int, kind: str) -> str:
    if any(epoch not in run.epochs for run in runs):
        return ""
    found = [
        _ratio(norms["rms_blocks"], norms["rms_full"])
        for run in runs
        for name, one in run.epochs[epoch]["modules"].items()
        if short(name) == kind
        for norms in [of_matrix(one)]
    ]
    low, middle, high = (float(f(found)) for f in (np.min, np.median, np.max))
    return f"{significant(middle)} ({significant(low)} to {significant(high)})"


WRITERS = writers(tidy, sections)
