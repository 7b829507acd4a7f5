"""Cohen's kappa: against scikit-learn and the delta method in slow motion; what has no kappa says why."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from diablo.scoring.judges.agreement import agreement

TABLES = {
    "good": [[40, 9], [6, 45]],
    "poor": [[12, 20], [17, 9]],
    "worse than chance": [[1, 30], [25, 2]],
    "rare label": [[95, 2], [1, 2]],
    "three labels": [[53, 5, 2], [11, 14, 5], [1, 6, 3]],
}


def labels_of(table: list[list[int]]) -> tuple[list[str], list[str]]:
    cells = [
        (f"label {i}", f"label {j}")
        for i, row in enumerate(table)
        for j, count in enumerate(row)
        for _ in range(count)
    ]
    return [one for one, _ in cells], [other for _, other in cells]


def kappa_of(shares: np.ndarray) -> float:
    chance = shares.sum(1) @ shares.sum(0)
    return (np.trace(shares) - chance) / (1 - chance)


def delta_method(table: list[list[int]]) -> float:
    """Kappa's standard error from numerical derivatives by each cell's share."""
    counts = np.array(table, dtype=float)
    n, shares = counts.sum(), counts / counts.sum()
    slopes = np.zeros_like(shares)
    for cell in itertools.product(*map(range, shares.shape)):
        step = np.zeros_like(shares)
        step[cell] = 1e-6
        slopes[cell] = (kappa_of(shares + step) - kappa_of(shares - step)) / 2e-6
    mean = (slopes * shares).sum()
    return math.sqrt(((slopes - mean) ** 2 * shares).sum() / n)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_kappa_and_its_error(table):
    one, other = labels_of(table)
    found = agreement(one, other)
    assert found["n"] == sum(map(sum, table))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(one, other))
    assert found["stderr"] == pytest.approx(delta_method(table), rel=1e-4)
    low, high = found["interval"]
    assert -1 <= low < found["kappa"] < high <= 1
    assert found["agreed"] == pytest.approx(np.trace(np.array(table)) / found["n"])
    swapped = agreement(other, one)
    assert (swapped["kappa"], swapped["stderr"]) == pytest.approx((found["kappa"], found["stderr"]))
    assert found["note"] is None


def test_the_interval_covers():
    """Of many samples from known shares, 95 % or so have the true kappa in their interval."""
    rng, shares = np.random.default_rng(0), np.array([[0.4, 0.1], [0.1, 0.4]])
    truth, inside = kappa_of(shares), 0
    for _ in range(500):
        counts = rng.multinomial(200, shares.ravel()).reshape(2, 2)
        low, high = agreement(*labels_of(counts.tolist()))["interval"]
        inside += low <= truth <= high
    assert 0.92 <= inside / 500 <= 0.98


def test_counts_are_by_label():
    one = ["refused", "refused", "not refused", None, "refused"]
    other = ["refused", "not refused", "not refused", "refused", None]
    found = agreement(one, other)
    assert found["n"] == 3
    assert found["counts"] == [
        ["not refused", "not refused", 1],
        ["refused", "not refused", 1],
        ["refused", "refused", 1],
    ]


@pytest.mark.parametrize(
    ("one", "other", "kappa", "note"),
    [
        ([], [], None, "no example was labelled by both"),
        (["a", None], [None, "b"], None, "no example was labelled by both"),
        (["a", "a"], ["a", "a"], None, "both gave all 2 the label 'a': kappa is 0/0"),
        (["a"], ["a"], None, "both gave all 1 the label 'a': kappa is 0/0"),
        (["a"], ["b"], 0.0, "one judge gave all the same label"),
        (["a", "a", "a"], ["a", "b", "b"], 0.0, "one judge gave all the same label"),
        (["a", "b", "a"], ["b", "b", "b"], 0.0, "one judge gave all the same label"),
        (["a", "b", "a"], ["a", "b", "a"], 1.0, "they agree on all 3"),
    ],
)
def test_degenerate_cases_have_a_name(one, other, kappa, note):
    found = agreement(one, other)
    assert found["kappa"] == kappa
    assert (found["stderr"], found["interval"]) == (None, None)
    assert note in found["note"]


def test_judges_of_different_examples():
    with pytest.raises(ValueError, match="shorter"):
        agreement(["a", "b"], ["a"])
