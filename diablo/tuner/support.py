"""Which base layers each form supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .adapters import DiabloLayer

# What the weight's blocks can be added to and rounded to; float8 and integers are storage formats.
_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def features(layer: nn.Module) -> tuple[int, int]:
    """``(m1, m2)`` of a linear layer of any make, quantised ones included.

    Raises:
        ValueError: the layer does not have ``in_features`` and ``out_features``.
    """
    for names in (("in_features", "out_features"), ("infeatures", "outfeatures")):
        values = tuple(getattr(layer, name, None) for name in names)
        if all(isinstance(value, int) for value in values):
            return values  # type: ignore[return-value]
    raise ValueError(
        f"it is a {type(layer).__name__}, but DiaBlo trains linear layers, which have in_features and "
        "out_features."
    )


def _weight(layer: nn.Module) -> Tensor | None:
    return layer._parameters.get("weight")


def writable(layer: nn.Module) -> bool:
    """Whether sums can be written into the weight's own blocks: a floating-point ``(m2, m1)`` matrix."""
    weight = _weight(layer)
    return (
        isinstance(layer, nn.Linear)
        and weight is not None
        and weight.dtype in _FLOATING
        and tuple(weight.shape) == (layer.out_features, layer.in_features)
    )


def inplace_obstacle(layer: nn.Module, tied: bool) -> str | None:
    """Why the layer cannot be trained in place, as the end of a sentence; None if it can."""
    weight = _weight(layer)
    if type(layer) is not nn.Linear or weight is None:
        return f"it is a {type(layer).__name__} without a plain weight of its own kind"
    if not writable(layer):
        return f"its weight has dtype {weight.dtype} and shape {tuple(weight.shape)}"
    if type(weight.data) is not torch.Tensor:
        return f"its weight is a {type(weight.data).__name__} (sharded or wrapped)"
    if tied:
        return "its weight is shared with another module (tied), which would change with it"
    return None


def wrong_shape(layer: DiabloLayer, adapter: str, given: tuple[int, ...]) -> ValueError:
    """The error for an adapter that was saved for a layer of other widths or another N."""
    return ValueError(
        f"{layer.module_name}: the saved blocks of adapter {adapter!r} have shape {given}, but this "
        f"layer of {layer.in_features} inputs and {layer.out_features} outputs with "
        f"num_blocks={layer.num_blocks[adapter]} needs {layer.layouts[adapter].shape}."
    )


def no_places(layer: DiabloLayer, adapter: str) -> ValueError:
    """The error for a saved adapter that does not say where its drawn blocks lie."""
    return ValueError(
        f"{layer.module_name}: adapter {adapter!r} is saved without the places of its blocks "
        "(`diablo_positions`), which were drawn at random; save it again with `save_pretrained`."
    )


def packed(layer: DiabloLayer) -> ValueError:
    """The error for merging into a weight that is packed: rounding to its few bits would lose D."""
    base = layer.get_base_layer()
    return ValueError(
        f"{layer.module_name}: cannot merge into a {type(base).__name__}, whose weight is quantised and "
        "packed: rounding W0 + D to its few bits would undo the training. Dequantise the base model first "
        "(`diablo.methods.base.dequantised(model, dtype)`, or load it in float32 or 16 bits), load the "
        "adapter onto it, and merge there."
    )
