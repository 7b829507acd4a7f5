"""MiLoRA (Wang et al. 2024): LoRA that starts at the smallest singular triplets of the weight.

Our own initialisation after the authors' definition (PEFT has none): float32 full SVD W = U S V^T,
its last r triplets, A = sqrt(S / s) V^T, B = U sqrt(S / s), frozen weight W - s B A, with s = alpha / r
and alpha = r.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import load
from .shifted import save
from .svd import prepare_svd

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
    """Add LoRA with the r smallest singular triplets, and take them out of the frozen weight."""
    return prepare_svd(model, spec, slice(-spec.rank, None), work_folder)
