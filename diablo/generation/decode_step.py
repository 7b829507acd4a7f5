"""A cheaper decoding step on a CPU: keys and values are written into room kept for them, and read once.

transformers' cache is copied whole at every step, and where rows are padded (there is a mask) keys and values are
copied once more for each query head that shares them: with long prompts and many rows that is most of a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

NAME = "diablo_decode"


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (rows, key heads, tokens, head size), with room for more tokens.

    Args:
        room: tokens that are expected to follow the first ones; more are possible and cost a copy.
    """

    def __init__(self, room: int):
        super().__init__()
        self.room = room
        self._buffers: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values of new tokens; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        done = self.get_seq_length()
        end = done + key_states.shape[-2]
        if not self._buffers or end > self._buffers[0].shape[-2]:
            self._buffers = [self._grown(new, end) for new in (key_states, value_states)]
            for buffer, old in zip(self._buffers, (self.keys, self.values), strict=True):
                if done and old is not None:
                    buffer[..., :done, :] = old
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., done:end, :] = new
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        return self.keys, self.values

    def _grown(self, like: Tensor, tokens: int) -> Tensor:
        return like.new_empty((*like.shape[:-2], tokens + self.room, like.shape[-1]))


def with_room(cache: Cache | None, model: PreTrainedModel, room: int) -> Cache:
    """`cache`, or a new one, whose layers have room for `room` more tokens.

    Layers with a window (`sliding_attention`) stay as they are: they drop old tokens. The cache must not be
    repeated or reordered afterwards.
    """
    found = DynamicCache(config=model.config) if cache is None else cache
    for index, layer in enumerate(found.layers):
        if type(layer) is DynamicLayer:
            roomy = RoomyLayer(room)
            if layer.keys is not None and layer.values is not None:
                roomy.update(layer.keys, layer.values)
            found.layers[index] = roomy
    return found


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token a row, the heads that share keys side by side; else transformers' own.

    Args:
        query: (rows, heads, tokens, head size); one token is a decoding step.
        key, value: (rows, key heads, tokens so far, head size).
        attention_mask: (rows, 1, tokens, tokens so far), or None.

    Returns:
        (rows, tokens, heads, head size), and no weights.
    """
    rows, heads, tokens, size = query.shape
    shared = key.shape[1]
    if tokens != 1 or heads == shared:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    # The heads of one group ask the same keys, as the tokens of a prompt do.
    asked = query.view(rows, shared, heads // shared, size)
    found = F.scaled_dot_product_attention(
        asked, key, value, attn_mask=attention_mask, scale=scaling
    )
    return found.reshape(rows, 1, heads, size), None


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Decode with `grouped_attention` where the model has PyTorch's attention and is on a CPU."""
    if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
