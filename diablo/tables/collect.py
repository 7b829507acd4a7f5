"""From a plan and the files of its runs to the table as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.io import read_json
from diablo.tables.comparison import Comparison, compare
from diablo.tables.ranking import UNRANKED, marks
from diablo.tables.runs import Run, measure, read_run
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Cell, Group, Row, Table


def load_table(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Read a plan and the scores it names.

    Args:
        plan_path: `results/<scale>/tables/<experiment>.plan.json`; the paths in it are relative to
            the working directory.
        resamples: bootstrap resamples per estimate.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a score file or its provenance is missing or does not fit the plan; the
            message names the file.
    """
    plan = read_json(plan_path)
    tasks, readings = list(plan["columns"]), list(plan["readings"])
    groups = []
    for entry in plan["groups"]:
        rows = [_row(plan, row, number) for number, row in enumerate(entry["rows"], start=1)]
        for row in rows:
            row.measured = measure(row.runs, tasks, readings, resamples, seed) if row.runs else None
        title = entry.get("used_model_title", entry["used_model"])
        groups.append(Group(entry["label"], entry["model"], entry["used_model"], title, rows))
    runs = [run for group in groups for row in group.rows for run in row.runs]
    columns = dict(plan["columns"])
    if plan["average"]:
        columns["avg"] = plan["average"]
    columns |= plan["readings"]
    if runs:
        columns["loss"] = "answer loss"
    for group in groups:
        _fill(group.rows, columns)
    _compare(groups, tasks, readings, resamples, seed)
    inputs = [Path(plan_path), *(path for run in runs for path in run.files)]
    return Table(
        plan, columns, groups, _test_sizes(runs, tasks, readings), list(dict.fromkeys(inputs))
    )


def _row(plan: Mapping[str, Any], entry: Mapping[str, Any], number: int) -> Row:
    """One row with its runs read; a row has either runs or a reason why it has none."""
    if bool(entry["runs"]) == bool(entry["reason"]):
        raise ValueError(
            f"{plan['name']}: row {entry['label']!r} must have either runs or a reason not to run, "
            f"it has {len(entry['runs'])} runs and reason {entry['reason']!r}"
        )
    runs = [read_run(run, plan, entry) for run in entry["runs"]]
    counts = {run.provenance["trainable_parameters"] for run in runs}
    if len(counts) > 1:
        raise ValueError(
            f"{plan['name']}: the seeds of row {entry['label']!r} trained different numbers of "
            f"parameters: {sorted(counts)} ({', '.join(run.name for run in runs)})"
        )
    return Row(entry, number, runs)


def _test_sizes(
    runs: Sequence[Run], tasks: Sequence[str], readings: Sequence[str]
) -> dict[str, int]:
    """Examples of each task before the cap; all runs must have been given the same test set."""
    for run in runs[1:]:
        for task in (*tasks, *readings):
            if run.available[task] != runs[0].available[task]:
                raise ValueError(
                    f"{run.scores}: task {task} had {run.available[task]} examples, in "
                    f"{runs[0].scores} it had {runs[0].available[task]}; a table needs one test set"
                )
    sizes = dict(runs[0].available) if runs else {}
    return sizes | dict.fromkeys(("avg", "loss"), sum(sizes.get(task, 0) for task in tasks))


def _fill(rows: list[Row], columns: Mapping[str, str]) -> None:
    """The rows' cells, with marks for the best numbers of each column."""
    for row in rows:
        estimates = row.measured.estimates if row.measured else {}
        row.cells = {
            key: Cell(row.plan["reported"].get(key), estimates.get(key), 3 if key == "loss" else 1)
            for key in columns
        }
    ranked = {row.number: row for row in rows if row.plan["method"] not in UNRANKED}
    for key in columns:
        cells = {number: row.cells[key] for number, row in ranked.items()}
        reported = {k: cell.reported for k, cell in cells.items() if cell.reported is not None}
        here = {k: cell.estimate.value for k, cell in cells.items() if cell.estimate is not None}
        for number, mark in marks(reported).items():
            cells[number].reported_mark = mark
        digits = 3 if key == "loss" else 1
        for number, mark in marks(here, digits, lower_is_better=key == "loss").items():
            cells[number].mark = mark


def _compare(
    groups: list[Group], tasks: Sequence[str], readings: Sequence[str], resamples: int, seed: int
) -> None:
    """Compare the rows of each group with its best DiaBlo row, each pair of runs once."""
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Comparison]] = {}
    for group in groups:
        measured = {row.run_names: row.measured for row in group.rows if row.measured}
        candidates = [row for row in group.rows if row.measured and row.plan["method"] == "diablo"]
        if not candidates:
            continue
        best = max(candidates, key=lambda row: measured[row.run_names].estimates["avg"].value)
        group.reference = best
        reference = measured.pop(best.run_names)
        new = [name for name in measured if (best.run_names, name) not in known]
        group.comparisons = len(new)
        rows = [measured[name] for name in new]
        found = compare(rows, reference, tasks, readings, resamples, seed)
        known |= {(best.run_names, name): one for name, one in zip(new, found, strict=True)}
        for row in group.rows:
            row.is_reference = row.run_names == best.run_names
            comparisons = known.get((best.run_names, row.run_names), {})
            for key, cell in row.cells.items():
                cell.comparison = comparisons.get(key)
