"""Batches without padding: the sequences of a micro batch end to end, attention within each.

All layers but attention work token by token, so a row of sequences costs what its tokens cost. The
attention is ours: one call of PyTorch's flash attention for sequences of different lengths on a GPU
in 16 bits, and one call a sequence elsewhere.
"""

from __future__ import annotations

import inspect
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "diablo_packed"

#: Architectures whose attention is plain causal softmax attention, and which the tests compare.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma")


def supports_packing(model: PreTrainedModel, max_length: int) -> bool:
    """Whether the model gives the same results on packed sequences of up to ``max_length`` tokens."""
    config = model.config
    window = getattr(config, "sliding_window", None)
    dropout = getattr(config, "attention_dropout", 0)
    known = config.model_type in FAMILIES
    return known and not dropout and (window is None or window >= max_length)


def use_packing(model: PreTrainedModel) -> None:
    """Give the model the attention that understands packed rows."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)
    # Without a mask function of this name, transformers builds no mask: packed rows need none.
    model.config._attn_implementation = NAME


def packed_inputs(
    input_ids: Tensor, position_ids: Tensor, lengths: list[int], longest: int | None = None
) -> dict[str, Any]:
    """The model's arguments for a packed row.

    Args:
        input_ids, position_ids: (1, tokens); positions start again at 0 in each sequence.
        lengths: of the sequences, in order; empty ones are allowed.
        longest: an upper bound on the lengths that is the same for every batch (a recorded graph keeps
            that of its first); None takes the longest.
    """
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "packed_bounds": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        "packed_lengths": lengths,
        "packed_longest": longest or max(lengths),
    }


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed_bounds: Tensor | None = None,
    packed_lengths: list[int] | None = None,
    packed_longest: int = 0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a packed row, in transformers' attention interface.

    query (1, heads, tokens, width), key and value (1, key heads, tokens, width); returns
    (1, tokens, heads, width).

    Raises:
        ValueError: not a packed row, or with attention dropout.
        RuntimeError: a CUDA graph is being recorded of what depends on the sequences' lengths.
    """
    if packed_bounds is None or packed_lengths is None or dropout > 0:
        raise ValueError(
            f"attention {NAME!r} is for training on packed rows without attention dropout; load the "
            "model again for anything else"
        )
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # Rotary embeddings of float32 weights are float32: to what autocast gives any attention.
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        return _flash(query, key, value, packed_bounds, packed_longest, scaling), None
    if query.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"packed attention in {query.dtype} cannot be recorded: it would keep the lengths of this "
            "batch's sequences for all others"
        )
    lengths = [length for length in packed_lengths if length]
    parts = [tensor.split(lengths, dim=2) for tensor in (query, key, value)]
    grouped = query.shape[1] != key.shape[1]
    outs = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(outs, dim=2).transpose(1, 2).contiguous(), None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scaling: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    options: dict[str, Any] = {"scale": scaling}
    # torch 2.11 takes fewer key heads as they are; later versions want to be told.
    known = inspect.signature(varlen_attn).parameters
    if "enable_gqa" in known:
        options["enable_gqa"] = query.shape[1] != key.shape[1]
    options |= {"is_causal": True} if "is_causal" in known else {"window_size": (-1, 0)}
    out: Any = varlen_attn(q, k, v, bounds, bounds, longest, longest, **options)
    return out.unsqueeze(0)
