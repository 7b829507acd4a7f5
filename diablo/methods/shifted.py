"""LoRA that does not start at zero: the common part of PiSSA, MiLoRA and LoRA-GA.

The frozen weight becomes W - s B0 A0, so a trained (A, B) means nothing without (A0, B0). They are
kept twice: in the work folder while training, so that a restart starts from the same numbers without
computing them again, and in the saved adapter, which is an ordinary LoRA of rank 2r for the ORIGINAL
model:

    (W - s B0 A0) + s B A  =  W + s [B, -B0] [A; A0]
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diablo.io import atomic_path

from .adapters import tidy
from .lora import ADAPTER, lora_layers

if TYPE_CHECKING:
    from peft import PeftModel

CACHE = "initial.safetensors"

#: Name of a layer -> its initial A (r x m1) and B (m2 x r).
Factors = dict[str, tuple[Tensor, Tensor]]


def start(
    model: PeftModel, work_folder: Path | None, initial_factors: Callable[[], Factors]
) -> PeftModel:
    """`model` with every A and B at its initial value, whose product the frozen weight no longer holds.

    Args:
        work_folder: keeps the initial factors; those of an earlier start are used again.
        initial_factors: computes them, at the first start.

    Raises:
        ValueError: if factors of an earlier start do not fit the model's layers.
    """
    cache = None if work_folder is None else work_folder / CACHE
    if cache is not None and cache.is_file():
        factors = _unpack(load_file(cache))
    else:
        factors = initial_factors()
        if cache is not None:
            with atomic_path(cache) as temporary:
                save_file(_pack(factors), temporary)
    for name, layer in lora_layers(model):
        _install(name, layer, factors.get(name))
    model.initial_factors = factors  # type: ignore[assignment]
    return model


def save(model: PeftModel, folder: Path) -> None:
    """Write the change against the original model as an ordinary LoRA of rank 2r, in PEFT's format.

    Args:
        model: its `initial_factors` are those that were taken out of the frozen weights.
    """
    tensors = {}
    for name, layer in lora_layers(model):
        a0, b0 = model.initial_factors[name]  # type: ignore[index]
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        prefix = f"{name}.lora_"
        tensors[prefix + "A.weight"] = torch.cat([a.detach().cpu(), a0.cpu().to(a.dtype)])
        tensors[prefix + "B.weight"] = torch.cat([b.detach().cpu(), -b0.cpu().to(b.dtype)], dim=1)
    settings: Any = copy.deepcopy(model.peft_config[ADAPTER])
    # Twice the rank at the same scale, which is alpha / r, or alpha / sqrt(r) with rslora.
    settings.r, settings.lora_alpha = (
        2 * settings.r,
        settings.lora_alpha * (math.sqrt(2) if settings.use_rslora else 2),
    )
    settings.base_model_name_or_path = model.get_base_model().name_or_path
    settings.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    tidy(folder)


def _install(name: str, layer: Any, kept: tuple[Tensor, Tensor] | None) -> None:
    weight, a, b = layer.get_base_layer().weight, layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
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
    names = [key.removesuffix(".A") for key in tensors if key.endswith(".A")]
    return {name: (tensors[f"{name}.A"], tensors[f"{name}.B"]) for name in names}
