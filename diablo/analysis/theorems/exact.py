"""The rank of the stacked system without rounding: integers modulo a prime.

The rank modulo a prime never exceeds the rank over the rationals, and that of one instance never exceeds
the generic rank. So full column rank here proves it for generic row spaces. A deficient rank is no proof:
an unlucky draw has a chance of at most 2 · r1 · r2 over the prime (Schwartz and Zippel), and the prime
might divide what it should not. That the rank in float64 is the same makes it certain enough.
"""

from __future__ import annotations

import numpy as np

from diablo.analysis.theorems.stationary import kronecker_system

#: 2^31 - 1: a product of two remainders fits into 64 bits.
PRIME = 2**31 - 1


def generic_rank(
    inputs: int, outputs: int, blocks: int, rank1: int, rank2: int, random: np.random.Generator
) -> int:
    """The rank of the stacked system for uniform A (r1, m1) and B (r2, m2) modulo :data:`PRIME`.

    Raises:
        ValueError: if N is no common factor of m1 and m2.
    """
    left = random.integers(0, PRIME, (rank1, inputs))
    right = random.integers(0, PRIME, (rank2, outputs))
    return rank_modulo(kronecker_system(left, right, blocks))


def rank_modulo(matrix: np.ndarray) -> int:
    """The rank of an integer matrix modulo :data:`PRIME`, by Gaussian elimination."""
    rest = matrix % PRIME
    if rest.shape[0] < rest.shape[1]:
        rest = rest.T.copy()  # fewer and longer steps
    rank = 0
    for column in range(rest.shape[1]):
        candidates = np.flatnonzero(rest[rank:, column])
        if len(candidates) == 0:
            continue
        pivot = rank + candidates[0]
        rest[[rank, pivot]] = rest[[pivot, rank]]
        row = rest[rank, column:] * pow(int(rest[rank, column]), -1, PRIME) % PRIME
        below = rest[rank + 1 :, column:]
        below[:] = (below - below[:, :1] * row) % PRIME
        rank += 1
    return rank
