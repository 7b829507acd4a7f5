"""Full fine-tuning: every parameter trains; the artifact is a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from . import Gradients


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PreTrainedModel:
    """Let all parameters train."""
    return model.requires_grad_(True)


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a Hugging Face model folder (safetensors)."""
    model.save_pretrained(folder)


def load(base_model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The saved model, on the base model's device and in its type."""
    model = type(base_model).from_pretrained(folder, dtype=base_model.dtype)
    return model.to(base_model.device)  # type: ignore[arg-type]
