"""What the runs of one row say together: estimates with their intervals.

With several seeds an example's outcome is its mean over the seeds, so that an interval is about examples
only. Statistics of whole sets (F1, Matthews) are averaged over the seeds, which are all given the same
resampled examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diablo.tables.losses import loss_draws
from diablo.tables.measures import OF_SETS, Measure, columns_of
from diablo.tables.runs import Run
from diablo.tables.sets import Pair
from diablo.tables.statistics import bootstrap_means, generator, percentile_interval, spread


@dataclass(frozen=True)
class Estimate:
    """A reproduced number with its 95 % interval over examples, in the unit of its column.

    `stderr` is its standard error over examples: the standard deviation of the examples over the root of
    their number where the number is their mean, else that of the bootstrap's draws; None for one
    example. `seed_sd` is the sample standard deviation over seeds (None for one seed) and `n` the number
    of distinct examples behind the value.
    """

    value: float
    low: float
    high: float
    stderr: float | None
    seed_sd: float | None
    seeds: int
    n: int


@dataclass(frozen=True)
class Measured:
    """What the runs of one row give: estimates by column, `avg` and `loss` among them.

    `loss_draws` are the bootstrap's draws of the answer loss, shape (resamples,); None without losses.
    """

    runs: tuple[Run, ...]
    estimates: Mapping[str, Estimate]
    loss_draws: np.ndarray | None

    def of_part(self, part: str) -> list[Run]:
        """The runs of one part, a seed each."""
        return [run for run in self.runs if run.part == part]


def measure(
    runs: Sequence[Run], measures: Mapping[str, Measure], resamples: int, seed: int
) -> Measured:
    """Estimates of one row: each column, `avg`, the unweighted mean of the columns, and `loss`.

    Readings do not enter the average. A column is left out where a run has nothing to estimate it from,
    the average where one of its columns is left out, the loss where a task has none. The average
    resamples the examples of each column separately.

    Raises:
        ValueError: if two seeds were scored on different examples, or the parts have different seeds.
    """
    found: dict[str, Estimate] = {}
    draws: dict[str, np.ndarray] = {}
    by_seed: dict[str, np.ndarray] = {}
    for one in measures.values():
        scored = [run for run in runs if one.key in run.entries]
        check_examples(scored, one.key)
        if not scored or not all(run.entries[one.key].n for run in scored):
            continue
        name = "+".join(run.name for run in scored)
        rng = generator(seed, name, one.key)
        if one.metric in OF_SETS:
            statistic = scored[0].entries[one.key].statistic
            assert statistic is not None
            pairs = common_pairs(scored, one.key)
            by_seed[one.key] = one.factor * np.array(
                [statistic.of(list(p.values())) for p in pairs]
            )
            draws[one.key] = one.factor * statistic.draws(pairs, rng, resamples).mean(axis=1)
            found[one.key] = _estimate(by_seed[one.key], draws[one.key], len(pairs[0]))
        else:
            outcomes = one.factor * matrix(scored, one.key)
            outcomes = outcomes[:, ~np.isnan(outcomes).all(axis=0)]
            examples = np.nanmean(outcomes, axis=0)
            by_seed[one.key] = np.nanmean(outcomes, axis=1)
            draws[one.key] = bootstrap_means(examples, rng, resamples)
            n = len(examples)
            stderr = float(examples.std(ddof=1)) / n**0.5 if n > 1 else None
            found[one.key] = _estimate(by_seed[one.key], draws[one.key], n, stderr)
    columns = [one.key for one in columns_of(measures.values())]
    if "avg" in measures and all(key in found for key in columns):
        _check_seeds(runs)
        mean = np.mean([by_seed[key] for key in columns], axis=0)
        total = sum(found[key].n for key in columns)
        found["avg"] = _estimate(mean, np.mean([draws[key] for key in columns], axis=0), total)
    tasks = loss_tasks(runs, measures.values())
    if tasks is None:
        return Measured(tuple(runs), found, None)
    _check_seeds(runs)
    losses, loss = loss_draws(tasks, resamples, seed)
    found["loss"] = _estimate(losses, loss, sum(len(s[0].examples[t]) for t, s in tasks))
    return Measured(tuple(runs), found, loss)


def loss_tasks(runs: Sequence[Run], measures: Iterable[Measure]) -> list[tuple[str, list]] | None:
    """The tasks that a row's answer loss is the mean of, each with its losses by seed.

    None unless every part has runs with losses: a mean of other tasks would be another number.
    """
    found: list[tuple[str, list]] = []
    for part in dict.fromkeys(one.part for one in measures if one.key not in ("avg", "loss")):
        of_part = [run.losses for run in runs if run.part == part]
        if not of_part or None in of_part:
            return None
        losses = [one for one in of_part if one is not None]
        found += [(task, losses) for task in losses[0].examples]
    return found or None


def _estimate(
    by_seed: np.ndarray, draws: np.ndarray, n: int, stderr: float | None = None
) -> Estimate:
    low, high = percentile_interval(draws)
    if stderr is None and n > 1:
        stderr = float(draws.std(ddof=1))
    value, deviation = float(by_seed.mean()), spread(by_seed.tolist())
    return Estimate(value, low, high, stderr, deviation, len(by_seed), n)


def matrix(runs: Sequence[Run], key: str) -> np.ndarray:
    """Outcomes as (seeds, examples), the examples in the same order for every seed.

    NaN where the verdict on an example could not be read.
    """
    ids = sorted(runs[0].entries[key].ids)
    values = [run.entries[key].values for run in runs]
    return np.array([[one.get(name, np.nan) for name in ids] for one in values], dtype=np.float64)


def common_pairs(runs: Sequence[Run], key: str) -> list[dict[str, Pair]]:
    """(gold, read) of each run by id, the ids in one order.

    Raises:
        ValueError: if an example has another gold label in another run; names the file.
    """
    pairs = [run.entries[key].pairs for run in runs]
    ids = sorted(set(pairs[0]).intersection(*pairs[1:]))
    for run, its in zip(runs[1:], pairs[1:], strict=True):
        for name in ids:
            if its[name][0] != pairs[0][name][0]:
                raise ValueError(
                    f"{run.scores}: {key} {name!r} has the answer {its[name][0]!r}, in "
                    f"{runs[0].scores} it has {pairs[0][name][0]!r}"
                )
    return [{name: its[name] for name in ids} for its in pairs]


def check_examples(runs: Sequence[Run], key: str) -> None:
    """ValueError unless all runs were scored on the same examples."""
    for run in runs[1:]:
        if run.entries[key].ids != runs[0].entries[key].ids:
            raise ValueError(
                f"{run.scores}: task {key} was scored on other examples than in {runs[0].scores}"
            )


def _check_seeds(runs: Sequence[Run]) -> None:
    """ValueError unless every part has the same seeds: what is averaged by seed needs them."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.part, []).append(run.seed)
    if len({tuple(one) for one in seeds.values()}) > 1:
        raise ValueError(
            f"the parts of a row have different seeds: {seeds} ({', '.join(r.name for r in runs)})"
        )
