"""One write of all weights at the start of a model's forward pass.

A layer of the `inplace` form may not trust its weight to hold the current D (see
:class:`~diablo.tuner.layer.DiabloLinear`), so something has to write before every forward pass. A
layer that is called by itself writes by itself. A layer that is called within a forward pass of its
model finds the work done: this hook wrote all layers at once, which on a GPU is one kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .layer import DiabloLinear


class Scope:
    """What the layers of one model share: whether its forward pass is under way, and the last cast."""

    def __init__(self) -> None:
        self.active = False
        self._source: Tensor | None = None
        self._version = -1
        self._cast: Tensor | None = None

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """``x`` in another type; the same tensor for the layers that share an input.

        Autocast would make one copy for each of q, k and v (gate and up), and each would be kept for
        the backward pass.
        """
        if not self.active:
            return x.to(dtype)
        cast = self._cast
        if (
            cast is None
            or self._source is not x
            or self._version != x._version
            or cast.dtype != dtype
        ):
            cast = x.to(dtype)
        self._source, self._version, self._cast = x, x._version, cast
        return cast

    def close(self) -> None:
        self.active, self._source, self._cast = False, None, None


class Refresh:
    """Forward hooks of a model: write all `inplace` layers, then tell them so until the pass ends."""

    def __init__(self) -> None:
        self.scope = Scope()
        self.layers: list[DiabloLinear] = []
        self._depth = 0
        self._handles: list[Any] = []
        self._fused: Any = None

    def attach(self, model: nn.Module) -> None:
        """Hook into ``model``, once."""
        if not self._handles:
            self._handles = [
                model.register_forward_pre_hook(self._begin, prepend=True),
                model.register_forward_hook(self._end, always_call=True),
            ]

    def detach(self) -> None:
        """Leave the model; its layers write for themselves again."""
        for handle in self._handles:
            handle.remove()
        self._handles, self.layers, self._fused = [], [], None

    @torch.compiler.disable
    def _begin(self, model: nn.Module, args: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self.write()
            self.scope.active = True

    @torch.compiler.disable
    def _end(self, model: nn.Module, args: Any, output: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self.scope.close()

    def write(self) -> None:
        """Write ``W0 + D`` in every layer that holds it: on a GPU in one kernel for all layers."""
        one_kernel = []
        for layer in self.layers:
            names = layer.settle()
            if not names:
                continue
            fusible = _fusible(layer, names[0])
            if not (fusible and layer.holds_simply(names)):
                layer.hold(names)
            # Also right after its own first write, so that a CUDA graph may be recorded from now on.
            if fusible and layer.holds_simply(names):
                one_kernel.append(layer)
        if one_kernel:
            from .fused import FusedWrite

            if self._fused is None:
                self._fused = FusedWrite()
            self._fused.write([layer.write_operands() for layer in one_kernel])

    def __getstate__(self) -> dict[str, Any]:
        # Pointers of this process and of these very tensors: a copy must gather its own.
        return {**self.__dict__, "_fused": None}


def _fusible(layer: DiabloLinear, name: str) -> bool:
    """Whether the one kernel suits the layer's device, layout, types and strides."""
    weight = cast(Tensor, layer.base_layer.weight)
    if not (weight.is_cuda and layer.layouts[name].few):
        return False
    blocks = layer.diablo_blocks[name]
    types = {blocks.dtype, weight.dtype} <= {torch.float32, torch.float16, torch.bfloat16}
    return bool(blocks.is_cuda and types and weight.stride(1) == 1)
