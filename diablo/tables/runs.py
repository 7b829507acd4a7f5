"""Score files and the provenance behind them: read, checked, turned into estimates.

The answer losses of the same runs are read by `diablo.tables.losses`. A number only enters a table through here, and only together with the provenance of the run that
made it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diablo.io import read_json
from diablo.tables.checks import check_same, task_of
from diablo.tables.losses import Losses, loss_draws, read_losses
from diablo.tables.statistics import bootstrap_means, generator, percentile_interval, spread


@dataclass(frozen=True)
class Estimate:
    """A reproduced number with its 95 % interval over examples.

    Accuracies are in percent, losses in nats per token. `seed_sd` is the sample standard deviation
    over seeds (None for one seed) and `n` the number of distinct examples behind the value.
    """

    value: float
    low: float
    high: float
    seed_sd: float | None
    seeds: int
    n: int


@dataclass(frozen=True)
class Measured:
    """What the runs of one row give: estimates by task, `avg` and `loss`.

    `loss_draws` are the bootstrap's draws of the answer loss, shape (resamples,).
    """

    runs: tuple[Run, ...]
    estimates: Mapping[str, Estimate]
    loss_draws: np.ndarray


@dataclass(frozen=True)
class Training:
    """How one run was trained, as the provenance of its adapter says; `files` were read for it."""

    name: str
    seed: int
    learning_rate: float | None
    provenance: Mapping[str, Any]
    files: tuple[Path, ...]

    @property
    def device(self) -> str:
        """What the run was trained on, as its provenance says."""
        return self.provenance.get("device", "not recorded")


@dataclass(frozen=True)
class Run(Training):
    """One scored run: outcomes by task and example id, and what is known about how it was made.

    `available` has the number of examples of each task before the cap on the test set.
    """

    scores: Path
    outcomes: Mapping[str, Mapping[str, int]]
    available: Mapping[str, int]
    losses: Losses


def read_run(entry: Mapping[str, Any], plan: Mapping[str, Any], row: Mapping[str, Any]) -> Run:
    """Read one entry of the `runs` of a plan's row.

    Raises:
        ValueError: if a file is missing, belongs to another run, protocol or method, lacks a task,
            says a value that its own outcomes do not give, or was trained with another learning
            rate than the plan says. The message names the file.
    """
    scores = Path(entry["scores"])
    if not scores.is_file():
        raise ValueError(f"{scores}: no such score file; run `diablo score` for {entry['run']}")
    training = read_training(entry, row, scores)
    content = read_json(scores)
    if not content.get("provenance"):
        raise ValueError(f"{scores}: has no provenance; run `diablo score` again")
    wanted = {"run": entry["run"], "suite": plan["suite"], "variant": plan["variant"]}
    check_same(scores, content, wanted)
    outcomes = {task: _outcomes(scores, content, task) for task in plan["columns"]}
    losses = read_losses(Path(entry["losses"]), wanted, outcomes)
    names = [*plan["columns"], *plan["readings"]]
    outcomes |= {name: _outcomes(scores, content, name) for name in plan["readings"]}
    return Run(
        **{**vars(training), "files": (scores, *training.files, losses.path)},
        scores=scores,
        outcomes=outcomes,
        available={name: _available(scores, content, name) for name in names},
        losses=losses,
    )


def read_training(entry: Mapping[str, Any], row: Mapping[str, Any], result: Path) -> Training:
    """Read the provenance of a run's adapter, without which the numbers in `result` do not count.

    Raises:
        ValueError: if it is missing, incomplete, of another method or of another learning rate than
            the plan says. The message names the file.
    """
    path = Path(entry["adapter"]) / "provenance.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: missing, so the numbers in {result} have no provenance and cannot "
            "enter a table; delete them and run the workflow again"
        )
    provenance = read_json(path)
    check_same(path, provenance, {"method": row["method"]})
    for key in ("trainable_parameters", "base_parameters"):
        if not isinstance(provenance.get(key), int):
            raise ValueError(f"{path}: {key} = {provenance.get(key)!r} is not a count")
    learning_rate = _learning_rate(path, provenance, row)
    return Training(entry["run"], entry["seed"], learning_rate, provenance, (path,))


def _learning_rate(
    path: Path, provenance: Mapping[str, Any], row: Mapping[str, Any]
) -> float | None:
    """The learning rate that was used; only a tuned one may differ from the plan's."""
    planned, source = row["setting_used"]["lr"], row["lr_from"]
    # Adapters of before learning rates were recorded were trained with the plan's.
    used = provenance.get("learning_rate", planned)
    if source == "tuned" and not provenance.get("tuning"):
        raise ValueError(
            f"{path}: has no `tuning`, but the plan says that the learning rate of "
            f"{row['label']!r} was tuned; delete the run's folder and run the workflow again"
        )
    if source not in ("tuned", None) and not math.isclose(used, planned):
        raise ValueError(f"{path}: learning_rate is {used!r}, the plan says {planned!r}")
    return None if source is None else used


def _outcomes(path: Path, content: Mapping[str, Any], task: str) -> dict[str, int]:
    """Outcome of every example of one task, checked against the file's own n and value."""
    entry = task_of(path, content, task)
    outcomes = {str(one["id"]): one["correct"] for one in entry["outcomes"]}
    if not outcomes or len(outcomes) != len(entry["outcomes"]) or len(outcomes) != entry["n"]:
        raise ValueError(
            f"{path}: task {task} has n = {entry['n']}, {len(entry['outcomes'])} outcomes and "
            f"{len(outcomes)} distinct ids; all three must be equal and positive"
        )
    for name, correct in outcomes.items():
        if correct not in (0, 1):
            raise ValueError(f"{path}: {task} {name!r}: correct = {correct!r} is neither 0 nor 1")
    mean = sum(outcomes.values()) / len(outcomes)
    if abs(mean - entry["value"]) > 1e-6:
        raise ValueError(
            f"{path}: task {task} says value {entry['value']}, its outcomes give {mean:.6f} "
            "(a share between 0 and 1)"
        )
    return outcomes


def _available(path: Path, content: Mapping[str, Any], task: str) -> int:
    """How many examples of a task there were to be scored."""
    entry = content["tasks"][task]
    available = entry.get("available")
    if not isinstance(available, int) or available < entry["n"]:
        raise ValueError(
            f"{path}: task {task} has available = {available!r} for n = {entry['n']}; it must say "
            "how many examples there were before the cap: run `diablo score` again"
        )
    return available


def measure(
    runs: Sequence[Run], tasks: Sequence[str], readings: Sequence[str], resamples: int, seed: int
) -> Measured:
    """Estimates of one row: each task's accuracy, `avg`, their unweighted mean, and `loss`.

    `readings` are second readings of the tasks' completions; they enter neither of the two.

    With several seeds an example's outcome is its mean over the seeds, so that the interval is
    about examples only. The average resamples the examples of each task separately.

    Raises:
        ValueError: if two seeds were scored on different examples.
    """
    name = "+".join(run.name for run in runs)
    found: dict[str, Estimate] = {}
    all_draws, by_seed, total = [], [], 0
    for task in (*tasks, *readings):
        outcomes = 100.0 * matrix(runs, task)
        draws = bootstrap_means(outcomes.mean(axis=0), generator(seed, name, task), resamples)
        found[task] = _estimate(outcomes.mean(axis=1), draws, outcomes.shape[1])
        if task in tasks:
            all_draws.append(draws)
            by_seed.append(outcomes.mean(axis=1))
            total += outcomes.shape[1]
    found["avg"] = _estimate(np.mean(by_seed, axis=0), np.mean(all_draws, axis=0), total)
    losses, draws = loss_draws([run.losses for run in runs], tasks, resamples, seed)
    found["loss"] = _estimate(losses, draws, total)
    return Measured(tuple(runs), found, draws)


def _estimate(by_seed: np.ndarray, draws: np.ndarray, n: int) -> Estimate:
    low, high = percentile_interval(draws)
    return Estimate(float(by_seed.mean()), low, high, spread(by_seed.tolist()), len(by_seed), n)


def matrix(runs: Sequence[Run], task: str) -> np.ndarray:
    """Outcomes as (seeds, examples), the examples in the same order for every seed."""
    ids = sorted(runs[0].outcomes[task])
    for run in runs[1:]:
        if sorted(run.outcomes[task]) != ids:
            raise ValueError(
                f"{run.scores}: task {task} was scored on other examples than in {runs[0].scores}"
            )
    return np.array([[run.outcomes[task][one] for one in ids] for run in runs])
