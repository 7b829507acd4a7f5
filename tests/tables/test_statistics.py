"""The bootstrap, the average and the ranking, as properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.tables.ranking import marks
from diablo.tables.statistics import bootstrap_means, generator, percentile_interval, spread

outcome_lists = st.lists(st.integers(0, 1), min_size=1, max_size=200)


def interval(outcomes: list[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    return percentile_interval(bootstrap_means(np.array(outcomes), generator(seed, "x")), level)


@given(outcome_lists)
@settings(max_examples=60)
def test_interval_holds_the_mean_and_stays_in_range(outcomes: list[int]) -> None:
    low, high = interval(outcomes)
    assert 0 <= low <= np.mean(outcomes) <= high <= 1


@given(outcome_lists, st.floats(0.5, 0.9))
@settings(max_examples=60)
def test_a_higher_level_is_never_narrower(outcomes: list[int], level: float) -> None:
    low, high = interval(outcomes, level)
    wide_low, wide_high = interval(outcomes, 0.95)
    assert wide_low <= low <= high <= wide_high


@given(outcome_lists)
@settings(max_examples=40)
def test_order_of_examples_does_not_matter(outcomes: list[int]) -> None:
    assert interval(outcomes) == interval(outcomes[::-1])


@given(st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=40)
def test_more_hits_never_lower_the_interval(n: int, hits: int) -> None:
    hits = min(hits, n - 1)
    low, high = interval([1] * hits + [0] * (n - hits))
    more_low, more_high = interval([1] * (hits + 1) + [0] * (n - hits - 1))
    # The two are drawn apart: allow for the noise of the quantiles.
    assert more_low >= low - 2 / n
    assert more_high >= high - 2 / n


def test_outcomes_that_are_all_alike_have_no_width() -> None:
    assert interval([1] * 30) == (1.0, 1.0)
    assert interval([0]) == (0.0, 0.0)


def test_draws_have_the_bootstrap_mean_and_variance() -> None:
    outcomes = np.array([0.0, 0.25, 0.5, 1.0, 1.0])
    draws = bootstrap_means(outcomes, generator(3, "moments"), resamples=200_000)
    assert draws.mean() == pytest.approx(outcomes.mean(), abs=2e-3)
    assert draws.var() == pytest.approx(outcomes.var() / outcomes.size, rel=0.03)


def test_draws_agree_with_resampling_indices() -> None:
    outcomes = np.array([1] * 37 + [0] * 63)
    rng = np.random.default_rng(0)
    plain = outcomes[rng.integers(0, 100, size=(20_000, 100))].mean(axis=1)
    ours = bootstrap_means(outcomes, generator(0, "plain"), resamples=20_000)
    for level in (0.5, 0.8, 0.95):
        assert percentile_interval(ours, level) == pytest.approx(
            percentile_interval(plain, level), abs=0.0101
        )


@pytest.mark.parametrize("accuracy", [0.3, 0.5, 0.8])
def test_coverage_is_near_the_level(accuracy: float) -> None:
    rng = np.random.default_rng(11)
    trials, n = 600, 100
    hits = 0
    for trial in range(trials):
        outcomes = rng.random(n) < accuracy
        draws = bootstrap_means(outcomes, generator(0, f"coverage-{trial}"), 1000)
        low, high = percentile_interval(draws)
        hits += low <= accuracy <= high
    assert 0.90 <= hits / trials <= 0.98


def test_streams_are_seeded_and_apart() -> None:
    outcomes = np.array([1] * 20 + [0] * 20)
    first = bootstrap_means(outcomes, generator(0, "run", "task"))
    assert np.array_equal(first, bootstrap_means(outcomes, generator(0, "run", "task")))
    for other in (generator(1, "run", "task"), generator(0, "run", "other")):
        assert not np.array_equal(first, bootstrap_means(outcomes, other))


@pytest.mark.parametrize("outcomes", [[], [[1, 0], [0, 1]]])
def test_wrong_shapes_are_refused(outcomes: list) -> None:
    with pytest.raises(ValueError, match="one number per example"):
        bootstrap_means(np.array(outcomes), generator(0))


def test_spread_needs_two_seeds() -> None:
    assert spread([50.0]) is None
    assert spread([50.0, 52.0]) == pytest.approx(2**0.5)


def test_marks_best_and_second() -> None:
    assert marks({1: 80.0, 2: 83.0, 3: 81.5}) == {2: "best", 3: "second"}


def test_marks_compare_printed_numbers_and_share_ties() -> None:
    assert marks({1: 83.44, 2: 83.41, 3: 81.0, 4: 81.04, 5: 12.0}) == {
        1: "best",
        2: "best",
        3: "second",
        4: "second",
    }


def test_a_single_number_is_not_marked() -> None:
    assert marks({1: 80.0}) == {}
    assert marks({}) == {}


@given(st.dictionaries(st.integers(), st.floats(0, 100), min_size=2, max_size=12))
@settings(max_examples=80)
def test_marks_follow_the_order(values: dict[int, float]) -> None:
    found = marks(values)
    top = max(float(f"{value:.1f}") for value in values.values())
    for key, value in values.items():
        assert (found.get(key) == "best") == (float(f"{value:.1f}") == top)
