"""PiSSA (Meng et al. 2024): LoRA that starts at the largest singular triplets of the weight.

Equal to PEFT's `init_lora_weights="pissa"` (exact SVD, alpha = r), which a test checks; done by
`svd.py` so that it shares its restart and saving with MiLoRA.
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
    """Add LoRA with the r largest singular triplets, and take them out of the frozen weight."""
    return prepare_svd(model, spec, slice(0, spec.rank), work_folder)
