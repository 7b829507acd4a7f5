"""pass@k against slow exact combinatorics."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import pytest

from diablo.scoring.passk import mean_and_error, pass_at_k


def exact(n: int, c: int, k: int) -> Fraction:
    """One minus the chance that k draws without replacement, one after another, all miss."""
    miss = Fraction(1)
    for drawn in range(k):
        miss *= Fraction(max(n - c - drawn, 0), n - drawn)
    return 1 - miss


@pytest.mark.parametrize("n", range(1, 51))
def test_every_number_of_samples_up_to_50(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            assert pass_at_k(n, c, k) == float(exact(n, c, k)), (n, c, k)


def test_by_counting_all_draws():
    """All draws of k from n samples, the first c of which passed."""
    import itertools

    for n, c, k in ((5, 2, 3), (6, 1, 2), (7, 4, 3), (8, 0, 5), (8, 8, 1)):
        draws = list(itertools.combinations(range(n), k))
        hits = sum(min(draw) < c for draw in draws)
        assert pass_at_k(n, c, k) == hits / len(draws)


def test_many_samples_lose_no_digits():
    assert pass_at_k(10_000, 1, 100) == 0.01
    assert pass_at_k(10_000, 9_999, 2) == 1.0
    # The textbook's product of floats is off by hundreds of units in the last place here.
    assert pass_at_k(100_000, 1, 1) == 1e-5


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0), (0, 0, 1)])
def test_what_cannot_be_estimated(n, c, k):
    with pytest.raises(ValueError, match=rf"pass@{k} of {c} passed in {n} samples"):
        pass_at_k(n, c, k)


def test_mean_and_standard_error():
    values = [0.0, 0.5, 1.0, 0.25]
    mean, error = mean_and_error(values)
    assert mean == 0.4375
    assert error == pytest.approx(statistics.stdev(values) / math.sqrt(4), rel=1e-15)
    assert mean_and_error([0.5]) == (0.5, None)
    assert mean_and_error([1.0, 1.0]) == (1.0, 0.0)
