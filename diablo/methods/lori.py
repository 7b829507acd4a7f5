"""LoRI (Zhang et al. 2025): LoRA whose random A stays as it is, so that only B trains, from zero.

LoRI-D trains all of B. LoRI-S trains B again from zero, with the same A, but only those entries of all
layers together that are largest in magnitude in a finished LoRI-D adapter (`diablo.shapes.lori_kept`);
the others stay zero.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from diablo.shapes import lori_kept

from .adapters import load, save, wrap
from .lora import ADAPTER, config, lora_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["largest", "load", "prepare", "save"]

WEIGHTS = "adapter_model.safetensors"


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Add LoRA with A frozen to the targeted layers, for `lori-s` with most of B held at zero.

    Args:
        spec: `mask_adapter` is the folder of the finished LoRI-D adapter, for `lori-s`.

    Raises:
        ValueError: if that folder has no adapter, or one of other layers or another rank.
    """
    wrapped = wrap(model, config(spec), spec)
    for _, layer in lora_layers(wrapped):
        layer.lora_A[ADAPTER].requires_grad_(False)
    if spec.method == "lori-s":
        _restrict(wrapped, Path(spec.mask_adapter))
    return wrapped


def largest(matrices: list[Tensor], count: int) -> list[Tensor]:
    """Masks of the `count` entries that are largest in magnitude in all matrices together.

    Of entries that are equal, the first ones count as larger.
    """
    magnitudes = torch.cat([matrix.abs().flatten() for matrix in matrices])
    order = torch.sort(magnitudes, descending=True, stable=True).indices
    mask = torch.zeros(len(magnitudes), dtype=torch.bool)
    mask[order[:count]] = True
    parts = mask.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


def _restrict(model: PeftModel, folder: Path) -> None:
    """Take A from the adapter in `folder`, and hold at zero all entries of B that are small in it."""
    finished = _finished(model, folder)
    layers = lora_layers(model)
    dense = [finished[f"{name}.lora_B.weight"] for name, _ in layers]
    entries = sum(matrix.numel() for matrix in dense)
    masks = largest(dense, lori_kept(entries))
    for (name, layer), mask in zip(layers, masks, strict=True):
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        with torch.no_grad():
            a.copy_(finished[f"{name}.lora_A.weight"])
        # Zero without a gradient stays zero under every optimiser, and weight decay.
        b.register_hook(partial(_without, held=~mask.to(b.device)))
    model.masked_entries = entries - lori_kept(entries)  # type: ignore[assignment]


def _without(gradient: Tensor, held: Tensor) -> Tensor:
    # Filled, not multiplied: fp16 overflows to inf, and inf * 0 is not 0.
    return gradient.masked_fill(held, 0)


def _finished(model: PeftModel, folder: Path) -> dict[str, Tensor]:
    """The tensors of a finished adapter that has the layers and the rank of `model`."""
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"mask_adapter {folder}: no {WEIGHTS}; finish its LoRI-D run first")
    finished = load_file(folder / WEIGHTS)
    expected = {}
    for name, layer in lora_layers(model):
        expected[f"{name}.lora_A.weight"] = layer.lora_A[ADAPTER].weight.shape
        expected[f"{name}.lora_B.weight"] = layer.lora_B[ADAPTER].weight.shape
    shapes = {key: tensor.shape for key, tensor in finished.items()}
    for key in sorted(expected.keys() | shapes.keys()):
        if expected.get(key) != shapes.get(key):
            raise ValueError(
                f"mask_adapter {folder}: {key} is {_shape(shapes.get(key))} there and "
                f"{_shape(expected.get(key))} here; give LoRI-S the modules and the rank of its LoRI-D run"
            )
    return finished


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else " × ".join(map(str, shape))
