"""The smallest detectable difference, against simulation and the textbook's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from diablo.tables.statistics import detectable_mean, detectable_sign, sign_test


def test_of_a_mean_it_is_the_textbooks() -> None:
    # 1.96 + 0.84 standard errors.
    assert detectable_mean(1.0, 0.05) == pytest.approx(2.8016, abs=1e-4)
    assert detectable_mean(0.5, 0.05 / 4) == pytest.approx(0.5 * (2.4977 + 0.8416), abs=1e-4)


def test_of_a_mean_it_is_found_with_the_power_it_says() -> None:
    n, trials, rng = 60, 4000, np.random.default_rng(0)
    delta = detectable_mean(1 / n**0.5, 0.05)
    means = rng.normal(delta, 1, size=(trials, n)).mean(axis=1)
    found = np.abs(means) * n**0.5 > norm.ppf(0.975)
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("n", "discordant"), [(1319, 0.15), (5000, 0.1), (1000, 0.3)])
def test_of_shares_it_is_near_connors_number_of_pairs(n: int, discordant: float) -> None:
    """Connor (1987): pairs that McNemar's test without a continuity correction needs; exact needs more."""
    delta = detectable_sign(n, discordant, 0.05)
    root = norm.ppf(0.975) * discordant**0.5 + norm.ppf(0.8) * (discordant - delta**2) ** 0.5
    assert 0.9 < (root / delta) ** 2 / n <= 1


@pytest.mark.parametrize(("n", "discordant"), [(40, 0.0), (40, 0.3), (250, 0.2)])
@pytest.mark.slow
def test_of_shares_it_is_found_with_the_power_it_says(n: int, discordant: float) -> None:
    delta = detectable_sign(n, discordant, 0.05)
    share = max(discordant, delta)
    rng, trials = np.random.default_rng(1), 3000
    better, worse = (share + delta) / 2, (share - delta) / 2
    drawn = rng.choice([1, -1, 0], size=(trials, n), p=[better, worse, 1 - better - worse])
    found = [sign_test(row) <= 0.05 and row.sum() > 0 for row in drawn]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)


def test_rows_that_never_differed_can_still_say_what_would_have_been_found() -> None:
    # Six pairs on one side are the fewest that are significant; of 40, with power 80 %.
    delta = detectable_sign(40, 0.0, 0.05)
    assert 6 / 40 < delta < 0.25
    assert delta < detectable_sign(40, 0.0, 0.05 / 4) < detectable_sign(40, 0.5, 0.05 / 4)


def test_too_few_pairs_can_show_nothing() -> None:
    assert detectable_sign(5, 0.2, 0.05) is None  # 2 / 2^5 = 0.0625
    assert detectable_sign(6, 0.2, 0.05) is not None


def test_more_pairs_show_less() -> None:
    found = [detectable_sign(n, 0.2, 0.05) for n in (20, 80, 320, 1280)]
    assert found == sorted(found, reverse=True)
