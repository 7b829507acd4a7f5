"""Singular values of tall or wide matrices, numerical and effective ranks, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

#: Rows that are turned to float64 at a time.
CHUNK = 4096


def singular_values(matrix: Tensor) -> Tensor:
    """All singular values of a (b, m) matrix, min(b, m) of them, falling, in float64.

    They are the roots of the eigenvalues of the smaller Gram matrix, formed in float64: exact up to
    rounding, in a fraction of an SVD's time. The eigenvalues are off by at most about m · 2e-16 of the
    largest one, so values below about 1e-8 · sqrt(m) of the largest singular value are noise: far below the
    tolerance of :func:`numerical_rank` for matrices that were computed in float32.
    """
    rows, width = matrix.shape
    size = min(rows, width)
    gram = torch.zeros(size, size, dtype=torch.float64, device=matrix.device)
    # Over the longer side in pieces: the matrix never exists in float64.
    tall = matrix if rows >= width else matrix.t()
    for piece in tall.split(CHUNK):
        wide = piece.double()
        gram.addmm_(wide.t(), wide)
    values = torch.linalg.eigvalsh(gram).flip(0)
    return values.clamp(min=0).sqrt()


def tolerance(rows: int, width: int, dtype: torch.dtype) -> float:
    """max(b, m) · epsilon of the type that a matrix was computed in, as numpy's `matrix_rank` has it."""
    return max(rows, width) * torch.finfo(dtype).eps


def numerical_rank(values: Tensor, relative: float) -> int:
    """How many falling singular values exceed `relative` times the largest; 0 of a zero matrix."""
    return int((values > relative * values[0]).sum())


def effective_rank(values: Tensor, threshold: float, power: int = 2) -> int:
    """The least k with sum_{i <= k} sigma_i^p >= tau · sum_i sigma_i^p; 0 of a zero matrix.

    Args:
        values: singular values, falling.
        threshold: tau.
        power: p; 2 is the share of the squared Frobenius norm.

    Raises:
        ValueError: tau is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold = {threshold} must lie between 0 and 1")
    sums = values.double().pow(power).cumsum(0)
    if sums[-1] == 0:
        return 0
    # Where a share is the threshold exactly, the last bit of the sums must not decide.
    return int((sums < threshold * sums[-1] * (1 - 1e-12)).sum()) + 1
