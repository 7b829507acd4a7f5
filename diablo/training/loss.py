"""The loss: cross-entropy of the labelled tokens, and no arithmetic for the others.

On answer-only data most positions have no label. The language-model head is the widest matrix of a
small model, so it is applied to the labelled positions alone; loss and gradients stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .examples import IGNORE


def summed_loss(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """Sum over labelled tokens of the cross-entropy of the next token, in float32.

    Args:
        model: a causal language model, PEFT-wrapped or not.
        input_ids, labels: (examples, tokens), padded on the right; a label of -100 has no loss, and
            neither has the first token of a row.
    """
    head = output_head(model)
    if head is None:
        return _ordinary_loss(model, input_ids, labels)
    rows, columns = (labels[:, 1:] != IGNORE).nonzero(as_tuple=True)

    def keep_labelled(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs[0][rows, columns].unsqueeze(0), *inputs[1:]

    # A hook, not a call of the backbone: the model's own forward pass runs, with whatever PEFT,
    # autocast or the model do around its backbone and head, and the head may itself be adapted.
    hook = head.register_forward_pre_hook(keep_labelled)
    try:
        logits = model(input_ids=input_ids, use_cache=False).logits
    finally:
        hook.remove()
    return cross_entropy(logits[0].float(), labels[rows, columns + 1], reduction="sum")


def output_head(model: nn.Module) -> nn.Module | None:
    """The module that makes a causal model's logits; None where a model does not tell."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    return head if isinstance(head, nn.Module) else None


def _ordinary_loss(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """The model's own loss, which is a mean, times the number of tokens that it is the mean of."""
    mean = model(input_ids=input_ids, labels=labels, use_cache=False).loss
    return mean.float() * torch.count_nonzero(labels[:, 1:] != IGNORE)
