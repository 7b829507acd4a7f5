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


def kept_factors(work_folder: Path | None) -> Factors | None:
    """The initial factors of an earlier start of the run, None if there was none."""
    if work_folder is None or not (work_folder / CACHE).is_file():
        return None
    tensors = load_file(work_folder / CACHE)
    names = [key.removesuffix(".A") for key in tensors if key.endswith(".A")]
    return {name: (tensors[f"{name}.A"], tensors[f"{name}.B"]) for name in names}


def keep_factors(factors: Factors, work_folder: Path | None) -> None:
    """Keep the initial factors for a restart, if there is a work folder."""
    if work_folder is None:
        return
    tensors = {
        f"{name}.{letter}": tensor.contiguous()
        for name, pair in factors.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }
    with atomic_path(work_folder / CACHE) as temporary:
        save_file(tensors, temporary)


def install(model: PeftModel, factors: Factors) -> None:
    """Set every A and B to its initial value and take their product out of the frozen weight.

    Raises:
        ValueError: if `factors`, of an earlier start, do not fit the model's layers.
    """
    for name, layer in lora_layers(model):
        weight, a, b = layer.get_base_layer().weight, layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        kept = factors.get(name)
        if kept is None or kept[0].shape != a.weight.shape or kept[1].shape != b.weight.shape:
            raise ValueError(
                f"{name}: the initial factors kept in {CACHE} do not fit this run's layers; delete "
                "the run's work folder"
            )
        with torch.no_grad():
            a.weight.copy_(kept[0])
            b.weight.copy_(kept[1])
            # From the factors as they were stored (bf16-pure rounds them), so that nothing is lost.
            product = b.weight.float() @ a.weight.float()
            weight.copy_(weight.float() - layer.scaling[ADAPTER] * product)


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
