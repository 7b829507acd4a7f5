"""Bootstrap intervals over examples: seeded, vectorised, exact about what is resampled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

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


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central `level` of the draws, as (low, high)."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation over seeds (n - 1 below the line); None for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
