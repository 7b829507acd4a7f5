"""Is a row better than the best DiaBlo row? Paired tests on the same examples, with Holm's correction.

- One task: the exact sign test on each example's share of seeds that answered right. With one seed
  each this is the exact McNemar test.
- Average and answer loss: the paired bootstrap; both rows draw the same examples, within each task,
  and an example counts with its mean over the seeds.

A family of comparisons is one column of one group; each family is corrected on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diablo.tables.losses import check_tokens
from diablo.tables.runs import Measured, Run, matrix
from diablo.tables.statistics import (
    bootstrap_means,
    bootstrap_p,
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

    `low` and `high` bound its 95 % bootstrap interval; a task has none. `p_holm` is corrected for
    the `family` comparisons that were made in the same column. `direction` is 1 where the test
    speaks for the row, -1 where it speaks for the reference, 0 where it speaks for neither.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    family: int
    direction: int

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


def compare(
    rows: Sequence[Measured],
    reference: Measured,
    tasks: Sequence[str],
    readings: Sequence[str],
    resamples: int,
    seed: int,
) -> list[dict[str, Comparison]]:
    """Compare distinct rows with the reference; each column's comparisons are one family.

    Returns:
        For each row its comparisons by column: the tasks, their second readings, `avg` and `loss`.

    Raises:
        ValueError: if a row was scored on other examples than the reference; names the file.
    """
    found = [_tests(row, reference, tasks, readings, resamples, seed) for row in rows]
    compared: list[dict[str, Comparison]] = [{} for _ in rows]
    for column in (*tasks, *readings, "avg", "loss"):
        tests = [each[column] for each in found]
        corrected = holm([test.p for test in tests])
        for row, test, p in zip(compared, tests, corrected, strict=True):
            row[column] = Comparison(
                test.difference, test.low, test.high, test.p, p, len(rows), test.direction
            )
    return compared


def _tests(
    row: Measured,
    reference: Measured,
    tasks: Sequence[str],
    readings: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, _Test]:
    streams = ["+".join(run.name for run in each.runs) for each in (reference, row)]
    found: dict[str, _Test] = {}
    all_draws = []
    for task in (*tasks, *readings):
        _check_examples(row.runs[0], reference.runs[0], task)
        ours, theirs = matrix(row.runs, task), matrix(reference.runs, task)
        # Whole numbers, so that equal shares of seeds cancel exactly.
        differences = ours.sum(axis=0) * len(theirs) - theirs.sum(axis=0) * len(ours)
        points = 100.0 / (len(ours) * len(theirs))
        mean = float(differences.mean())
        # Over several seeds more examples may speak for one row and the mean for the other.
        agree = np.sign(mean) == np.sign(np.sign(differences).sum())
        direction = int(np.sign(mean)) if agree else 0
        found[task] = _Test(points * mean, sign_test(differences), direction)
        rng = generator(seed, "paired", *streams, task)
        if task in tasks:
            all_draws.append(points * bootstrap_means(differences, rng, resamples))
    mean = float(np.mean([found[task].difference for task in tasks]))
    found["avg"] = _bootstrap(mean, np.mean(all_draws, axis=0), 1)
    loss = row.estimates["loss"].value - reference.estimates["loss"].value
    found["loss"] = _bootstrap(loss, row.loss_draws - reference.loss_draws, -1)
    return found


def _bootstrap(difference: float, draws: np.ndarray, higher_is: int) -> _Test:
    # Rounded, so that draws that are zero but for binary fractions count as zero.
    low, high = percentile_interval(draws)
    difference, draws = round(difference, 9), np.round(draws, 9)
    return _Test(difference, bootstrap_p(draws), higher_is * int(np.sign(difference)), low, high)


def _check_examples(run: Run, reference: Run, task: str) -> None:
    other = sorted(set(run.outcomes[task]) ^ set(reference.outcomes[task]))
    if other:
        raise ValueError(
            f"{run.scores}: task {task} was scored on other examples than in {reference.scores} "
            f"({other[0]!r} is in one of the two only), so the two rows cannot be compared; score "
            "both with the same data and cap"
        )
    if task in run.losses.examples:
        check_tokens(run.losses, reference.losses, task)
