"""LoRA-GA (Wang et al. 2024): LoRA that starts at singular vectors of the weight's gradient.

Our own initialisation after the authors' definition (their settings ArB2r, stable, gamma 16): with the
gradient G = U S V^T (m2 × m1) of the loss on some training examples, A is the first r rows of V^T and B
the next r columns of U, both times m2^(1/4) / gamma^(1/2); the scale is s = alpha / sqrt(r), the frozen
weight W - s B A. Nothing depends on the size of the gradient. (PEFT 0.21 takes the same vectors, but
multiplies B by their singular values and leaves A as it is, so that its start does.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adapters import load, wrap
from .lora import config, lora_layers
from .shifted import Factors, save, start

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["gradient_factors", "load", "prepare", "save"]

#: The authors' settings.
ALPHA = 16
GAMMA = 16


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Add LoRA that starts along the gradient, and take its product out of the frozen weight.

    Args:
        spec: `calibration` training examples give the gradient; `alpha` None means 16.
        work_folder: keeps the initial factors; those of an earlier start are used again.

    Raises:
        ValueError: if there are neither gradients nor kept factors, if a targeted layer is narrower
            than twice the rank, or if kept factors do not fit.
    """
    wrapped = wrap(model, config(spec, lora_alpha=spec.alpha or ALPHA, use_rslora=True), spec)
    return start(wrapped, work_folder, lambda: _initial_factors(wrapped, spec, gradients))


def gradient_factors(gradient: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (r × m1) and B (m2 × r) from a weight's `gradient` (m2 × m1), by a full SVD in float32."""
    u, _, vt = torch.linalg.svd(gradient.float(), full_matrices=False)
    factor = gradient.shape[0] ** 0.25 / GAMMA**0.5
    a, b = factor * vt[:rank], factor * u[:, rank : 2 * rank]
    return a.contiguous(), b.contiguous()


def _initial_factors(model: PeftModel, spec: Any, gradients: Gradients | None) -> Factors:
    if gradients is None:
        raise ValueError(
            f"run {spec.run}: method 'lora-ga' starts from the gradient of the training loss, but "
            "`prepare` was given no `gradients`"
        )
    weights = {name: layer.get_base_layer().weight for name, layer in lora_layers(model)}
    for name, weight in weights.items():
        narrower = min(weight.shape)
        if 2 * spec.rank > narrower:
            raise ValueError(
                f"{name}: rank {spec.rank} needs {2 * spec.rank} singular vectors of the gradient, "
                f"which has {narrower}; lower the rank"
            )
        weight.requires_grad_(True)
    gradients(model, spec.calibration)  # B is zero: those of the base model
    factors = {name: gradient_factors(weight.grad, spec.rank) for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(False)
    model.zero_grad()
    return factors
