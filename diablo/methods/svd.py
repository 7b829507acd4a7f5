"""LoRA that starts at singular triplets of the weight: the common part of PiSSA and MiLoRA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adapters import wrap
from .lora import ADAPTER, config, lora_layers
from .shifted import start

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def prepare_svd(
    model: PreTrainedModel, spec: Any, triplets: slice, work_folder: Path | None
) -> PeftModel:
    """Add LoRA that starts at `triplets` (of singular values in falling order) of each weight.

    Args:
        spec: `alpha` None means r, as both papers have it.
        work_folder: keeps the initial factors; those of an earlier start are used again.

    Raises:
        ValueError: if a targeted layer is narrower than the rank, or kept factors do not fit.
    """
    wrapped = wrap(model, config(spec, lora_alpha=spec.alpha or spec.rank), spec)
    return start(
        wrapped,
        work_folder,
        lambda: {n: _initial_factors(n, layer, triplets) for n, layer in lora_layers(wrapped)},
    )


def singular_factors(weight: Tensor, triplets: slice, scale: float) -> tuple[Tensor, Tensor]:
    """A (r × m1) and B (m2 × r) with scale · B A = the part of `weight` (m2 × m1) in `triplets`.

    Computed in float32 by a full SVD; A = sqrt(S / scale) V^T, B = U sqrt(S / scale).
    """
    u, s, vt = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    root = (s[triplets] / scale).sqrt()
    a = (root[:, None] * vt[triplets]).contiguous()
    b = (u[:, triplets] * root).contiguous()
    return a, b


def _initial_factors(name: str, layer: Any, triplets: slice) -> tuple[Tensor, Tensor]:
    weight, rank = layer.get_base_layer().weight, layer.r[ADAPTER]
    if rank > min(weight.shape):
        raise ValueError(
            f"{name}: rank {rank} is more than its {min(weight.shape)} singular values; lower the rank"
        )
    return singular_factors(weight, triplets, layer.scaling[ADAPTER])
