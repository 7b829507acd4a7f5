"""Is a row better than the best DiaBlo row? Paired tests on the same examples, with Holm's correction.

- Outcomes that are right or wrong: the exact sign test on each example's share of seeds that answered
  right. With one seed each this is the exact McNemar test.
- Everything else: the paired bootstrap; both rows draw the same examples, within each task. Of pass@k
  and ratings an example counts with its mean over the seeds; F1 and Matthews' correlation are computed
  of each resample and seed; average and answer loss are means of the columns' and tasks' draws.

Where the verdict on an example could not be read, the comparison leaves it out for both rows.

A family of comparisons is one column of one group; each family is corrected on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from diablo.tables.estimates import Measured, common_pairs, loss_tasks, matrix
from diablo.tables.losses import check_tokens
from diablo.tables.measures import BINARY, OF_SETS, Measure, columns_of
from diablo.tables.runs import Run
from diablo.tables.statistics import (
    bootstrap_means,
    bootstrap_p,
    detectable_mean,
    detectable_sign,
    generator,
    holm,
    percentile_interval,
    sign_test,
)

#: A difference counts where its corrected p-value is at most this.
LEVEL = 0.05

Verdict = Literal["better", "worse", "no"]


@dataclass(frozen=True)
class Comparison:
    """A row's number minus the reference's, in the column's unit (points or nats per token).

    `low` and `high` bound its 95 % paired bootstrap interval, also where the p-value is the sign test's. `p_holm` is corrected for
    the `family` comparisons that were made in the same column. `direction` is 1 where the test
    speaks for the row, -1 where it speaks for the reference, 0 where it speaks for neither.

    `detectable` is the smallest true difference that the test finds with a power of 80 % at 5 %, and
    `detectable_holm` at 5 % over the size of the family, Holm's first step; None where these examples
    can show none, or say nothing of their spread.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    family: int
    direction: int
    detectable: float | None = None
    detectable_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the row is significantly better or worse than the reference, or not ("no")."""
        if self.p_holm > LEVEL or self.direction == 0:
            return "no"
        return "better" if self.direction > 0 else "worse"


@dataclass(frozen=True)
class _Test:
    difference: float
    p: float
    direction: int
    low: float | None = None
    high: float | None = None
    #: From a level to the smallest difference that the test finds.
    finds: Callable[[float], float | None] = lambda level: None


def compare(
    rows: Sequence[Measured],
    reference: Measured,
    measures: Mapping[str, Measure],
    resamples: int,
    seed: int,
) -> list[dict[str, Comparison]]:
    """Compare distinct rows with the reference; each column's comparisons are one family.

    Returns:
        For each row its comparisons by column, where both rows have a number.

    Raises:
        ValueError: if a row was scored on other examples than the reference; names the file.
    """
    found = [_tests(row, reference, measures, resamples, seed) for row in rows]
    compared: list[dict[str, Comparison]] = [{} for _ in rows]
    for column in measures:
        family = [
            (row, tests[column])
            for row, tests in zip(compared, found, strict=True)
            if column in tests
        ]
        corrected = holm([test.p for _, test in family])
        for (row, test), p in zip(family, corrected, strict=True):
            row[column] = Comparison(
                test.difference,
                test.low,
                test.high,
                test.p,
                p,
                len(family),
                test.direction,
                test.finds(LEVEL),
                test.finds(LEVEL / len(family)),
            )
    return compared


def _tests(
    row: Measured,
    reference: Measured,
    measures: Mapping[str, Measure],
    resamples: int,
    seed: int,
) -> dict[str, _Test]:
    found: dict[str, _Test] = {}
    draws: dict[str, np.ndarray] = {}
    for key, one in measures.items():
        if key in ("avg", "loss") or not {key} <= row.estimates.keys() & reference.estimates.keys():
            continue
        ours, theirs = row.of_part(one.part), reference.of_part(one.part)
        _check_examples(ours[0], theirs[0], one)
        streams = ["+".join(run.name for run in runs) for runs in (theirs, ours)]
        rng = generator(seed, "paired", *streams, key)
        if one.metric in OF_SETS:
            statistic = ours[0].entries[key].statistic
            assert statistic is not None
            pairs = common_pairs([*ours, *theirs], key)
            each = one.factor * statistic.draws(pairs, rng, resamples)
            draws[key] = each[:, : len(ours)].mean(axis=1) - each[:, len(ours) :].mean(axis=1)
            values = one.factor * np.array([statistic.of(list(run.values())) for run in pairs])
            difference = float(values[: len(ours)].mean() - values[len(ours) :].mean())
            found[key] = _bootstrap(difference, draws[key], one.better)
            continue
        differences = _differences(ours, theirs, key)
        if not differences.size:
            continue
        points = one.factor / (len(ours) * len(theirs))
        draws[key] = points * bootstrap_means(differences, rng, resamples)
        mean = float(differences.mean())
        if one.metric not in BINARY:
            found[key] = _bootstrap(points * mean, draws[key], one.better)
            continue
        # Over several seeds more examples may speak for one row and the mean for the other.
        agree = np.sign(mean) == np.sign(np.sign(differences).sum())
        direction = one.better * int(np.sign(mean)) if agree else 0
        finds = _signs_find(differences, one.factor, points)
        low, high = percentile_interval(draws[key])
        p = sign_test(differences)
        found[key] = _Test(points * mean, p, direction, low, high, finds)
    columns = [one.key for one in columns_of(measures.values())]
    if "avg" in measures and all(key in draws for key in columns):
        mean = float(np.mean([found[key].difference for key in columns]))
        averaged = np.mean([draws[key] for key in columns], axis=0)
        found["avg"] = _bootstrap(mean, averaged, measures["avg"].better)
    if row.loss_draws is not None and reference.loss_draws is not None:
        _check_losses(row, reference, measures)
        loss = row.estimates["loss"].value - reference.estimates["loss"].value
        found["loss"] = _bootstrap(loss, row.loss_draws - reference.loss_draws, -1)
    return found


def _differences(ours: Sequence[Run], theirs: Sequence[Run], key: str) -> np.ndarray:
    """By example the difference of the sums over seeds, each times the other's number of seeds.

    Whole numbers where the outcomes are, so that equal shares of seeds cancel exactly.
    """
    one, other = matrix(ours, key), matrix(theirs, key)
    differences = one.sum(axis=0) * len(other) - other.sum(axis=0) * len(one)
    return differences[~np.isnan(differences)]


def _signs_find(
    differences: np.ndarray, factor: float, points: float
) -> Callable[[float], float | None]:
    """What the sign test finds, in the column's unit, at a level.

    An example that differs counts as much as such examples did on average: with one seed each, wholly.
    """
    unlike = np.abs(differences[differences != 0])
    each = points * float(unlike.mean()) if unlike.size else factor

    def finds(level: float) -> float | None:
        share = detectable_sign(len(differences), unlike.size / len(differences), level)
        return None if share is None else each * share

    return finds


def _bootstrap(difference: float, draws: np.ndarray, higher_is: int) -> _Test:
    # Rounded, so that draws that are zero but for binary fractions count as zero.
    low, high = percentile_interval(draws)
    difference, draws = round(difference, 9), np.round(draws, 9)
    stderr, direction = float(draws.std()), higher_is * int(np.sign(difference))
    # What is left of rounding is no spread.
    finds = partial(detectable_mean, stderr) if stderr > 1e-8 else _Test.finds
    return _Test(difference, bootstrap_p(draws), direction, low, high, finds)


def _check_examples(run: Run, reference: Run, measure: Measure) -> None:
    ours, theirs = run.entries[measure.key].ids, reference.entries[measure.key].ids
    if ours != theirs:
        raise ValueError(
            f"{run.scores}: task {measure.key} was scored on other examples than in {reference.scores} "
            f"({min(ours ^ theirs)!r} is in one of the two only), so the two rows cannot be compared; "
            "score both with the same data and cap"
        )


def _check_losses(row: Measured, reference: Measured, measures: Mapping[str, Measure]) -> None:
    ours, theirs = (
        dict(loss_tasks(each.runs, measures.values()) or ()) for each in (row, reference)
    )
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"{row.runs[0].name} and {reference.runs[0].name}: the answer losses are of the tasks "
            f"{', '.join(ours)} and {', '.join(theirs)}; run `diablo measure` again for both"
        )
    for task, losses in ours.items():
        check_tokens(losses[0], theirs[task][0], task)
