"""Quantising layer by layer: each decoder layer sees what the quantised layers before it put out.

Only one decoder layer's Hessians exist at a time. A finished layer is a file in the work folder; a
restart loads those files, replays their layers and goes on, to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from diablo.data.protocol import unknown
from diablo.io import atomic_path

from .quantisers import Quantised, check_group, quantise_weight


class _Stop(Exception):
    """Ends a forward pass once everything asked for was seen."""


@torch.no_grad()
def quantise_layers(
    model: Any, windows: list[torch.Tensor], spec: Any, work: Path, device: str
) -> dict[str, Quantised]:
    """Quantise the linear layers of a causal model's decoder layers, in place.

    Args:
        model: on the CPU, in evaluation mode; its weights become those that fine-tuning starts from.
        windows: token ids to calibrate with, each (tokens,), all of one length; may be empty.
        spec: a QuantSpec.
        work: folder of the finished layers' files.
        device: where a layer is while it is worked on.

    Returns:
        What became of each module, by its full name; the tensors are on the CPU.

    Raises:
        ValueError: names the module that cannot be quantised, and why.
    """
    layers: list[Any] = decoder_layers(model)
    targets = [target_modules(model, layer, spec.modules) for layer in layers]
    for names in targets:
        for name in names:
            check_group(spec, name, model.get_submodule(name).in_features)
    inputs, keywords = capture(model, layers[0], windows)
    keywords = _to(keywords, device)
    done: dict[str, Quantised] = {}
    bar = tqdm(list(zip(layers, targets, strict=True)), desc=f"quantise {spec.name}", unit="layer")
    for index, (layer, names) in enumerate(bar):
        modules = {name: model.get_submodule(name) for name in names}
        path = work / f"layer-{index:03d}.safetensors"
        layer.to(device)

        def run(hidden: torch.Tensor, layer: Any = layer) -> torch.Tensor:
            return layer(hidden.to(device), **keywords)

        if path.is_file():
            results = load_layer(path)
            for name, result in results.items():
                modules[name].weight.copy_(result.start())
        else:
            results = quantise_layer(modules, inputs, run, spec)
            save_layer(path, results)
        done |= results
        inputs = [] if layer is layers[-1] else [run(hidden).to("cpu") for hidden in inputs]
        layer.to("cpu")
    return done


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers of a causal language model; ValueError if it has none where expected."""
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(
            f"{type(model).__name__}: no list of decoder layers; use a Llama-like model"
        )
    return list(layers)


def target_modules(model: nn.Module, layer: nn.Module, wanted: list[str] | None) -> list[str]:
    """Full names of a decoder layer's linear layers, or of those whose last name is wanted."""
    parts = set(layer.modules())
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module in parts
    ]
    known = {name.rpartition(".")[2] for name in names}
    for name in wanted or []:
        if name not in known:
            raise ValueError(
                unknown("module", name, sorted(known), "modules of the quantised model")
            )
    return [name for name in names if wanted is None or name.rpartition(".")[2] in wanted]


def capture(
    model: nn.Module, first: nn.Module, windows: list[torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """What reaches the first decoder layer: hidden states (1, tokens, width) a window, and keywords.

    The keywords (positions, mask) are the same for all windows, which have one length.
    """
    hidden: list[torch.Tensor] = []
    keywords: dict[str, Any] = {}

    def keep(module: nn.Module, args: tuple, kwargs: dict) -> None:
        hidden.append(args[0])
        keywords.update(kwargs)
        raise _Stop

    handle = first.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        for window in windows:
            try:
                model(input_ids=window[None], use_cache=False)
            except _Stop:
                continue
    finally:
        handle.remove()
    return hidden, keywords


def quantise_layer(
    modules: dict[str, nn.Linear],
    inputs: list[torch.Tensor],
    run: Callable[[torch.Tensor], torch.Tensor],
    spec: Any,
) -> dict[str, Quantised]:
    """Quantise the linear layers of one decoder layer in place.

    With `spec.true_sequential` each set of layers that read the same input sees the sets before it
    quantised; without, all see the float layer.
    """
    sets = input_sets(modules, inputs, run) if inputs else [list(modules)]
    steps = [[names] for names in sets] if spec.true_sequential else [sets]
    results: dict[str, Quantised] = {}
    for step in steps:
        hessians = gather(modules, step, inputs, run)
        for names in step:
            hessian = hessians.pop(names[0], None)
            for name in names:
                weight = modules[name].weight
                result = quantise_weight(spec, weight, hessian, name)
                weight.copy_(result.start())
                result.tensors = {key: value.cpu() for key, value in result.tensors.items()}
                results[name] = result
    return results


def input_sets(
    modules: dict[str, nn.Linear],
    inputs: list[torch.Tensor],
    run: Callable[[torch.Tensor], torch.Tensor],
) -> list[list[str]]:
    """Modules that read the same tensor, in the order of the forward pass (q, k, v; o; gate, up; down)."""
    seen: list[tuple[torch.Tensor, list[str]]] = []

    def note(name: str, x: torch.Tensor) -> None:
        for tensor, names in seen:
            if tensor is x:
                names.append(name)
                return
        seen.append((x, [name]))

    with _watching(modules, note):
        run(inputs[0])
    return [names for _, names in seen]


def gather(
    modules: dict[str, nn.Linear],
    sets: list[list[str]],
    inputs: list[torch.Tensor],
    run: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """XᵀX / tokens (float32) of each set's inputs, under the set's first name; {} without inputs.

    Raises:
        ValueError: names the module whose inputs are not finite.
    """
    hessians: dict[str, torch.Tensor] = {}
    if not inputs:
        return hessians
    last = sets[-1][0]

    def add(name: str, x: torch.Tensor) -> None:
        rows = x.flatten(0, -2).float()
        if name not in hessians:
            hessians[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
        hessians[name].addmm_(rows.t(), rows)
        if name == last:
            raise _Stop

    with _watching({names[0]: modules[names[0]] for names in sets}, add):
        for hidden in inputs:
            try:
                run(hidden)
            except _Stop:
                continue
    tokens = sum(hidden.shape[1] for hidden in inputs)
    for name, hessian in hessians.items():
        hessian /= tokens
        if not torch.isfinite(hessian).all():
            raise ValueError(
                f"{name}: its calibration activations have NaN or infinite entries (or overflow "
                "when squared); is the model broken, or float16 too narrow for it?"
            )
    return hessians


@contextmanager
def _watching(
    modules: dict[str, nn.Linear], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `see(name, input)` whenever one of the modules is about to run."""

    def hook(name: str) -> Callable[[nn.Module, tuple], None]:
        return lambda module, args: see(name, args[0])

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def save_layer(path: Path, results: dict[str, Quantised]) -> None:
    """Write a finished decoder layer: the modules' tensors, their facts in the metadata."""
    tensors = {
        f"{name}.{key}": tensor.contiguous()
        for name, result in results.items()
        for key, tensor in result.tensors.items()
    }
    facts = {name: result.facts for name, result in results.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"facts": json.dumps(facts)})


def load_layer(path: Path) -> dict[str, Quantised]:
    """What `save_layer` wrote."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        results = {name: Quantised({}, its) for name, its in facts.items()}
        for key in file.keys():  # noqa: SIM118 (a safetensors file is no mapping)
            name, _, part = key.rpartition(".")
            results[name].tensors[part] = file.get_tensor(key)
    return results


def _to(value: Any, device: str) -> Any:
    """Tensors in keywords, also inside tuples, moved to a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_to(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value
