"""A part of a full fine-tuning, times γ (section 4.6): `W0 + γ (mask ∘ ΔW)` as an adapter with D = γ (mask ∘ ΔW).

Nothing trains. What is kept is what the pattern of the same name would train (`diagonal` is DiaBlo's), so
the artifact is an ordinary adapter that is merged, audited and served like any other. γ is searched by
`diablo.training.retained`; the folder has the search in `retained.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.tuner import DiabloConfig

from .adapters import load, save, wrap

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["fill", "load", "prepare", "save"]


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """An adapter of `spec.pattern` on the targeted layers, with D = 0."""
    config = DiabloConfig(
        pattern=spec.pattern,
        pattern_seed=spec.seed,
        num_blocks=spec.num_blocks,
        target_modules=list(spec.modules),
        task_type="CAUSAL_LM",
    )
    return wrap(model, config, spec)


def fill(model: PeftModel, kept: Mapping[str, Tensor]) -> None:
    """Give a prepared model its D.

    Args:
        kept: by module name, the blocks of the layer's layout.

    Raises:
        ValueError: if there is an adapter without blocks, or blocks without an adapter.
    """
    import torch

    from diablo.tuner.adapters import DiabloLayer

    layers = {m.module_name: m for m in model.modules() if isinstance(m, DiabloLayer)}
    if unlike := layers.keys() ^ kept.keys():
        raise ValueError(f"{min(unlike)}: has an adapter or something that is kept, not both")
    with torch.no_grad():
        for name, layer in layers.items():
            layer.diablo_blocks["default"].copy_(kept[name])
