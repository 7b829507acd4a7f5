"""DiaBlo: trainable diagonal blocks of the weights. The method itself is `diablo.tuner`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.tuner import DiabloConfig

from .adapters import load, save, wrap

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
    """Add `spec.num_blocks` blocks to each targeted layer."""
    config = DiabloConfig(
        num_blocks=spec.num_blocks,
        dropout=spec.dropout,
        target_modules=list(spec.modules),
    )
    return wrap(model, config, spec)
