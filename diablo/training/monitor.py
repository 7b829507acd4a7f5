"""The full weights' gradient while only their diagonal blocks train (the paper's Figure 4).

Before the first step and at each epoch's end the gradient of the mean loss per labelled token is formed
over a fixed set of the run's own training examples, and its norms are kept: `gradients.jsonl`, a line an
epoch. A frozen weight needs no gradient of its own for that: with Y = X (W0 + D), hooks add up X^T g_Y, whose
diagonal blocks are D's gradient. Nothing of the training changes: no random number is drawn, and no
`.grad` is touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from diablo.io import read_jsonl, write_jsonl
from diablo.shapes import live_parameters

from .examples import Example
from .loss import summed_loss

if TYPE_CHECKING:
    from diablo.tuner.layer import DiabloLinear
    from diablo.tuner.layout import Layout

    from .trainer import StepTrainer

#: The most that sums of gradients take at a time, in bytes: further layers wait for another pass.
SUMS_BYTES = {"cpu": 1 << 30, "cuda": 32 << 30}

#: float16 ends at 6e-8 and 65,504. Losses are summed, not averaged, while gradients are formed: a training step
#: of some thousand labelled tokens is scaled like this.
FP16_SCALE = 16.0

FILE = "gradients.jsonl"


def adapted_layers(model: nn.Module) -> dict[str, DiabloLinear]:
    """The layers with blocks, by the names that they have in the base model."""
    from diablo.tuner.layer import DiabloLinear

    return {
        layer.module_name: layer for layer in model.modules() if isinstance(layer, DiabloLinear)
    }


@contextmanager
def collected_gradients(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """While open, each backward pass adds X^T g_Y of each layer to what is yielded, (m1, m2) by name.

    X (tokens, m1) is a layer's input, g_Y (tokens, m2) the gradient of its output. Sums are kept in float32,
    or wider where the model is.
    """
    sums: dict[str, Tensor] = {}

    def add(name: str, inputs: Tensor, grad: Tensor) -> None:
        x, g = inputs.flatten(0, -2), grad.detach().flatten(0, -2)
        wide = torch.promote_types(torch.promote_types(x.dtype, g.dtype), torch.float32)
        product = x.to(wide).t().mm(g.to(wide))
        sums[name] = sums[name].add_(product) if name in sums else product

    def watch(name: str, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # Recomputed under checkpointing: only the pass that backward goes through calls its hook.
        if output.requires_grad:
            output.register_hook(partial(add, name, args[0].detach()))

    hooks = [
        layer.register_forward_hook(partial(watch, name))  # type: ignore[arg-type]
        for name, layer in layers.items()
    ]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def norms(gradient: Tensor, layout: Layout, num_blocks: int, scale: float = 1.0) -> dict[str, Any]:
    """Frobenius norms of a full gradient (m1, m2) and of its diagonal blocks, and how many entries each has.

    Padding of the blocks counts nowhere. The gradient is first divided by `scale`.
    """
    # In float64: squares of small entries underflow in float32.
    full = torch.linalg.vector_norm(gradient, dtype=torch.float64) / scale
    blocks = torch.linalg.vector_norm(layout.read(gradient.t()), dtype=torch.float64) / scale
    return {
        "full": full.item(),
        "blocks": blocks.item(),
        "full_entries": gradient.numel(),
        "blocks_entries": live_parameters([(gradient.shape[0], gradient.shape[1])], num_blocks),
    }


class GradientMonitor(TrainerCallback):
    """Appends the norms of the full weights' gradients to a file, before training and after each epoch.

    A line has `epoch`, `step`, `examples`, `targets` (labelled tokens), `loss` (their mean) and, for each
    layer in `modules`, what :func:`norms` gives.

    Args:
        path: the file; what is there must be of the steps that are done (:func:`resume_gradients`).
        spec: the run; `gradient_examples` of its examples are drawn by its seed (all, if there are no more).
        examples: its training examples.
        batches: a list of examples -> their micro batches, as the training forms them.
        prepared: moves a micro batch to the model's device.

    Raises:
        ValueError: while training starts, if no layer of the model has blocks.
        FloatingPointError: if the loss of the examples or a gradient is not finite.
    """

    def __init__(
        self,
        path: Path,
        spec: Any,
        examples: Sequence[Example],
        batches: Callable[[list[Example]], dict[str, Any]],
        prepared: Callable[[dict[str, Any]], dict[str, Any]],
    ):
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(spec.seed))
        chosen = order[: spec.gradient_examples].sort().values.tolist()
        self.path, self.spec = path, spec
        self.examples = [examples[index] for index in chosen]
        self.per_epoch = steps_per_epoch(len(examples), spec.batch_size)
        self._batches, self._prepared = batches, prepared

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(kwargs["model"], 0, fp16=args.fp16)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Not `on_epoch_end`, which comes after the step's checkpoint: a kill in between would lose the line.
        if state.global_step % self.per_epoch == 0:
            self._measure(kwargs["model"], state.global_step, fp16=args.fp16)

    def _measure(self, model: nn.Module, step: int, fp16: bool) -> None:
        layers = adapted_layers(model)
        if not layers:
            raise ValueError(
                f"run {self.spec.run}: no layer has blocks; leave gradient_examples out"
            )
        was_training = model.training
        model.eval()
        batch = self._batches(self.examples)
        scale = FP16_SCALE if fp16 else 1.0
        # Divided out of the sums afterwards, so that no type's range matters to a mean over many tokens.
        whole = scale * batch["targets"]
        blocks = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found: dict[str, dict[str, Any]] = {}
        for part in parts_of(layers, SUMS_BYTES[blocks[0].device.type]):
            loss = torch.zeros((), dtype=torch.float64, device=blocks[0].device)
            with collected_gradients({name: layers[name] for name in part}) as sums:
                for micro in batch["micro_batches"]:
                    loss += self._backward(model, micro, scale, blocks)
            for name in part:
                (layout,) = layers[name].layouts.values()
                found[name] = norms(sums[name], layout, layout.shape[0], whole)
                if not math.isfinite(found[name]["full"]):
                    raise FloatingPointError(
                        f"run {self.spec.run}: the gradient of {name} is not finite after step {step}"
                    )
            sums.clear()
        model.train(was_training)
        line = {
            "epoch": step // self.per_epoch,
            "step": step,
            "examples": len(self.examples),
            "targets": batch["targets"],
            "loss": loss.item() / whole,
            "modules": found,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def _backward(
        self, model: nn.Module, micro: dict[str, Any], scale: float, blocks: list[nn.Parameter]
    ) -> Tensor:
        """One micro batch's backward pass, for the hooks alone; its summed loss times `scale`."""
        batch = self._prepared(dict(micro))
        loss = summed_loss(model, batch["positions"], batch["targets"], batch["inputs"]) * scale
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"run {self.spec.run}: the loss of the examples behind {FILE} is {loss.item()}"
            )
        # Not `backward()`: the next step's gradients start from what is in `.grad`.
        torch.autograd.grad(loss, blocks, allow_unused=True)
        return loss.detach().double()


def parts_of(layers: Mapping[str, DiabloLinear], budget: int) -> list[list[str]]:
    """Names of the layers, in parts whose sums of gradients fit into so many bytes (or of one layer)."""
    parts: list[list[str]] = []
    used = 0
    for name, layer in layers.items():
        size = 4 * layer.in_features * layer.out_features
        if parts and used + size <= budget:
            parts[-1].append(name)
            used += size
        else:
            parts.append([name])
            used = size
    return parts


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimiser steps of an epoch; its last batch may be smaller."""
    return -(-examples // batch_size)


def gradient_monitor(work_folder: Path, spec: Any, trainer: StepTrainer) -> GradientMonitor:
    """The monitor of a run, on its training examples and in micro batches as its trainer forms them."""
    examples: Any = trainer.train_dataset
    prepared = trainer._prepare_inputs
    return GradientMonitor(work_folder / FILE, spec, examples, trainer.data_collator, prepared)


def resume_gradients(work_folder: Path, spec: Any, examples: int, steps: int) -> bool:
    """Cut a run's file back to the epochs within its first `steps`; False (and no line) if it lacks one.

    A killed run's file reaches beyond its checkpoint, and its last line may be a part of one.

    Args:
        examples: the run's training examples.
    """
    if not getattr(spec, "gradient_examples", None):
        return True
    path, per_epoch = work_folder / FILE, steps_per_epoch(examples, spec.batch_size)
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    wanted = [epoch * per_epoch for epoch in range(steps // per_epoch + 1)] if steps else []
    lines = [line for line in whole if line.endswith("\n")][: len(wanted)]
    complete = [json.loads(line)["step"] for line in lines] == wanted
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines) if complete else "", encoding="utf-8")
    return complete


def publish_gradients(work_folder: Path, spec: Any, run_folder: Path) -> None:
    """Copy a monitored run's finished file to its place, atomically."""
    if getattr(spec, "gradient_examples", None):
        write_jsonl(run_folder / FILE, read_jsonl(work_folder / FILE))
