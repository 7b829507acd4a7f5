"""From a plan and the files of its runs to the table as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.tables.comparison import Comparison, compare
from diablo.tables.estimates import Measured, measure
from diablo.tables.measures import Measure, columns_of, read_plan, table_measures
from diablo.tables.ranking import UNRANKED, marks
from diablo.tables.runs import Run, read_run
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Cell, Choice, Group, Row, Table


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
    return table_of(read_plan(plan_path), Path(plan_path), resamples, seed)


def table_of(plan: dict[str, Any], path: Path, resamples: int, seed: int) -> Table:
    """The table of a complete plan, which was read from `path`; see :func:`load_table`."""
    groups = []
    for entry in plan["groups"]:
        rows = [_row(plan, row, number) for number, row in enumerate(entry["rows"], start=1)]
        title = entry.get("used_model_title", entry["used_model"])
        groups.append(Group(entry["label"], entry["model"], entry["used_model"], title, rows))
    runs = [run for group in groups for row in group.rows for run in row.runs]
    measures = table_measures(plan, with_loss=any(run.losses for run in runs))
    for row in (row for group in groups for row in group.rows if row.runs):
        row.measured = measure(row.runs, measures, resamples, seed)
    labels = {**plan["columns"], **plan["readings"], "avg": plan["average"], "loss": "answer loss"}
    columns = {key: labels[key] for key in measures}
    for group in groups:
        _fill(group.rows, measures)
    _compare(groups, measures, resamples, seed)
    inputs = [path, *(file for run in runs for file in run.files)]
    sizes = _test_sizes(runs, measures)
    return Table(plan, columns, groups, sizes, list(dict.fromkeys(inputs)), measures)


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
            f"{plan['name']}: the runs of row {entry['label']!r} trained different numbers of "
            f"parameters: {sorted(counts)} ({', '.join(run.name for run in runs)})"
        )
    return Row(entry, number, runs, parts=tuple(part["name"] for part in plan["parts"]))


def _test_sizes(runs: Sequence[Run], measures: Mapping[str, Measure]) -> dict[str, int]:
    """Examples of each column before the cap; all runs must have been given the same test set."""
    first: dict[str, Run] = {}
    for run in runs:
        for key, entry in run.entries.items():
            known = first.setdefault(key, run)
            if entry.available != known.entries[key].available:
                raise ValueError(
                    f"{run.scores}: task {key} had {entry.available} examples, in {known.scores} it "
                    f"had {known.entries[key].available}; a table needs one test set"
                )
    sizes = {key: run.entries[key].available for key, run in first.items()}
    columns = [one.key for one in columns_of(measures.values())]
    if sizes and all(key in sizes for key in columns):
        sizes["avg"] = sum(sizes[key] for key in columns)
    tasks: dict[tuple[str, str], int] = {}
    for key, run in first.items():
        # Of several entries the first: a second turn has fewer questions.
        tasks.setdefault((run.part, measures[key].task), sizes[key])
    losses = {(run.part, task) for run in runs if run.losses for task in run.losses.examples}
    if losses and losses <= tasks.keys():
        sizes["loss"] = sum(tasks[each] for each in losses)
    return sizes


def _fill(rows: list[Row], measures: Mapping[str, Measure]) -> None:
    """The rows' cells, with marks for the best numbers of each column."""
    for row in rows:
        estimates = row.measured.estimates if row.measured else {}
        for key, one in measures.items():
            cell = Cell(row.plan["reported"].get(key), estimates.get(key), one.digits)
            cell.shows_stderr = one.k is not None
            if row.runs and cell.estimate is None:
                cell.missing = _missing(row, one)
            row.cells[key] = cell
    ranked = {row.number: row for row in rows if row.plan["method"] not in UNRANKED}
    for key, one in measures.items():
        cells = {number: row.cells[key] for number, row in ranked.items()}
        reported = {k: cell.reported for k, cell in cells.items() if cell.reported is not None}
        here = {k: cell.estimate.value for k, cell in cells.items() if cell.estimate is not None}
        for number, mark in marks(reported, one.digits, one.lower_is_better).items():
            cells[number].reported_mark = mark
        for number, mark in marks(here, one.digits, one.lower_is_better).items():
            cells[number].mark = mark


def _missing(row: Row, measure: Measure) -> str:
    """Why a row that was run has no number in a column."""
    if measure.missing:
        return measure.missing
    if measure.key in ("avg", "loss"):
        return "not run in full"
    if not row.of_part(measure.part):
        return "not run"
    return "no verdict could be read"


def _compare(
    groups: list[Group], measures: Mapping[str, Measure], resamples: int, seed: int
) -> None:
    """Compare the rows of each group with its best DiaBlo row, each pair of runs once."""
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Comparison]] = {}
    for group in groups:
        measured = {row.run_names: row.measured for row in group.rows if row.measured}
        candidates = [row for row in group.rows if row.measured and row.is_diablo]
        if not candidates:
            continue
        best, group.chosen_by = _reference(candidates, measures)
        group.reference = best
        reference = measured.pop(best.run_names)
        new = [name for name in measured if (best.run_names, name) not in known]
        group.comparisons = len(new)
        found = compare([measured[name] for name in new], reference, measures, resamples, seed)
        known |= {(best.run_names, name): one for name, one in zip(new, found, strict=True)}
        for row in group.rows:
            row.is_reference = row.run_names == best.run_names
            comparisons = known.get((best.run_names, row.run_names), {})
            for key, cell in row.cells.items():
                cell.comparison = comparisons.get(key)


def _reference(rows: Sequence[Row], measures: Mapping[str, Measure]) -> tuple[Row, Choice]:
    """The best of these rows, and what it was chosen by: what most of them have, the average first."""
    columns = columns_of(measures.values())
    parts = {one.part: [each for each in columns if each.part == one.part] for one in columns}

    def mean(found: Measured) -> float | None:
        """The mean over the columns of each part that can have numbers, then over the parts."""
        means = []
        for part in parts.values():
            there = [one for one in part if not one.missing]
            if any(one.key not in found.estimates for one in there):
                return None
            # Ratings of 1 to 10 beside percentages: in percent of the best rating.
            values = [
                one.better * found.estimates[one.key].value * (10 if one.unit == "points" else 1)
                for one in there
            ]
            means += [sum(values) / len(values)] if values else []
        return sum(means) / len(means) if means else None

    by_columns: Choice = "columns" if len(parts) == 1 else "parts"
    choices: dict[Choice, dict[int, float]] = {"average": {}, by_columns: {}, "loss": {}}
    for row in rows:
        assert row.measured is not None
        estimates = row.measured.estimates
        if "avg" in estimates:
            choices["average"][row.number] = measures["avg"].better * estimates["avg"].value
        if (value := mean(row.measured)) is not None:
            choices[by_columns][row.number] = value
        if "loss" in estimates:
            choices["loss"][row.number] = -estimates["loss"].value
    for choice, scores in choices.items():
        if scores:
            best = max(scores, key=lambda number: scores[number])
            return next(row for row in rows if row.number == best), choice
    return rows[0], by_columns
