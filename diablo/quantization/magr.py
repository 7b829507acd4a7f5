"""MagR (Zhang et al., 2024, arXiv:2406.00800): smaller weights before quantisation.

    min over W'  ½ ‖X W'ᵀ - X Wᵀ‖² + alpha · Σ ‖w‖∞     (sum over rows, or over the groups of rows)

by proximal gradient steps. The outputs hardly change, the largest weight of each row (group) falls,
and the grid of the quantiser gets finer. X is scaled so that the largest eigenvalue of XᵀX is one.
"""

from __future__ import annotations

import torch

#: Penalties of the paper.
ALPHA_PER_CHANNEL, ALPHA_PER_GROUP = 1e-3, 1e-4


def magr(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    alpha: float,
    group_size: int | None = None,
    iterations: int = 200,
) -> torch.Tensor:
    """The regularised weight.

    Args:
        weight: (rows, columns) = (outputs, inputs); not changed.
        hessian: (columns, columns), XᵀX over the calibration inputs, up to a positive factor.
        alpha: the penalty; 0 returns the weight.
        group_size: columns that share a penalty term; None: the whole row.
        iterations: proximal gradient steps, each of length one.
    """
    largest = torch.linalg.eigvalsh(hessian)[-1]
    if alpha == 0 or largest <= 0:
        return weight.clone()
    hessian = hessian / largest
    size = group_size or weight.shape[1]
    target = weight @ hessian
    current = weight
    for _ in range(iterations):
        moved = current - (current @ hessian - target)
        current = prox_max_norm(moved.unflatten(1, (-1, size)), alpha).flatten(1)
    return current


def prox_max_norm(vectors: torch.Tensor, alpha: float) -> torch.Tensor:
    """The proximal map of alpha · ‖·‖∞ for each vector along the last dimension.

    By Moreau's identity it is v minus v's projection on the ℓ1 ball of radius alpha, which is v
    clipped at the projection's threshold.
    """
    limit = l1_threshold(vectors, alpha)
    return torch.minimum(torch.maximum(vectors, -limit), limit)


def project_l1(vectors: torch.Tensor, radius: float) -> torch.Tensor:
    """The nearest point of the ℓ1 ball for each vector along the last dimension."""
    return vectors.sign() * (vectors.abs() - l1_threshold(vectors, radius)).clamp(min=0)


def l1_threshold(vectors: torch.Tensor, radius: float) -> torch.Tensor:
    """The t ≥ 0 with Σ max(|v| - t, 0) = radius, or 0 inside the ball; last dimension of size 1.

    Newton's method on a convex piecewise linear function from the left of its root: it never
    passes the root, and ends after finitely many steps. No entry above max|v| - radius is far, so
    for the small radii of MagR few entries are in play and few steps are needed.
    """
    sizes = vectors.abs()
    threshold = (sizes.amax(-1, keepdim=True) - radius).clamp(min=0)
    while True:
        above = sizes > threshold
        excess = (sizes * above).sum(-1, keepdim=True) - radius
        stepped = excess / above.sum(-1, keepdim=True).clamp(min=1)
        stepped = torch.maximum(stepped, threshold)
        if torch.equal(stepped, threshold):
            return threshold
        threshold = stepped
