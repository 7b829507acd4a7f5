"""Which base layers each form supports, and merging into quantised ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def merge_quantised(layer: DiabloLayer, delta: Any, safe_merge: bool = False) -> None:
    """Add ``delta`` ``(m2, m1)`` to a quantised weight: dequantise, add, quantise again.

    Raises:
        ValueError: PEFT has no way to do so for this kind of layer, or ``safe_merge`` finds a number
            that is not finite.
    """
    from peft.utils.quantization_utils import resolve_quantization_backend

    base: Any = layer.get_base_layer()
    backend = resolve_quantization_backend(base)
    if backend is None or not backend.supports_merge:
        raise ValueError(
            f"{layer.module_name}: cannot merge into a {type(base).__name__}. Load the base model in "
            "float32 or 16 bits, load the adapter onto it, and merge there."
        )
    weight = backend.get_base_weight(base)
    weight = weight + delta.to(weight.device, weight.dtype)
    if safe_merge and not bool(torch.isfinite(weight).all()):
        raise ValueError(f"{layer.module_name}: merging gives weights that are not finite.")
    backend.set_base_weight(layer, weight)
