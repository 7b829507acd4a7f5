"""F1 and Matthews' correlation: cases by hand, scikit-learn, and standard errors by leaving out."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diablo.scoring.set_metrics import f1, matthews, with_error

LABELS = st.sampled_from(["yes", "no"])
PAIRS = st.lists(st.tuples(LABELS, st.one_of(LABELS, st.none())), min_size=1, max_size=40)


def pairs(tp: int, fp: int, fn: int, tn: int, unread: int = 0) -> list[tuple[str, str | None]]:
    """Pairs by how often each occurs; what could not be read has the gold label `yes`."""
    kinds = {
        ("yes", "yes"): tp,
        ("no", "yes"): fp,
        ("yes", "no"): fn,
        ("no", "no"): tn,
        ("yes", None): unread,
    }
    return [pair for pair, times in kinds.items() for _ in range(times)]


@pytest.mark.parametrize(
    ("counts", "f1_value", "matthews_value"),
    [
        ((2, 0, 0, 2), 1.0, 1.0),
        ((0, 2, 2, 0), 0.0, -1.0),
        ((6, 1, 2, 3), 12 / 15, (6 * 3 - 1 * 2) / math.sqrt(7 * 8 * 4 * 5)),
        ((3, 2, 0, 0), 6 / 8, 0.0),  # nothing was said to be `no`
        ((0, 0, 0, 4), 0.0, 0.0),
        # An answer that could not be read is a `yes` that was missed.
        ((2, 0, 0, 2, 1), 4 / 5, (4 * 5 - (3 * 2 + 2 * 2)) / math.sqrt(12 * 16)),
    ],
)  # fmt: skip
def test_cases_by_hand(counts, f1_value, matthews_value) -> None:
    found = Counter(pairs(*counts))
    assert f1("yes")(found) == pytest.approx(f1_value)
    assert matthews(found) == pytest.approx(matthews_value)


@pytest.mark.filterwarnings("ignore:A single label")
@given(PAIRS)
def test_scikit_learn_says_the_same(found) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    gold = [label for label, _ in found]
    read = [said or "unread" for _, said in found]
    theirs = metrics.f1_score(gold, read, labels=["yes"], average="macro", zero_division=0)
    assert f1("yes")(Counter(found)) == pytest.approx(theirs)
    assert matthews(Counter(found)) == pytest.approx(metrics.matthews_corrcoef(gold, read))


@given(PAIRS.filter(lambda found: len(found) > 1))
def test_the_error_is_that_of_leaving_out_each_example(found) -> None:
    for statistic in (f1("yes"), matthews):
        value, error = with_error(statistic, found)
        n = len(found)
        without = [statistic(Counter(found[:i] + found[i + 1 :])) for i in range(n)]
        mean = sum(without) / n
        assert value == statistic(Counter(found))
        assert error == pytest.approx(
            math.sqrt((n - 1) / n * sum((one - mean) ** 2 for one in without))
        )


def test_the_error_of_an_accuracy_is_the_one_of_a_mean() -> None:
    def accuracy(counts: Counter) -> float:
        right = sum(n for (label, said), n in counts.items() if label == said)
        return right / counts.total()

    value, error = with_error(accuracy, pairs(3, 1, 2, 4))
    assert error == pytest.approx(math.sqrt(value * (1 - value) / 9))


def test_one_example_has_no_error_and_none_no_value() -> None:
    assert with_error(matthews, [("yes", "yes")]) == (0.0, None)
    with pytest.raises(ValueError, match="no outcomes"):
        with_error(matthews, [])
