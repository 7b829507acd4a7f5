"""SMT, Sparse Matrix Tuning (He et al. 2025): only the square blocks with the largest gradients train.

Blocks of `block_size` x `block_size` (256 in the paper) of all targeted weights compete: a block's score
is the mean absolute value of its part of the gradient, accumulated over `calibration` training examples,
and the `chosen_blocks` best of the whole model train. They are trained in place by the same layer as
DiaBlo's blocks (`diablo.tuner`), and their gradient alone is computed.

One departure from the authors' code, which fine-tunes the whole model for 100 steps while it gathers
gradients: here the weights rest until the blocks are chosen, so that every method starts from the same
base model and trains for the same number of steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from diablo.io import read_json, write_json
from diablo.tuner import DiabloConfig

from . import Gradients
from .adapters import load, save, wrap
from .base import targeted_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

__all__ = ["block_scores", "load", "prepare", "save"]

CACHE = "chosen_blocks.json"

#: Module name -> [input block, output block] of each of its chosen blocks.
Positions = dict[str, list[list[int]]]


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Choose the `spec.chosen_blocks` blocks by one pass of `gradients`, and let only them train.

    Args:
        work_folder: keeps the choice; that of an earlier start is used again, without another pass.

    Raises:
        ValueError: if `spec.modules` match no linear layer, `spec.block_size` does not divide a targeted
            layer's widths, there are fewer blocks than `spec.chosen_blocks`, there are no `gradients`
            where they are needed or one is missing or not finite, or a kept choice is another run's.
    """
    cache = None if work_folder is None else Path(work_folder) / CACHE
    if cache is not None and cache.is_file():
        positions = _kept(cache, spec)
    else:
        positions = _choose(model, spec, gradients)
        if cache is not None:
            write_json(cache, {"block_size": spec.block_size, "positions": positions})
    config = DiabloConfig(
        block_size=spec.block_size,
        block_positions=positions,
        dropout=spec.dropout,
        target_modules=list(spec.modules),
    )
    return wrap(model, config, spec)


def block_scores(grad: Tensor, block_size: int) -> Tensor:
    """Mean absolute gradient of each block, float32.

    Args:
        grad: of a torch weight, (m2, m1); `block_size` divides both.

    Returns:
        (m1 / block_size, m2 / block_size): input block by output block.
    """
    size = block_size
    blocks = grad.unflatten(1, (-1, size)).unflatten(0, (-1, size))  # (outputs, size, inputs, size)
    return blocks.float().abs().mean(dim=(1, 3)).t()


def _kept(cache: Path, spec: Any) -> Positions:
    kept = read_json(cache)
    count = sum(len(chosen) for chosen in kept["positions"].values())
    if (kept["block_size"], count) != (spec.block_size, spec.chosen_blocks):
        raise ValueError(
            f"{cache}: it keeps {count} blocks of size {kept['block_size']}, but run {spec.run} needs "
            f"{spec.chosen_blocks} of size {spec.block_size}; delete the run's work folder"
        )
    return kept["positions"]


def _choose(model: nn.Module, spec: Any, gradients: Gradients | None) -> Positions:
    """The positions of the best blocks; the model is left as it was, but with nothing to train."""
    layers = _targeted(model, spec)
    _check(layers, spec)
    if gradients is None:
        raise ValueError(
            f"run {spec.run}: method 'smt' chooses its blocks by the gradients of the run's training "
            "examples, but prepare() was given no `gradients`"
        )
    model.requires_grad_(False)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    gradients(model, spec.calibration)
    scores = {name: _take_scores(name, layer, spec) for name, layer in layers.items()}
    return _best(scores, spec.chosen_blocks)


def _targeted(model: nn.Module, spec: Any) -> dict[str, nn.Linear]:
    layers = targeted_layers(model, spec.modules)
    if not layers:
        raise ValueError(f"run {spec.run}: modules {list(spec.modules)} match no linear layer")
    return layers


def _check(layers: dict[str, nn.Linear], spec: Any) -> None:
    size, total = spec.block_size, 0
    for name, layer in layers.items():
        m1, m2 = layer.in_features, layer.out_features
        if m1 % size or m2 % size:
            raise ValueError(
                f"run {spec.run}: block_size {size} does not divide the {m1} inputs and {m2} outputs of "
                f"{name}; give a common divisor of the widths of all targeted modules"
            )
        total += (m1 // size) * (m2 // size)
    if spec.chosen_blocks > total:
        raise ValueError(
            f"run {spec.run}: chosen_blocks {spec.chosen_blocks} is more than the {total} blocks of size "
            f"{size} that the targeted modules have; lower one of the two"
        )


def _take_scores(name: str, layer: nn.Linear, spec: Any) -> Tensor:
    """The scores of a layer's blocks, on the CPU; the gradient is cleared and the weight frozen."""
    grad, layer.weight.grad = layer.weight.grad, None
    layer.weight.requires_grad_(False)
    if grad is None or not bool(torch.isfinite(grad).all()):
        problem = "did not reach it" if grad is None else "is not finite"
        raise ValueError(f"run {spec.run}: cannot choose blocks of {name}: the gradient {problem}")
    return block_scores(grad, spec.block_size).cpu()


def _best(scores: dict[str, Tensor], count: int) -> Positions:
    """The `count` highest of all; among equals the first layer, input block, output block."""
    flat = torch.cat([table.flatten() for table in scores.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[flat.sort(descending=True, stable=True).indices[:count]] = True
    parts = chosen.split([table.numel() for table in scores.values()])
    positions = {
        name: part.view(table.shape).nonzero().tolist()
        for (name, table), part in zip(scores.items(), parts, strict=True)
    }
    return {name: places for name, places in positions.items() if places}
