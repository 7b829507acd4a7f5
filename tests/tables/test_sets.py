"""F1 and Matthews' correlation against their definitions, and their bootstrap against plain resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_entries import LABELS, f1, matthews

from diablo.tables.sets import Statistic, encode
from diablo.tables.statistics import generator, percentile_interval

F1, MATTHEWS = Statistic("f1", "equivalent"), Statistic("matthews")
#: By metric the statistic, and its textbook formula for two labels.
BOTH = [(F1, f1), (MATTHEWS, matthews)]
pairs = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40
)


@pytest.mark.parametrize(("statistic", "textbook"), BOTH, ids=["f1", "matthews"])
@given(pairs)
@settings(max_examples=60)
def test_two_labels_as_in_the_textbook(statistic, textbook, pairs) -> None:
    assert statistic.of(pairs) == pytest.approx(textbook(pairs)["value"], abs=1e-12)


def test_matthews_by_hand() -> None:
    """3 and 2 right of each label, 1 and 2 wrong: (3 * 2 - 1 * 2) / sqrt(4 * 5 * 4 * 3)."""
    a, b = LABELS
    found = MATTHEWS.of([(a, a)] * 3 + [(b, b)] * 2 + [(a, b)] + [(b, a)] * 2)
    assert found == pytest.approx(4 / 240**0.5)


def test_what_could_not_be_read_is_never_right() -> None:
    a, b = LABELS
    assert F1.of([(a, a), (a, None), (b, None)]) == pytest.approx(2 / 3)
    # Three labels, of which nothing is of the third: (1 * 3 - (2 * 1 + 1 * 0)) / sqrt((9 - 5) * (9 - 5)).
    assert MATTHEWS.of([(a, a), (a, None), (b, None)]) == pytest.approx(1 / 4)
    assert MATTHEWS.of([(a, None), (b, None)]) == 0
    assert F1.of([(b, b)]) == 0


@pytest.mark.parametrize(("statistic", "textbook"), BOTH, ids=["f1", "matthews"])
def test_draws_agree_with_resampling_one_by_one(statistic, textbook) -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 2, 50)
    read = np.where(rng.random(50) < 0.75, gold, 1 - gold)
    pairs = [(LABELS[g], LABELS[r]) for g, r in zip(gold, read, strict=True)]
    plain = [textbook([pairs[i] for i in rng.integers(0, 50, 50)])["value"] for _ in range(3000)]
    run = dict(zip(map(str, range(50)), pairs, strict=True))
    ours = statistic.draws([run], generator(0, "sets"), 20_000)[:, 0]
    assert ours.mean() == pytest.approx(np.mean(plain), abs=0.01)
    assert percentile_interval(ours) == pytest.approx(
        percentile_interval(np.array(plain)), abs=0.025
    )


def test_runs_are_drawn_with_the_same_examples() -> None:
    """A run beside itself never differs; two runs differ as often as pairs of them are drawn."""
    rng = np.random.default_rng(2)
    gold = [LABELS[one] for one in rng.integers(0, 2, 40)]
    run = {str(i): (label, label if i % 3 else None) for i, label in enumerate(gold)}
    other = {str(i): (label, LABELS[0]) for i, label in enumerate(gold)}
    draws = F1.draws([run, other, run], generator(0, "same"), 500)
    assert draws.shape == (500, 3)
    assert np.array_equal(draws[:, 0], draws[:, 2])
    alone = F1.draws([other], generator(1, "alone"), 20_000)[:, 0]
    beside = F1.draws([run, other], generator(2, "beside"), 20_000)[:, 1]
    assert beside.std() == pytest.approx(alone.std(), rel=0.05)


def test_draws_do_not_depend_on_the_order_of_examples() -> None:
    run = {str(i): (LABELS[i % 2], LABELS[i % 3 == 0]) for i in range(30)}
    turned = dict(reversed(run.items()))
    for statistic in (F1, MATTHEWS):
        one, other = (statistic.draws([r], generator(0, "x"), 200) for r in (run, turned))
        assert np.array_equal(one, other)


def test_codes_keep_labels_apart() -> None:
    codes, labels = encode([{"a": ("no", None), "b": ("yes", "yes")}])
    assert labels == ["no", "yes", None]
    assert codes.tolist() == [[0, 1], [2, 1]]
