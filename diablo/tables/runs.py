"""Score files and the provenance behind them: read, checked, turned into estimates.

A number only enters a table through here, and only together with the provenance of the run that
made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diablo.io import read_json
from diablo.tables.statistics import bootstrap_means, generator, percentile_interval, spread


@dataclass(frozen=True)
class Estimate:
    """A reproduced number in percent, with its 95 % interval over examples.

    `seed_sd` is the standard deviation over seeds (None for one seed) and `n` the number of
    distinct examples behind the value.
    """

    value: float
    low: float
    high: float
    seed_sd: float | None
    seeds: int
    n: int


@dataclass(frozen=True)
class Run:
    """One scored run: outcomes by task and example id, and what is known about how it was made."""

    name: str
    seed: int
    scores: Path
    outcomes: Mapping[str, Mapping[str, float]]
    provenance: Mapping[str, Any]


def read_run(entry: Mapping[str, Any], plan: Mapping[str, Any], method: str) -> Run:
    """Read one entry of a row's `runs`.

    Raises:
        ValueError: if a file is missing, belongs to another run, protocol or method, lacks a task,
            or says a value that its own outcomes do not give. The message names the file.
    """
    scores, adapter = Path(entry["scores"]), Path(entry["adapter"])
    provenance_path = adapter / "provenance.json"
    if not scores.is_file():
        raise ValueError(f"{scores}: no such score file; run `diablo score` for {entry['run']}")
    if not provenance_path.is_file():
        raise ValueError(
            f"{provenance_path}: missing, so the scores in {scores} have no provenance and cannot "
            "enter a table; delete them and run the workflow again"
        )
    content, provenance = read_json(scores), read_json(provenance_path)
    if not content.get("provenance"):
        raise ValueError(f"{scores}: has no provenance; run `diablo score` again")
    wanted = {"run": entry["run"], "suite": plan["suite"], "variant": plan["variant"]}
    _check_same(scores, content, wanted)
    _check_same(provenance_path, provenance, {"method": method})
    for key in ("trainable_parameters", "base_parameters"):
        if not isinstance(provenance.get(key), int):
            raise ValueError(f"{provenance_path}: {key} = {provenance.get(key)!r} is not a count")
    outcomes = {task: _outcomes(scores, content, task) for task in plan["columns"]}
    return Run(entry["run"], entry["seed"], scores, outcomes, provenance)


def _check_same(path: Path, content: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        if content.get(key) != value:
            raise ValueError(f"{path}: {key} is {content.get(key)!r}, the plan says {value!r}")


def _outcomes(path: Path, content: Mapping[str, Any], task: str) -> dict[str, float]:
    """Outcome of every example of one task, checked against the file's own n and value."""
    if task not in content["tasks"]:
        raise ValueError(f"{path}: task {task} is missing; it has {', '.join(content['tasks'])}")
    entry = content["tasks"][task]
    outcomes = {str(one["id"]): float(one["correct"]) for one in entry["outcomes"]}
    if not outcomes or len(outcomes) != len(entry["outcomes"]) or len(outcomes) != entry["n"]:
        raise ValueError(
            f"{path}: task {task} has n = {entry['n']}, {len(entry['outcomes'])} outcomes and "
            f"{len(outcomes)} distinct ids; all three must be equal and positive"
        )
    mean = sum(outcomes.values()) / len(outcomes)
    if abs(mean - entry["value"]) > 1e-6:
        raise ValueError(
            f"{path}: task {task} says value {entry['value']}, its outcomes give {mean:.6f} "
            "(a share between 0 and 1)"
        )
    return outcomes


def estimate(
    runs: Sequence[Run], tasks: Sequence[str], resamples: int, seed: int
) -> dict[str, Estimate]:
    """Estimates of one row: one per task, and `avg`, their unweighted mean.

    With several seeds an example's outcome is its mean over the seeds, so that the interval is
    about examples only. The average resamples the examples of each task separately.

    Raises:
        ValueError: if two seeds were scored on different examples.
    """
    name = "+".join(run.name for run in runs)
    found: dict[str, Estimate] = {}
    all_draws, by_seed, total = [], [], 0
    for task in tasks:
        outcomes = 100.0 * _matrix(runs, task)
        draws = bootstrap_means(outcomes.mean(axis=0), generator(seed, name, task), resamples)
        found[task] = _estimate(outcomes.mean(axis=1), draws, outcomes.shape[1])
        all_draws.append(draws)
        by_seed.append(outcomes.mean(axis=1))
        total += outcomes.shape[1]
    found["avg"] = _estimate(np.mean(by_seed, axis=0), np.mean(all_draws, axis=0), total)
    return found


def _estimate(by_seed: np.ndarray, draws: np.ndarray, n: int) -> Estimate:
    low, high = percentile_interval(draws)
    return Estimate(float(by_seed.mean()), low, high, spread(by_seed.tolist()), len(by_seed), n)


def _matrix(runs: Sequence[Run], task: str) -> np.ndarray:
    """Outcomes as (seeds, examples), the examples in the same order for every seed."""
    ids = sorted(runs[0].outcomes[task])
    for run in runs[1:]:
        if sorted(run.outcomes[task]) != ids:
            raise ValueError(
                f"{run.scores}: task {task} was scored on other examples than in {runs[0].scores}"
            )
    return np.array([[run.outcomes[task][one] for one in ids] for run in runs])
