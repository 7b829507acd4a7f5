"""What both theorems share: numbers of blocks, blocks of a matrix, and ranks that are clear."""

from __future__ import annotations

import numpy as np

#: Singular values below this share of the largest count as zero.
TOLERANCE = 1e-10
#: The smallest kept singular value is at least so many times the largest dropped one.
GAP = 1e4


def common_factors(inputs: int, outputs: int) -> list[int]:
    """All N that divide both m1 and m2, in rising order."""
    return [n for n in range(1, min(inputs, outputs) + 1) if inputs % n == 0 == outputs % n]


def check_blocks(inputs: int, outputs: int, blocks: int) -> None:
    """Refuse an N that is no common factor of m1 and m2: the theorems say nothing about it.

    Raises:
        ValueError: names N, both widths and the numbers that are possible.
    """
    possible = common_factors(inputs, outputs)
    if blocks not in possible:
        raise ValueError(
            f"N = {blocks} is no common factor of m1 = {inputs} and m2 = {outputs}: "
            f"give one of {', '.join(map(str, possible))}"
        )


def diagonal_blocks(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """The N diagonal blocks of an (m1, m2) matrix as (N, m1/N, m2/N), a copy."""
    m1, m2 = matrix.shape
    check_blocks(m1, m2, blocks)
    parts, at = matrix.reshape(blocks, m1 // blocks, blocks, m2 // blocks), np.arange(blocks)
    return parts[at, :, at]


def block_diagonal(blocks: np.ndarray) -> np.ndarray:
    """The (N·d1, N·d2) matrix whose diagonal blocks are `blocks` (N, d1, d2)."""
    count, d1, d2 = blocks.shape
    parts, at = np.zeros((count, d1, count, d2)), np.arange(count)
    parts[at, :, at] = blocks
    return parts.reshape(count * d1, count * d2)


def clear_rank(values: np.ndarray) -> int:
    """The rank that falling singular values show, refused where rounding could decide it.

    A value counts if it exceeds :data:`TOLERANCE` times the largest; between the last one that counts
    and the first one that does not there must be a factor of :data:`GAP`.

    Raises:
        FloatingPointError: if there is no such gap; names both values.
    """
    if len(values) == 0 or values[0] == 0:
        return 0
    rank = int(np.sum(values > TOLERANCE * values[0]))
    if rank < len(values) and values[rank - 1] < GAP * values[rank]:
        raise FloatingPointError(
            f"rank {rank} is not clear: singular values {values[rank - 1]:.1e} and {values[rank]:.1e} "
            f"of at most {values[0]:.1e} are less than a factor {GAP:g} apart"
        )
    return rank
