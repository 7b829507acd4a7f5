"""LoRA that starts at singular triplets of the weight: the common part of PiSSA and MiLoRA.

The frozen weight becomes W - s B0 A0, so a trained (A, B) means nothing without (A0, B0). They are
kept twice: in the work folder while training, so that a restart starts from the same numbers without
another SVD, and in the saved adapter, which is an ordinary LoRA of rank 2r for the ORIGINAL model:

    (W - s B0 A0) + s B A  =  W + s [B, -B0] [A; A0]
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diablo.io import atomic_path

from .adapters import tidy, wrap
from .lora import config

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ADAPTER = "default"
CACHE = "initial.safetensors"

Factors = dict[str, tuple[Tensor, Tensor]]


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
    settings = config(spec, lora_alpha=spec.alpha or spec.rank)
    wrapped = wrap(model, settings, spec)
    cache = None if work_folder is None else Path(work_folder) / CACHE
    if cache is not None and cache.is_file():
        factors = _unpack(load_file(cache))
    else:
        factors = {
            name: _initial_factors(name, layer, triplets) for name, layer in _layers(wrapped)
        }
        if cache is not None:
            with atomic_path(cache) as temporary:
                save_file(_pack(factors), temporary)
    for name, layer in _layers(wrapped):
        _install(name, layer, factors)
    wrapped.initial_factors = factors  # type: ignore[assignment]
    return wrapped


def singular_factors(weight: Tensor, triplets: slice, scale: float) -> tuple[Tensor, Tensor]:
    """A (r × m1) and B (m2 × r) with scale · B A = the part of `weight` (m2 × m1) in `triplets`.

    Computed in float32 by a full SVD; A = sqrt(S / scale) V^T, B = U sqrt(S / scale).
    """
    u, s, vt = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    root = (s[triplets] / scale).sqrt()
    a = (root[:, None] * vt[triplets]).contiguous()
    b = (u[:, triplets] * root).contiguous()
    return a, b


def save(model: PeftModel, folder: Path) -> None:
    """Write the change against the original model as an ordinary LoRA of rank 2r, in PEFT's format."""
    tensors = {}
    for name, layer in _layers(model):
        a0, b0 = model.initial_factors[name]  # type: ignore[index]
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        prefix = f"{name}.lora_"
        tensors[prefix + "A.weight"] = torch.cat([a.detach().cpu(), a0.cpu().to(a.dtype)])
        tensors[prefix + "B.weight"] = torch.cat([b.detach().cpu(), -b0.cpu().to(b.dtype)], dim=1)
    settings: Any = copy.deepcopy(model.peft_config[ADAPTER])
    # Twice the rank and twice alpha: the same scale alpha / r.
    settings.r, settings.lora_alpha = 2 * settings.r, 2 * settings.lora_alpha
    settings.base_model_name_or_path = model.get_base_model().name_or_path
    settings.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    tidy(folder)


def _layers(model: PeftModel) -> list[tuple[str, Any]]:
    """(name, LoraLayer) of every targeted layer."""
    from peft.tuners.lora import LoraLayer

    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer)]


def _initial_factors(name: str, layer: Any, triplets: slice) -> tuple[Tensor, Tensor]:
    weight, rank = layer.get_base_layer().weight, layer.r[ADAPTER]
    if rank > min(weight.shape):
        raise ValueError(
            f"{name}: rank {rank} is more than its {min(weight.shape)} singular values; lower the rank"
        )
    return singular_factors(weight, triplets, layer.scaling[ADAPTER])


def _install(name: str, layer: Any, factors: Factors) -> None:
    """Set A and B to their initial values and take their product out of the frozen weight."""
    weight, a, b = layer.get_base_layer().weight, layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    kept = factors.get(name)
    if kept is None or kept[0].shape != a.weight.shape or kept[1].shape != b.weight.shape:
        raise ValueError(
            f"{name}: the initial factors kept in {CACHE} do not fit this run's layers; delete the "
            "run's work folder"
        )
    with torch.no_grad():
        a.weight.copy_(kept[0])
        b.weight.copy_(kept[1])
        # From the factors as they were stored (bf16-pure rounds them), so that nothing is lost.
        product = b.weight.float() @ a.weight.float()
        weight.copy_(weight.float() - layer.scaling[ADAPTER] * product)


def _pack(factors: Factors) -> dict[str, Tensor]:
    return {
        f"{name}.{letter}": tensor
        for name, pair in factors.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def _unpack(tensors: dict[str, Tensor]) -> Factors:
    return {
        name.removesuffix(".A"): (tensor, tensors[name.removesuffix("A") + "B"])
        for name, tensor in tensors.items()
        if name.endswith(".A")
    }
