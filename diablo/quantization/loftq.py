"""LoftQ (Li et al., 2024, arXiv:2310.08659, algorithm 1): a quantised weight and a low-rank correction."""

from __future__ import annotations

from collections.abc import Callable

import torch


def loftq(
    weight: torch.Tensor,
    quantise: Callable[[torch.Tensor], torch.Tensor],
    rank: int,
    iterations: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Alternate between quantising W - BA and the best BA of rank `rank` for W - Q.

    Args:
        weight: (outputs, inputs), float32 or wider.
        quantise: a weight to the nearest quantised one (any dtype).
        iterations: at least 1.

    Returns:
        Q as `quantise` gave it, A (rank, inputs) and B (outputs, rank) in the weight's dtype, with the
        singular values shared equally.

    Raises:
        ValueError: if the weight has no `rank` singular values.
    """
    if rank > min(weight.shape):
        raise ValueError(f"rank {rank} is larger than the smaller side of {tuple(weight.shape)}")
    low_rank = torch.zeros_like(weight)
    for _ in range(iterations):
        quantised = quantise(weight - low_rank)
        u, s, v = torch.linalg.svd(weight - quantised.to(weight.dtype), full_matrices=False)
        root = s[:rank].sqrt()
        up, down = u[:, :rank] * root, root[:, None] * v[:rank]
        low_rank = up @ down
    return quantised, down.contiguous(), up.contiguous()
