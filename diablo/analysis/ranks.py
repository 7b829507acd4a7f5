"""Effective ranks of the activations X and the output gradients g_Y of one decoder layer (Figure 3).

X (b, m1) is a linear module's input, g_Y (b, m2) the gradient of its output, for Y = X W. Their b rows are
all tokens of some of the run's own training examples, prompts and answers alike, each example by itself;
padding is left out. The loss is the training's: the mean over labelled tokens. A position from which no
labelled token can be reached has a row of zeros in g_Y (the last token of each example always, and most of
the prompt in the model's last layer): these rows are counted, not dropped, as a rank does not change with
them. The model is the one that is served, with the adapter merged, in float32 without dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diablo.analysis.spectra import effective_rank, numerical_rank, singular_values, tolerance
from diablo.data.protocol import protocol_of
from diablo.io import read_jsonl, write_json
from diablo.methods import load_for_inference
from diablo.methods.base import is_encoder_decoder
from diablo.provenance import Provenance
from diablo.training.examples import Example, encode, padded_rows, select, split
from diablo.training.loss import summed_loss

#: Powers of the singular values whose sums are taken: squares, and the values themselves.
POWERS = (2, 1)

#: Examples of a forward pass: of a large model all layers above the probed one keep their activations.
BATCH = 4


def ranks(
    spec: Any, probe: Any, run_folder: str | Path, threads: int | None = None
) -> dict[str, Any]:
    """Write `ranks/<probe>.json`: the ranks of X and g_Y of each linear module of one layer.

    Args:
        spec: RunSpec.
        probe: ProbeSpec: layer, examples, thresholds.
        run_folder: holds `adapter/`.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        What was written.

    Raises:
        ValueError: if data or adapter are missing, the model has no such layer or two stacks of layers.
    """
    from transformers import AutoTokenizer

    if threads is not None:
        torch.set_num_threads(threads)
    if spec.data_path is None or is_encoder_decoder(spec.model_path):
        raise ValueError(
            f"run {spec.run}: ranks are of fine-tuned models with one stack of layers only"
        )
    run_folder = Path(run_folder)
    adapter, data = run_folder / "adapter", Path(spec.data_path) / "train.jsonl"
    provenance = Provenance("ranks", [data, adapter / "provenance.json"], probe.seed)
    records, _ = split(
        select(read_jsonl(data), spec.train_limit, spec.seed), spec.held_out, spec.seed
    )
    chosen = select(records, probe.examples, probe.seed)
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    encoded = encode(tokenizer, protocol_of(spec), chosen, spec.max_length)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_for_inference(spec, adapter, device, torch.float32)
    pairs = layer_matrices(model, probe.layer, encoded.examples)
    modules = describe(pairs, probe.thresholds, device)
    tokens = len(next(iter(pairs.values()))[0])
    found = {
        "run": spec.run,
        "probe": probe.model_dump(),
        "examples": len(encoded.examples),
        "tokens": tokens,
        "modules": modules,
        "provenance": provenance.finish() | {"device_type": device, "dtype": "float32"},
    }
    write_json(run_folder / "ranks" / f"{probe.name}.json", found)
    print(f"ranks of {spec.run}: layer {probe.layer}, {len(modules)} modules, {tokens} tokens")
    return found


def layer_matrices(
    model: Any, layer: int, examples: Sequence[Example], batch_size: int = BATCH
) -> dict[str, tuple[Tensor, Tensor]]:
    """X (b, m1) and g_Y (b, m2) of each linear module of a decoder layer, by its name inside the layer.

    Both are on the CPU in the model's type; b is the number of all tokens of the examples, in batches as
    they are given. Parameters of the model must not require gradients: nothing below the layer is kept.

    Raises:
        ValueError: if the model has no such layer.
        FloatingPointError: if the loss is not finite.
    """
    layers = model.get_decoder().layers
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer = {layer}: the model has {len(layers)} layers")
    block = layers[layer]
    linear = {name: one for name, one in block.named_modules() if isinstance(one, nn.Linear)}
    kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in linear}
    # What the hooks of a batch take: its tokens without the padding.
    real: list[Tensor] = []

    def keep(rows: list[Tensor], values: Tensor) -> None:
        rows.append(values.detach()[real[0]].cpu())

    def watch(name: str, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if not output.requires_grad:  # the loss tries the model's head once, without gradients
            return
        inputs, grads = kept[name]
        keep(inputs, args[0])
        output.register_hook(partial(keep, grads))

    def start(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args[0].detach().requires_grad_(True), *args[1:]

    hooks = [one.register_forward_hook(partial(watch, name)) for name, one in linear.items()]
    hooks.append(block.register_forward_pre_hook(start))
    batches = [examples[at : at + batch_size] for at in range(0, len(examples), batch_size)]
    micros = [padded_rows(list(group), pad=0) for group in batches]
    targets = sum(len(micro["targets"]) for micro in micros)
    try:
        for group, micro in zip(batches, micros, strict=True):
            lengths = torch.tensor([len(example["input_ids"]) for example in group])
            real[:] = [torch.arange(int(lengths.max())) < lengths[:, None]]
            real[0] = real[0].to(model.device)
            inputs = {key: value.to(model.device) for key, value in micro["inputs"].items()}
            at, labels = (micro[key].to(model.device) for key in ("positions", "targets"))
            loss = summed_loss(model, at, labels, inputs) / targets
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss of the probed examples is {loss.item()}")
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (torch.cat(x), torch.cat(g)) for name, (x, g) in kept.items()}


def describe(
    pairs: dict[str, tuple[Tensor, Tensor]], thresholds: Sequence[float], device: str
) -> list[dict[str, Any]]:
    """The ranks of each module's X and g_Y, for the JSON; q, k and v share one X, as gate and up do."""
    known: list[tuple[Tensor, dict[str, Any]]] = []

    def of(matrix: Tensor) -> dict[str, Any]:
        for other, found in known:
            if other.shape == matrix.shape and torch.equal(other, matrix):
                return found
        known.append((matrix, matrix_ranks(matrix, thresholds, device)))
        return known[-1][1]

    return [
        {"name": name, "inputs": x.shape[1], "outputs": g.shape[1], "x": of(x), "g": of(g)}
        for name, (x, g) in pairs.items()
    ]


def matrix_ranks(matrix: Tensor, thresholds: Sequence[float], device: str) -> dict[str, Any]:
    """Numerical and effective ranks of a (b, m) matrix.

    Returns:
        `rows`, `width`; `zero_rows`, rows of zeros alone; `rank` by `tolerance` of the `largest` singular
        value; `effective`: a list of `power`, `threshold` and `rank`.
    """
    rows, width = matrix.shape
    values = singular_values(matrix.to(device))
    relative = tolerance(rows, width, matrix.dtype)
    return {
        "rows": rows,
        "width": width,
        "zero_rows": int((matrix == 0).all(dim=1).sum()),
        "rank": numerical_rank(values, relative),
        "tolerance": relative,
        "largest": values[0].item(),
        "effective": [
            {
                "power": power,
                "threshold": threshold,
                "rank": effective_rank(values, threshold, power),
            }
            for power in POWERS
            for threshold in thresholds
        ],
    }
