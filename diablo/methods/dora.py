"""DoRA (Liu et al. 2024): LoRA on the direction, and a trained magnitude per output. PEFT's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import load, save, wrap
from .lora import config

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["load", "prepare", "save"]


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Add DoRA to the targeted layers."""
    return wrap(model, config(spec, use_dora=True), spec)
