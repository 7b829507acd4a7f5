"""Joint bootstrap draws of a table's rows: all rows resample the same examples.

Any sum of cells of one table then has a paired interval, whichever row the table compares with. The table's
own comparisons (`diablo.tables.comparison`) are with its best DiaBlo row alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diablo.tables.estimates import matrix
from diablo.tables.measures import OF_SETS, columns_of, entry_measures, read_plan
from diablo.tables.runs import Run, read_run
from diablo.tables.statistics import RESAMPLES, generator

#: (group's label, row's number) -> column -> value and draws, shape (resamples,).
Joint = dict[tuple[str, int], dict[str, tuple[float, np.ndarray]]]


def joint_draws(plan_path: Path, resamples: int = RESAMPLES) -> Joint | None:
    """The draws of every row that was run, for columns that are means over examples, and `avg`.

    Returns:
        None where files of the runs are not here (recorded tables are kept without them).

    Raises:
        ValueError: if a file does not fit the plan, or rows were scored on different examples.
    """
    if not plan_path.is_file():
        return None
    plan = read_plan(plan_path)
    measures = entry_measures(plan)
    entries = [
        (group["label"], number, row)
        for group in plan["groups"]
        for number, row in enumerate(group["rows"], start=1)
        if row["runs"]
    ]
    if not all(_here(run) for *_, row in entries for run in row["runs"]):
        return None
    runs = {
        (label, number): [read_run(run, plan, row) for run in row["runs"]]
        for label, number, row in entries
    }
    joint: Joint = {key: {} for key in runs}
    for column, measure in measures.items():
        if measure.metric not in OF_SETS:
            _add_column(joint, runs, plan["name"], column, measure.factor, resamples)
    if plan["average"]:
        over = [one.key for one in columns_of(measures.values())]
        for columns in joint.values():
            if all(key in columns for key in over):
                values, draws = zip(*(columns[key] for key in over), strict=True)
                columns["avg"] = (float(np.mean(values)), np.mean(draws, axis=0))
    return joint


def _here(run: dict[str, Any]) -> bool:
    paths = [run["scores"], run["losses"], f"{run['adapter']}/provenance.json"]
    return bool(run["scores"]) and all(Path(path).is_file() for path in paths if path)


def _add_column(
    joint: Joint,
    runs: dict[tuple[str, int], list[Run]],
    table: str,
    column: str,
    factor: float,
    resamples: int,
) -> None:
    scored = {
        key: [run for run in its if column in run.entries and run.entries[column].n]
        for key, its in runs.items()
    }
    scored = {key: its for key, its in scored.items() if its}
    if not scored:
        return
    first = next(iter(scored.values()))[0]
    for run in (run for its in scored.values() for run in its):
        if run.entries[column].ids != first.entries[column].ids:
            raise ValueError(f"{run.scores}: {column} has other examples than {first.scores}")
    # An example counts with its mean over the seeds; a verdict that could not be read is left out.
    sums = [matrix(its, column) for its in scored.values()]
    outcomes = factor * np.array([_mean(one) for one in sums])
    draws = _resample(outcomes, generator(0, "claims", table, column), resamples)
    values = np.nanmean(outcomes, axis=1)
    for key, value, drawn in zip(scored, values, draws, strict=True):
        joint[key][column] = (float(value), drawn)


def _mean(by_seed: np.ndarray) -> np.ndarray:
    """(examples,) means over the seeds, NaN where no seed has a verdict."""
    known = ~np.isnan(by_seed)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(by_seed).sum(axis=0) / known.sum(axis=0)


def _resample(outcomes: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Means of (rows, examples) over examples that are drawn once for all rows: (rows, resamples)."""
    n = outcomes.shape[1]
    known, filled = ~np.isnan(outcomes), np.nan_to_num(outcomes)
    found = np.empty((len(outcomes), resamples))
    # In parts: all indices at once would be resamples x n of them.
    part = max(1, 2**21 // n)
    for start in range(0, resamples, part):
        size = min(part, resamples - start)
        index = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(index.ravel(), minlength=size * n).reshape(size, n)
        found[:, start : start + size] = (filled @ times.T) / (known @ times.T)
    return found
