"""The gradient that some methods look at before they start (SMT's choice, LoRA-GA's factors)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from diablo.methods.base import is_encoder_decoder

from .examples import Example, collate
from .loss import summed_loss

#: float16 ends at 6e-8. What is looked at (ranks, directions) does not depend on the scale.
FP16_SCALE = 1024.0

#: gradients(model, examples): adds into `.grad` of all that requires it
Gradients = Callable[[nn.Module, int], None]


def calibration_gradients(examples: Sequence[Example], spec: Any, pad: int) -> Gradients:
    """A function that gives a model's gradient on some of a run's own training examples.

    `gradients(model, count)` draws `count` of `examples` (all, if there are fewer) by the run's seed and
    adds to `.grad` of every parameter with requires_grad the gradient of their mean loss per labelled
    token, in micro batches and without dropout. In float16 it is multiplied by :data:`FP16_SCALE`.

    Raises:
        FloatingPointError: if the loss is not finite.
    """

    def gradients(model: nn.Module, count: int) -> None:
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(spec.seed))
        chosen = [examples[index] for index in order[:count].tolist()]
        device = next(model.parameters()).device
        pairs = is_encoder_decoder(model)
        batch = collate(chosen, spec.micro_batch_size, pad, encoder_decoder=pairs)
        was_training = model.training
        model.eval()
        half = any(p.requires_grad and p.dtype == torch.float16 for p in model.parameters())
        share = (FP16_SCALE if half else 1.0) / batch["targets"]
        for micro in batch["micro_batches"]:
            inputs = {key: value.to(device) for key, value in micro["inputs"].items()}
            positions, targets = micro["positions"].to(device), micro["targets"].to(device)
            loss = summed_loss(model, positions, targets, inputs)
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"run {spec.run}: the loss is {loss.item()} before training; is the model broken?"
                )
            (loss * share).backward()
        model.train(was_training)

    return gradients
