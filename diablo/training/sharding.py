"""Frozen weights that do not fit one GPU: each process keeps a part of every layer (FSDP).

A layer's weights are gathered for its forward and its backward pass alone. What trains is small and whole
in every process, as are embeddings and head, so gradients, clipping, optimiser and checkpoints know
nothing of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from diablo.launch import SHARE, not_sharded
from diablo.tuner.layer import DiabloLinear

from . import together
from .gradients import BASE, parameter_group


def too_large(parameters: int, dtype: torch.dtype) -> bool:
    """Whether so many frozen weights leave too little of this process's GPU."""
    if together.processes() == 1 or not torch.cuda.is_available():
        return False
    memory = torch.cuda.get_device_properties(0).total_memory
    return parameters * dtype.itemsize > SHARE * memory


def check(spec: Any, artifact: str) -> None:
    """ValueError, which names run and setting, for what does not go with sharded weights."""
    if together.processes() == 1:
        raise ValueError(f"run {spec.run}: weights are sharded over several GPUs; give --gpus too")
    if reason := not_sharded(spec, artifact):
        raise ValueError(
            f"run {spec.run}: its weights are to be sharded over {together.processes()} GPUs, which does "
            f"not go with it: {reason}. Use GPUs with more memory, or a smaller model"
        )


def shard(model: nn.Module, device: str) -> None:
    """Leave this process its part of every layer's frozen weights, on its device.

    In place writes into a part of a weight cannot work: DiaBlo's layers take the `adapter` form.
    """
    for module in model.modules():
        if isinstance(module, DiabloLinear):
            module.implementation = dict.fromkeys(module.implementation, "adapter")
    mesh = init_device_mesh(device, (together.processes(),))
    layers = _layers(model)
    split = {parameter for layer in layers for parameter in layer.parameters()} - _adapter(model)
    whole = set(model.parameters()) - split
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    # The root has no weights of its own: it lets the layers fetch theirs ahead of time.
    fully_shard(model, mesh=mesh, ignored_params=whole)


def _layers(model: Any) -> list[nn.Module]:
    """The modules that a transformers model says must not be split: its layers."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _adapter(model: Any) -> set[nn.Parameter]:
    """The parameters of a PEFT model that are its adapter's, frozen ones (LoRI's A) too."""
    adapters = tuple(model.peft_config)
    named = model.named_parameters()
    return {parameter for name, parameter in named if parameter_group(name, adapters) != BASE}
