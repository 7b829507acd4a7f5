"""LoRA (Hu et al. 2021): W + (alpha / r) B A, A random, B zero. PEFT's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from .adapters import load, save, wrap

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["ADAPTER", "config", "load", "lora_layers", "prepare", "save"]

#: PEFT's name for a model's only adapter.
ADAPTER = "default"


def config(spec: Any, **changes: Any) -> LoraConfig:
    """PEFT's settings for a run; `changes` are those of a variant of LoRA."""
    settings: dict[str, Any] = {
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": list(spec.modules),
    }
    return LoraConfig(**{**settings, **changes})


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Add LoRA to the targeted layers."""
    return wrap(model, config(spec), spec)


def lora_layers(model: PeftModel) -> list[tuple[str, Any]]:
    """(name, LoraLayer) of every targeted layer, in the model's order."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]
