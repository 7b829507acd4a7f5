"""Bootstrap over examples (seeded, vectorised, exact about what is resampled), and paired tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binom, binomtest, norm

#: Resamples per estimate; the 2.5 % and 97.5 % points then rest on 100 draws each.
RESAMPLES = 4000


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random generator of its own for the thing called `names`, the same in every process.

    Each run and task draws from its own stream, so a row's interval does not depend on which other
    rows are in the table.
    """
    digest = hashlib.sha256("\0".join(names).encode("utf-8")).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def bootstrap_means(
    outcomes: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means of `resamples` samples of the examples, drawn with replacement.

    A resample is decided by how often each distinct outcome occurs in it, and those counts are
    multinomial; drawing them directly has the same distribution as drawing indices and needs no
    (resamples x examples) array.

    Args:
        outcomes: one number per example, shape (n,).

    Returns:
        Shape (resamples,), in the unit of `outcomes`.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if outcomes.ndim != 1 or outcomes.size == 0:
        raise ValueError(f"outcomes: expected one number per example, got shape {outcomes.shape}")
    values, counts = np.unique(outcomes, return_counts=True)
    drawn = rng.multinomial(outcomes.size, counts / outcomes.size, size=resamples)
    return drawn @ values / outcomes.size


def bootstrap_ratios(
    numerators: np.ndarray,
    denominators: np.ndarray,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Sum over sum of `resamples` samples of the examples, drawn with replacement.

    Two calls with as many examples and equally seeded generators draw the same examples, so the
    difference of their results is a paired bootstrap.

    Args:
        numerators: one number per example, shape (n,).
        denominators: one positive number per example, shape (n,).

    Returns:
        Shape (resamples,).
    """
    n = len(numerators)
    if numerators.shape != (n,) or denominators.shape != (n,) or n == 0:
        raise ValueError(
            "numerators and denominators: expected one number per example each, got shapes "
            f"{numerators.shape} and {denominators.shape}"
        )
    draws = np.empty(resamples)
    # In parts: all indices at once would be resamples x n of them.
    part = max(1, 2**20 // n)
    for start in range(0, resamples, part):
        index = rng.integers(n, size=(min(part, resamples - start), n), dtype=np.int32)
        draws[start : start + part] = numerators[index].sum(1) / denominators[index].sum(1)
    return draws


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the draws, as (low, high)."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation over seeds (n - 1 below the line); None for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def bootstrap_p(draws: np.ndarray) -> float:
    """Two-sided p-value that a difference is zero, by the percentile method, from its draws.

    Twice the smaller share of draws on one side of zero; one draw is added to each side (Davison
    and Hinkley 1997, section 4.2), so that it is never 0.
    """
    smaller = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return min(1.0, 2.0 * float(smaller + 1) / (len(draws) + 1))


def sign_test(differences: np.ndarray) -> float:
    """Two-sided p-value of the exact sign test: are positive and negative ones equally likely?

    Zeros say nothing. On the differences of two 0/1 outcomes this is the exact McNemar test.
    """
    positive, negative = np.count_nonzero(differences > 0), np.count_nonzero(differences < 0)
    if positive + negative == 0:
        return 1.0
    return float(binomtest(positive, positive + negative).pvalue)


#: Probability with which the smallest detectable difference is found.
POWER = 0.8


def detectable_mean(stderr: float, level: float, power: float = POWER) -> float:
    """The smallest true difference that a two-sided test at `level` finds with probability `power`.

    `(z(1 - level / 2) + z(power)) · stderr`, the textbook formula for a normal estimate (Chow, Shao and
    Wang 2008, section 1.3.2): 2.80 standard errors at 5 % and 80 %. Found or not does not enter.

    Args:
        stderr: of the paired difference; the result is in its unit.
    """
    return float(norm.ppf(1 - level / 2) + norm.ppf(power)) * stderr


def detectable_sign(n: int, discordant: float, level: float, power: float = POWER) -> float | None:
    """The smallest true difference of two shares that the exact sign test finds with `power`.

    Exact: of n pairs a binomial number differs; of those, one that is binomial again favours the better
    side (Miettinen 1968 conditions so too). With share d of pairs that differ, those of a difference δ
    favour it with probability (d + δ) / 2d. Where δ is above `discordant`, d is δ: no difference can
    come from fewer pairs.

    Args:
        n: pairs.
        discordant: share of pairs that differ, in [0, 1].

    Returns:
        δ in (0, 1], to four decimals; None if n pairs cannot show even δ = 1.
    """
    low, high = 0.0, 1.0
    if _sign_power(n, discordant, high, level) < power:
        return None
    while high - low > 1e-5:
        middle = (low + high) / 2
        enough = _sign_power(n, discordant, middle, level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return round(high, 4)


def _sign_power(n: int, discordant: float, difference: float, level: float) -> float:
    """Probability that the sign test of n pairs finds a true difference on its side."""
    share = max(discordant, difference)
    # What lies beyond has no weight.
    first, last = (int(k) for k in binom.ppf([1e-9, 1 - 1e-9], n, share))
    differing = np.arange(first, last + 1)
    most = _most_against(n, level)[differing]
    found = binom.sf(differing - most - 1, differing, (share + difference) / (2 * share))
    return float(binom.pmf(differing, n, share) @ np.where(most < 0, 0.0, found))


@lru_cache(maxsize=256)
def _most_against(n: int, level: float) -> np.ndarray:
    """Of 0 to n differing pairs the most against one side with which it is still found; -1: never."""
    differing = np.arange(n + 1)
    # The least k whose tail is at or above level / 2; below it the two tails together are too rare.
    k = binom.ppf(level / 2, differing, 0.5)
    return np.where(2 * binom.cdf(k, differing, 0.5) <= level, k, k - 1).astype(int)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p-values of one family, in the order given."""
    adjusted, reached = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = reached
    return adjusted
