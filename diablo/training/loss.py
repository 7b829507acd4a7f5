"""The loss: cross-entropy of the labelled tokens, and no arithmetic for the others.

On answer-only data most positions have no label. The language-model head is the widest matrix of a
small model and makes the largest tensor of any, so it is applied to the labelled positions alone, a
chunk of them at a time. Loss and gradients stay the same.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .examples import IGNORE

#: The largest float32 tensor of logits, in bytes.
LOGITS_BYTES = 1 << 28

#: For each head, whether its output is the model's logits (Gemma 2, say, squashes them afterwards).
_plain: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def summed_loss(
    model: nn.Module,
    positions: Tensor,
    targets: Tensor,
    inputs: dict[str, Any],
    logits_bytes: int = LOGITS_BYTES,
) -> Tensor:
    """Sum over labelled tokens of their cross-entropy, in float32.

    Args:
        model: a language model, causal or encoder-decoder, PEFT-wrapped or not.
        positions: (labels,) where the hidden states that predict a label lie in the flattened batch.
        targets: (labels,) the labels themselves; -100 counts nothing.
        inputs: the model's arguments, such as `input_ids` of shape (examples, tokens); an encoder-decoder's
            `labels` too, which the model itself shifts right into its decoder's input.
        logits_bytes: bound on the logits that exist at a time, as far as whole tokens allow.
    """
    head = output_head(model)
    if head is None:
        return _cross_entropy(labelled_logits(model, positions, inputs), targets)
    if head not in _plain:
        _plain[head] = _is_plain(model, head, inputs)
    if not _plain[head]:
        return _cross_entropy(labelled_logits(model, positions, inputs), targets)
    hidden, _ = _run(model, head, positions, inputs, keep=0)
    return head_loss(head, hidden, targets, logits_bytes)


def labelled_logits(model: nn.Module, positions: Tensor, inputs: dict[str, Any]) -> Tensor:
    """The logits at some positions of the flattened batch alone, (labels, vocabulary)."""
    head = output_head(model)
    if head is None:
        return _logits(model, inputs).flatten(0, -2)[positions]
    return _run(model, head, positions, inputs, keep=len(positions))[1][0]


def head_loss(head: nn.Module, hidden: Tensor, targets: Tensor, logits_bytes: int) -> Tensor:
    """Summed cross-entropy of ``head(hidden)``, hidden (labels, width), in chunks."""
    if type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks):
        rows = max(1, logits_bytes // (4 * head.out_features))
        return LinearCrossEntropy.apply(hidden, head.weight, head.bias, targets, rows)
    # An adapted head: its own forward pass, chunk by chunk, and once more in the backward pass.
    width = getattr(head, "out_features", None) or head(hidden[:1]).shape[-1]
    rows = max(1, logits_bytes // (4 * width))
    if len(hidden) <= rows:
        return _cross_entropy(head(hidden), targets)
    losses = [
        checkpoint(lambda h, t: _cross_entropy(head(h), t), h, t, use_reentrant=False)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.stack(losses).sum()


def output_head(model: nn.Module) -> nn.Module | None:
    """The module that makes a model's logits; None where a model does not tell."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    return head if isinstance(head, nn.Module) else None


def _run(
    model: nn.Module, head: nn.Module, positions: Tensor, inputs: dict[str, Any], keep: int
) -> tuple[Tensor, Tensor]:
    """The model's forward pass with its head on the first ``keep`` labelled positions only.

    Returns the hidden states of all labelled positions, and the logits. By a hook, not by a call of the
    backbone: so whatever PEFT, autocast or the model do around its backbone is done.
    """
    hidden: list[Tensor] = []

    def keep_labelled(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden.append(args[0].flatten(0, -2)[positions])
        return hidden[0][:keep].unsqueeze(0), *args[1:]

    hook = head.register_forward_pre_hook(keep_labelled)
    try:
        logits = _logits(model, inputs)
    finally:
        hook.remove()
    return hidden[0], logits


def _logits(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    arguments = dict(inputs)
    if "labels" in arguments:
        # Given labels, the model would compute a loss of its own, for all positions.
        shift: Any = model.prepare_decoder_input_ids_from_labels
        arguments["decoder_input_ids"] = shift(labels=arguments.pop("labels"))
    return model(**arguments, use_cache=False).logits


@torch.no_grad()
def _is_plain(model: nn.Module, head: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether the head's output is what the model returns as logits, tried on one token."""
    made: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, args, out: made.append(out))
    try:
        first = torch.zeros(1, dtype=torch.long, device=inputs["input_ids"].device)
        # In training mode, dropout would draw from the generator that the training itself uses.
        with torch.random.fork_rng(enabled=model.training):
            _, logits = _run(model, head, first, inputs, keep=1)
    finally:
        hook.remove()
    return torch.equal(made[0].float(), logits.float())


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORE, reduction="sum")


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a linear head, whose gradients are made in the forward pass.

    So the logits are formed once, ``rows`` positions at a time, and none is kept. Inputs: hidden
    (labels, width), weight (vocabulary, width), bias or None, targets (labels,), rows.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int
    ) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        needs = ctx.needs_input_grad[:3]
        # Sums of gradients are kept in float32 (or wider), whatever the products are made in.
        wide = torch.promote_types(dtype, torch.float32)
        grads = [
            torch.zeros_like(t, dtype=wide) if need and t is not None else None
            for t, need in zip((hidden, weight, bias), needs, strict=True)
        ]
        total = torch.zeros((), dtype=wide, device=hidden.device)
        with torch.autocast(kind, enabled=False):
            w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                h = hidden[part].to(dtype)
                logits = F.linear(h, w, b).to(wide)
                total += _one_chunk(logits, targets[part])
                _add_gradients(grads, part, logits, h, w)
        ctx.grads = grads
        ctx.types = [None if t is None else t.dtype for t in (hidden, weight, bias)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if g is None else (g * grad).to(dtype)
            for g, dtype in zip(ctx.grads, ctx.types, strict=True)
        ]
        return *scaled, None, None


def _one_chunk(logits: Tensor, targets: Tensor) -> Tensor:
    """The chunk's summed loss; ``logits`` becomes its gradient, softmax minus one-hot.

    In place throughout: a second tensor of this size costs more than the arithmetic on it.
    """
    valid = (targets != IGNORE).unsqueeze(1)
    index = targets.clamp(min=0).unsqueeze(1)
    logits.sub_(logits.amax(dim=1, keepdim=True))
    labelled = logits.gather(1, index)
    total = logits.exp_().sum(dim=1, keepdim=True)
    loss = ((total.log() - labelled) * valid).sum()
    logits.mul_(valid / total)
    logits.scatter_add_(1, index, -valid.to(logits.dtype))
    return loss


def _add_gradients(
    grads: list[Tensor | None], part: slice, gradient: Tensor, h: Tensor, w: Tensor
) -> None:
    # float16 ends at 6e-8, and most of a softmax over a vocabulary lies near it.
    shift = 1024.0 if w.dtype == torch.float16 else 1.0
    narrow = (gradient * shift if shift != 1 else gradient).to(w.dtype)
    for_hidden, for_weight, for_bias = grads
    if for_hidden is not None:
        for_hidden[part] = narrow.mm(w).to(for_hidden.dtype).div_(shift)
    if for_weight is not None:
        for_weight.add_(narrow.t().mm(h), alpha=1 / shift)
    if for_bias is not None:
        for_bias.add_(gradient.sum(0))
