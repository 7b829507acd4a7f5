"""pass@k: the chance that at least one of k samples of a problem solves it (Chen et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate for one problem, 1 - C(n - c, k) / C(n, k).

    Whole numbers until the one division, which Python rounds correctly: nothing cancels.

    Args:
        n: samples of the problem.
        c: samples that passed.
        k: samples that are drawn from them, without replacement.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(
            f"pass@{k} of {c} passed in {n} samples: needs 0 <= c <= n and 1 <= k <= n"
        )
    draws = math.comb(n, k)
    return (draws - math.comb(n - c, k)) / draws


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over problems and its standard error; the error is None for a single problem."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, math.sqrt(variance / n)
