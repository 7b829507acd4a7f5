"""How good a quantised model is: relative layer errors and perplexity."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def output_energy(weight: torch.Tensor, hessian: torch.Tensor) -> float:
    """‖X Wᵀ‖² from XᵀX alone: tr(W H Wᵀ). `weight` (outputs, inputs), `hessian` (inputs, inputs)."""
    weight = weight.to(hessian.dtype)
    return max(0.0, ((weight @ hessian) * weight).sum(dtype=torch.float64).item())


def relative(part: float, whole: float) -> float:
    """The root of part / whole; 0 where both are 0 (a layer that never gets any input)."""
    if whole == 0:
        return 0.0 if part == 0 else float("inf")
    return (part / whole) ** 0.5


@torch.no_grad()
def perplexity(model: nn.Module, windows: list[torch.Tensor], device: str) -> float:
    """exp of the mean negative log-likelihood, in nats, of each window's tokens but its first.

    Args:
        model: a causal language model on the CPU; it is moved to `device` and back.
        windows: token ids, each (tokens,), read independently.
    """
    model.to(device)
    total, count = 0.0, 0
    for window in windows:
        ids = window[None].to(device)
        output: Any = model(input_ids=ids, use_cache=False)
        logits = output.logits[0, :-1].float()
        total += nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    model.to("cpu")
    return float(torch.tensor(total / count, dtype=torch.float64).exp())
