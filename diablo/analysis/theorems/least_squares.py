"""Theorem 1: min ||XΔ − Y||² over all Δ, over block-diagonal Δ, and over Δ of rank k (LoRA).

Each minimum is the exact one, without an optimiser, so that a gap belongs to the method and not to its
training. X is (b, m1), Y is (b, m2): what the frozen weight leaves to be learned. The paper's equations
(3) to (5) and its section A.1.1.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from diablo.analysis.theorems.linear import (
    TOLERANCE,
    block_diagonal,
    check_blocks,
    clear_rank,
)


def generic(rows: int, columns: int, rank: int, random: np.random.Generator) -> np.ndarray:
    """A (rows, columns) matrix of a rank: the product of two Gaussian factors.

    Raises:
        ValueError: if there is no matrix of that rank.
    """
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(f"no {rows} x {columns} matrix has rank {rank}")
    return random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))


def full_minimum(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The least-squares Δ (m1, m2) of smallest norm, equation (3).

    Raises:
        FloatingPointError: if the rank of the inputs is not clear.
    """
    solution, _, _, values = scipy.linalg.lstsq(inputs, targets, cond=TOLERANCE)
    clear_rank(values)
    return solution


def diablo_minimum(inputs: np.ndarray, targets: np.ndarray, blocks: int) -> np.ndarray:
    """The best block-diagonal Δ (m1, m2), equations (4) and (5).

    The outputs of a block depend on its own inputs alone, so each block is a least-squares problem of
    its own and the minimum is the blocks' minima together.

    Raises:
        ValueError: if N is no common factor of m1 and m2.
        FloatingPointError: if the rank of a block's inputs is not clear.
    """
    check_blocks(inputs.shape[1], targets.shape[1], blocks)
    columns = zip(np.split(inputs, blocks, axis=1), np.split(targets, blocks, axis=1), strict=True)
    return block_diagonal(np.stack([full_minimum(x, y) for x, y in columns]))


def lora_minimum(inputs: np.ndarray, targets: np.ndarray, rank: int) -> np.ndarray:
    """The best Δ (m1, m2) of at most this rank: what LoRA could reach, however it is trained.

    XΔ runs through all matrices of that rank whose columns lie in the range of X. The nearest one to Y is
    the truncated singular value decomposition of Y's projection on that range (Eckart and Young), and
    Δ = X⁺ times it.

    Raises:
        FloatingPointError: if the rank of the inputs is not clear.
    """
    solution = full_minimum(inputs, targets)
    left, values, right = np.linalg.svd(inputs @ solution, full_matrices=False)
    return full_minimum(inputs, (left[:, :rank] * values[:rank]) @ right[:rank])


def loss(inputs: np.ndarray, targets: np.ndarray, update: np.ndarray) -> float:
    """||XΔ − Y||², the sum over all b · m2 entries."""
    return float(np.sum((inputs @ update - targets) ** 2))


def relative_gap(inputs: np.ndarray, targets: np.ndarray, update: np.ndarray) -> float:
    """The relative residual gap: (L(Δ) − L*) / (L(0) − L*), L* the minimum over all Δ.

    The share of what training the whole weight gains that this Δ leaves: 0 is the full minimum, 1 is no
    update at all. Divided by L(0) it would be smaller, by what no Δ can reach; so a gap of zero is the
    stricter claim in this form. Rounding makes it a little less than zero now and then.
    """
    zero = float(np.sum(targets**2))
    least = loss(inputs, targets, full_minimum(inputs, targets))
    return (loss(inputs, targets, update) - least) / (zero - least)


def required_rank(inputs: np.ndarray, targets: np.ndarray) -> int:
    """The least rank with which LoRA reaches the full minimum: that of Y's projection on X's range.

    For generic targets it is min(r, m2); for targets of a lower rank it is theirs.

    Raises:
        FloatingPointError: if that rank is not clear.
    """
    projection = inputs @ full_minimum(inputs, targets)
    return clear_rank(np.linalg.svd(projection, compute_uv=False))


def diablo_parameters(inputs: int, outputs: int, blocks: int) -> int:
    """m1 · m2 / N."""
    return inputs * outputs // blocks


def lora_parameters(inputs: int, outputs: int, rank: int) -> int:
    """k · (m1 + m2), the two factors' entries."""
    return rank * (inputs + outputs)
