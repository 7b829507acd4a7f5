"""LoRA-GA (Wang et al. 2024): LoRA that starts at singular vectors of the weight's gradient. PEFT's own.

With the gradient G = U S V^T of the loss on some training examples, A is the first r rows of V^T, and B
the next r columns of U. PEFT 0.21 gives B their singular values and the paper's factor
m2^(1/4) / gamma^(1/2); the authors' own code gives A and B the factor each, and leaves S out.
The scale is alpha / sqrt(r).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, LoraGAConfig
from peft.tuners.lora import preprocess_loraga
from peft.tuners.lora.loraga import get_target_modules
from torch import Tensor

from .adapters import load, wrap
from .lora import ADAPTER, config, lora_layers
from .shifted import install, keep_factors, kept_factors, save

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["load", "prepare", "save"]

#: The authors' alpha.
ALPHA = 16


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
    settings = config(spec, lora_alpha=spec.alpha or ALPHA, use_rslora=True)
    factors = kept_factors(work_folder)
    if factors is None:
        wrapped = _initialised(model, settings, spec, gradients)
        factors = {name: _factors(layer) for name, layer in lora_layers(wrapped)}
        keep_factors(factors, work_folder)
    else:
        wrapped = wrap(model, settings, spec)
        install(wrapped, factors)
    wrapped.initial_factors = factors  # type: ignore[assignment]
    return wrapped


def _initialised(
    model: PreTrainedModel, settings: LoraConfig, spec: Any, gradients: Gradients | None
) -> PeftModel:
    """The model with PEFT's LoRA-GA on it, which has taken the product out of the frozen weights."""
    if gradients is None:
        raise ValueError(
            f"run {spec.run}: method 'lora-ga' starts from the gradient of the training loss, but "
            "`prepare` was given no `gradients`"
        )
    layers: list[tuple[str, Any]] = list(get_target_modules(model, settings))
    for name, layer in layers:
        narrower = min(layer.weight.shape)
        if 2 * spec.rank > narrower:
            raise ValueError(
                f"{name}: rank {spec.rank} needs {2 * spec.rank} singular values of the gradient, "
                f"which has {narrower}; lower the rank"
            )

    def train_step() -> None:
        gradients(model, spec.calibration)
        for _, layer in layers:
            # PEFT divides by the number of backward passes; this is their mean already.
            layer.weight.grad.mul_(layer._peft_loraga_grad_count)

    settings.init_lora_weights = "lora_ga"  # type: ignore[assignment]
    settings.lora_ga_config = LoraGAConfig(direction="ArB2r", scale="stable", stable_gamma=16)
    preprocess_loraga(model, settings, train_step)
    wrapped = wrap(model, settings, spec)
    # What is saved is an ordinary LoRA, which takes nothing out of the model that it is loaded on.
    settings.init_lora_weights, settings.lora_ga_config = True, None
    return wrapped


def _factors(layer: Any) -> tuple[Tensor, Tensor]:
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return a.detach().clone(), b.detach().clone()
