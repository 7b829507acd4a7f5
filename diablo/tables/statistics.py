"""Bootstrap over examples (seeded, vectorised, exact about what is resampled), and paired tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

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


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p-values of one family, in the order given."""
    adjusted, reached = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = reached
    return adjusted
