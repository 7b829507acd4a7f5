"""Zero-shot: the model as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import Gradients


def prepare(
    model: Any,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> Any:
    """Freeze everything; there is nothing to train."""
    return model.requires_grad_(False)


def save(model: Any, folder: Path) -> None:
    """Leave an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)


def load(base_model: Any, folder: Path) -> Any:
    """The base model."""
    return base_model
