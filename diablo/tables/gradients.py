"""Variance of the gradient norm by epoch (the paper's Table 9), from the logs of the runs.

The value of a cell is the population variance of the global L2 norm of one group of parameters'
gradient (accumulated over the step, unscaled, before clipping), over the steps of an epoch whose
number is a multiple of the plan's `every`. What is not measured is left out and counted: steps that
the scaler of fp16 skipped have no gradient.

There is no interval over steps. A bootstrap, of blocks of steps or of single ones, assumes a series
whose distribution does not change, and the norms of an epoch have a trend that is itself much of the
variance (warm-up, LoRA's A starting without a gradient); an interval from it would say how a
stationary series would vary, not how another run would. That is what several seeds say. How
much depends on which steps were taken is shown exactly instead: `offsets` are the least and the
largest variance of all ways to take every `every`-th step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from diablo.io import read_jsonl
from diablo.tables.measures import read_plan
from diablo.tables.runs import Training, read_training
from diablo.tables.statistics import spread
from diablo.tables.table import Group, Row, Table

#: A variance needs two steps.
FEWEST = 2


@dataclass(frozen=True)
class Norms:
    """Gradient norms of one group of parameters, one entry a step, NaN where the step was skipped.

    Attributes:
        epochs: (steps,) the epoch that each step belongs to, from 1 on.
        norms: (steps,) global L2 norm of the group.
        means: (steps,) mean L2 norm of the group's matrices.
        trained: epochs trained in all, a fraction if the run ended inside of one.
    """

    epochs: np.ndarray
    norms: np.ndarray
    means: np.ndarray
    trained: float

    @property
    def steps(self) -> np.ndarray:
        """(steps,) the number of each step, from 1 on."""
        return np.arange(1, len(self.norms) + 1)


@dataclass(frozen=True)
class LoggedRun(Training):
    """A run with the gradient norms of the group of parameters that its row shows."""

    norms: Norms


@dataclass(frozen=True)
class Variance:
    """One run's epoch. Variances are None where there are fewer than two steps.

    Attributes:
        value: variance of the norm over the sampled steps.
        steps: how many steps were sampled, without those skipped.
        skipped: how many of the sampled steps have no gradient.
        norm: mean of the norm over the sampled steps.
        of_means: variance of the mean norm of the group's matrices, over the sampled steps.
        all_steps: how many steps the epoch has, without those skipped.
        of_all_steps: variance of the norm over all of them.
        offsets: least and largest variance over all ways to take every `every`-th step; None where
            there is one way only, or where one of them has fewer than two steps.
    """

    value: float | None
    steps: int
    skipped: int
    norm: float | None
    of_means: float | None
    all_steps: int
    of_all_steps: float | None
    offsets: tuple[float, float] | None


@dataclass
class VarianceCell:
    """One row's number in one column: the reported variance and one a seed.

    `note` says what a reader must know of the number, or why there is none.
    """

    reported: float | None
    seeds: list[Variance]
    note: str = ""

    def mean(self, what: str) -> float | None:
        """Mean over the seeds of an attribute of :class:`Variance`; None if a seed has none."""
        values = [getattr(one, what) for one in self.seeds]
        return float(np.mean(values)) if values and None not in values else None

    @property
    def value(self) -> float | None:
        """Mean over the seeds of the variance."""
        return self.mean("value")

    @property
    def seed_sd(self) -> float | None:
        """Sample standard deviation over seeds, None for one seed."""
        return None if self.value is None else spread([cast(float, v.value) for v in self.seeds])

    @property
    def difference(self) -> float | None:
        """Reproduced minus reported, where both exist."""
        return None if None in (self.reported, self.value) else self.value - self.reported  # type: ignore[operator]

    @property
    def steps(self) -> str:
        """Sampled steps behind each seed's variance: `106`, or `106 105` where they differ."""
        counts = [str(one.steps) for one in self.seeds]
        return counts[0] if len(set(counts)) == 1 else " ".join(counts)


@dataclass
class GradientRow(Row):
    """A row of the table: one group of parameters of one method."""

    # Logs stand in place of scores, so neither outcomes nor losses are known.
    runs: list[LoggedRun]  # type: ignore[assignment]
    cells: dict[str, VarianceCell] = field(default_factory=dict)  # type: ignore[assignment]


def gradient_rows(table: Table) -> list[tuple[Group, GradientRow]]:
    """All rows of a table of this kind with their groups, in the paper's order."""
    return [(group, cast(GradientRow, row)) for group, row in table.rows]


def load_gradients(plan_path: str | Path) -> Table:
    """Read a plan of kind `gradient-variance` and the logs it names.

    Raises:
        ValueError: if a log or its adapter's provenance is missing or does not fit the plan; the
            message names the file.
    """
    plan = read_plan(plan_path)
    epochs = {key: epoch_of(key, plan["name"]) for key in plan["columns"]}
    groups = []
    for entry in plan["groups"]:
        rows: list[Row] = []
        for number, row in enumerate(entry["rows"], start=1):
            runs = [read_logged_run(run, row) for run in row["runs"]]
            cells = {
                key: variance_cell(row["reported"].get(key), runs, epoch, plan["every"])
                for key, epoch in epochs.items()
            }
            rows.append(GradientRow(plan=row, number=number, runs=runs, cells=cells))
        title = entry["used_model_title"]
        groups.append(Group(entry["label"], entry["model"], entry["used_model"], title, rows))
    files = [
        path for group in groups for row in group.rows for run in row.runs for path in run.files
    ]
    return Table(
        plan, dict(plan["columns"]), groups, {}, list(dict.fromkeys([Path(plan_path), *files]))
    )


def epoch_of(column: str, experiment: str) -> int:
    """The epoch that a column is about: 1 for `epoch1`."""
    if not (found := re.fullmatch(r"epoch([1-9]\d*)", column)):
        raise ValueError(
            f"{experiment}: column {column!r} is no epoch; name columns epoch1, epoch2 and so on"
        )
    return int(found[1])


def read_logged_run(entry: Mapping[str, Any], row: Mapping[str, Any]) -> LoggedRun:
    """Read one entry of a row's `runs`: the log's norms of the row's group of parameters."""
    log = Path(entry["log"])
    training = read_training(entry, row, log)
    norms = read_norms(log, row["group"])
    return LoggedRun(**{**vars(training), "files": (*training.files, log)}, norms=norms)


def read_norms(path: Path, group: str) -> Norms:
    """The norms of one group of parameters from a run's log.

    Raises:
        ValueError: if the log is missing or empty, leaves out a step, or knows no such group.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such log; run `diablo finetune` for it")
    lines = read_jsonl(path)
    if not lines or [line.get("step") for line in lines] != list(range(1, len(lines) + 1)):
        raise ValueError(f"{path}: has not every step from 1 on; delete the run and train it again")
    for line in lines:
        if line["grad_norm"] is not None and group not in line.get("grad_norms", {}):
            known = ", ".join(line.get("grad_norms", {})) or "none"
            raise ValueError(
                f"{path}: step {line['step']} has no gradient norm of group {group!r} (it has: "
                f"{known}); logs from before norms were kept by group need a new training run"
            )

    def values(key: str) -> np.ndarray:
        return np.array(
            [math.nan if line["grad_norm"] is None else line[key][group] for line in lines]
        )

    # `epoch` is how many epochs are done after the step: 1.0 after the first one's last.
    done = np.array([line["epoch"] for line in lines])
    return Norms(
        np.ceil(done).astype(int), values("grad_norms"), values("mean_grad_norms"), done[-1]
    )


def variance_cell(
    reported: float | None, runs: list[LoggedRun], epoch: int, every: int
) -> VarianceCell:
    """The variances of one epoch of a row's runs, with what is to be said about them."""
    seeds = [epoch_variance(run.norms, epoch, every) for run in runs]
    cell = VarianceCell(reported, seeds)
    trained = min((run.norms.trained for run in runs), default=0.0)
    fewest = min((one.steps for one in seeds), default=0)
    skipped = sum(one.skipped for one in seeds)
    notes = []
    if runs and trained <= epoch - 1:
        notes.append(f"not trained: the run ended after {trained:g} epochs")
    elif runs and fewest < FEWEST:
        notes.append(f"too few steps: {fewest} of {seeds[0].all_steps} sampled, 2 needed")
    if runs and epoch - 1 < trained < epoch:
        notes.append(f"the run ended after {trained - epoch + 1:.0%} of this epoch")
    if skipped:
        notes.append(f"{skipped} skipped by the fp16 scaler left out")
    cell.note = "; ".join(notes)
    return cell


def epoch_variance(norms: Norms, epoch: int, every: int) -> Variance:
    """The variances of one epoch, over the steps whose number is a multiple of `every`."""
    inside = norms.epochs == epoch
    measured = inside & ~np.isnan(norms.norms)
    sampled = norms.steps % every == 0
    taken = measured & sampled
    by_offset = [
        _variance(norms.norms[measured & (norms.steps % every == offset)])
        for offset in range(every)
    ]
    complete = [value for value in by_offset if value is not None]
    return Variance(
        value=_variance(norms.norms[taken]),
        steps=int(taken.sum()),
        skipped=int((inside & sampled & ~measured).sum()),
        norm=float(norms.norms[taken].mean()) if taken.any() else None,
        of_means=_variance(norms.means[taken]),
        all_steps=int(measured.sum()),
        of_all_steps=_variance(norms.norms[measured]),
        offsets=(min(complete), max(complete)) if len(complete) == every > 1 else None,
    )


def _variance(values: np.ndarray) -> float | None:
    return float(np.var(values)) if len(values) >= FEWEST else None
