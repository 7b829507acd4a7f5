"""F1 and Matthews' correlation: statistics of a whole set of (gold, read) labels, with standard errors.

What could not be read is a label of its own, which is never right. Where a statistic is not defined (a
denominator of zero) it is 0, as in scikit-learn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

#: Gold label and what was read from the completion.
Pair = tuple[str, str | None]
#: A statistic of pairs, each with how often it occurs.
Statistic = Callable[[Counter[Pair]], float]


def f1(positive: str) -> Statistic:
    """F1 of the label `positive`: 2 TP / (2 TP + FP + FN)."""

    def statistic(pairs: Counter[Pair]) -> float:
        gold = sum(n for (label, _), n in pairs.items() if label == positive)
        read = sum(n for (_, label), n in pairs.items() if label == positive)
        return 2 * pairs[positive, positive] / (gold + read) if gold + read else 0.0

    return statistic


def matthews(pairs: Counter[Pair]) -> float:
    """Matthews' correlation, for any number of labels (Gorodkin 2004)."""
    gold: Counter[str | None] = Counter()
    read: Counter[str | None] = Counter()
    for (label, said), n in pairs.items():
        gold[label] += n
        read[said] += n
    total = pairs.total()
    right = sum(n for (label, said), n in pairs.items() if label == said)
    above = right * total - sum(gold[label] * read[label] for label in gold)
    below = [total**2 - sum(n**2 for n in counts.values()) for counts in (gold, read)]
    return above / math.sqrt(below[0] * below[1]) if all(below) else 0.0


def with_error(statistic: Statistic, pairs: Sequence[Pair]) -> tuple[float, float | None]:
    """The statistic and its jackknife standard error, which is None for fewer than two pairs.

    The statistic without an example depends on its pair alone, so there are as many of them as there are
    kinds of pairs.

    Raises:
        ValueError: if there are no pairs.
    """
    if not pairs:
        raise ValueError("no outcomes: a statistic of a set needs at least one")
    counts, n = Counter(pairs), len(pairs)
    value = statistic(counts)
    if n < 2:
        return value, None
    without = {pair: statistic(counts - Counter([pair])) for pair in counts}
    mean = sum(times * without[pair] for pair, times in counts.items()) / n
    squares = sum(times * (without[pair] - mean) ** 2 for pair, times in counts.items())
    return value, math.sqrt((n - 1) / n * squares)
