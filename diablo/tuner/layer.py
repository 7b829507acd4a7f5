"""The layer: a linear layer with the blocks of one or more adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn

from .adapters import DiabloLayer
from .config import DiabloConfig
from .functions import AddBlockProduct, HeldLinear, TracedHeldLinear
from .layout import Layout
from .ops import BlockLayout, block_product
from .refresh import Refresh
from .support import no_places, packed, writable, wrong_shape


class DiabloLinear(nn.Module, DiabloLayer):
    """``Y = X W0 + b + X D`` (section 3.1 of the paper), in one of two equivalent forms per adapter.

    `adapter` adds the block product to the base layer's output. `inplace` lets the frozen weight hold
    ``W0 + D`` and runs the base layer's matrix product alone.

    When is the weight up to date? PyTorch cannot tell that D has changed: fused AdamW, ``.data`` and
    flattened views update a parameter without advancing its version. So nothing is detected. At the start
    of every forward pass of the model, ``W0 + D`` is written into the blocks of all its `inplace` layers,
    from D as it is then (:mod:`~diablo.tuner.refresh`): only their blocks are touched, in one kernel on a
    GPU, and it is exact whatever changed D, and however. A layer that is called outside of its model's
    forward pass writes its own weight first. The backward pass needs what the forward pass wrote, which
    stays there until another forward pass writes or someone asks for W0.

    ``base_layer.weight`` holds ``W0 + D`` from a forward pass until W0 is asked for: by disabling,
    deleting or switching adapters, unloading, unmerging, ``state_dict()`` or ``load_state_dict()``. All
    of them put W0 back bit for bit, and the next forward pass writes again. Code that reads the weight
    directly after a forward pass sees the sum. While merged, it holds the sum as for any PEFT method.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        num_blocks: int,
        config: DiabloConfig,
        name: str = "",
        tied: bool = False,
    ) -> None:
        super().__init__()
        DiabloLayer.__init__(self, base_layer, name)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, num_blocks, config, tied)

    def join(self, refresh: Refresh) -> None:
        """Leave the writing to a model's hook wherever that model's forward pass calls this layer."""
        self._scope = refresh.scope
        refresh.layers.append(self)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.merged_adapters:
            if not self._disable_adapters:
                return self.base_layer(x, *args, **kwargs)
            self.unmerge()
        settled = self._settled if self._scope.active else None
        held, added = settled or self._split()
        if held and not (args or kwargs):
            if settled is None:
                self._hold_alone(held)
            out = self._held_forward(x, held)
        else:
            self._restore()
            out = self.base_layer(x, *args, **kwargs)
            added = held + added
        for name in added:
            out = self._add_product(out, x, name)
        return out

    def settle(self) -> tuple[str, ...]:
        """Decide for a whole forward pass of the model which adapters the weight is to hold."""
        self._settled = self._split()
        return self._settled[0]

    def _split(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The active adapters that the weight holds in a forward pass, and those added to the output."""
        if self._disable_adapters or self.merged_adapters:
            return (), ()
        names = self._present(self.active_adapters)
        if not self._may_hold():
            return (), names
        held = tuple(name for name in names if self.implementation[name] == "inplace")
        return held, tuple(name for name in names if name not in held)

    def _present(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.layouts)

    def _may_hold(self) -> bool:
        """Whether the base layer's own call may be replaced by the bare product, at this moment.

        Hooks on the base layer and a patched ``forward`` (accelerate's offloading) must run, and a
        weight that is itself trained must hold itself; the `adapter` form then gives the same result.
        """
        base = self.get_base_layer()
        patched = base._forward_hooks or base._forward_pre_hooks or "forward" in base.__dict__
        return base is self.base_layer and not patched and not base.weight.requires_grad

    def _held_forward(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        base = self.base_layer
        weight, bias = base.weight, base.bias
        blocks = [self.diablo_blocks[name] for name in names]
        recorded = any(t is not None and t.requires_grad for t in (x, bias, *blocks))
        if not (recorded and torch.is_grad_enabled()):
            return base(x)
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            dtype = torch.get_autocast_dtype(kind)
            x = x if x.dtype == dtype else self._scope.cast(x, dtype)
        elif x.dtype != weight.dtype:
            return base(x)  # raises PyTorch's own error about the two types
        if torch.compiler.is_compiling():
            if self.holds_simply(names) and isinstance(self.layouts[names[0]], BlockLayout):
                return TracedHeldLinear.apply(x, weight, bias, blocks[0])
            return self._untraced(x, weight, bias, self, names, *blocks)
        return HeldLinear.apply(x, weight, bias, self, names, *blocks)

    @torch.compiler.disable
    def _untraced(self, *args: Any) -> Tensor:
        return HeldLinear.apply(*args)

    # A graph break: a write into the weight is a side effect that a traced graph should not have.
    @torch.compiler.disable
    def _hold_alone(self, names: tuple[str, ...]) -> None:
        # Gradient checkpointing runs the layer again in the backward pass, for which the weight must
        # hold what it held in the forward pass, as it does.
        if self._held.names == names and torch._C._current_graph_task_id() != -1:
            return
        self.hold(names)

    def _add_product(self, out: Tensor, x: Tensor, name: str) -> Tensor:
        blocks, layout = self.diablo_blocks[name], self.layouts[name]
        if name in self.diablo_dropout:
            x = self.diablo_dropout[name](x)
        x = x.to(out.dtype)
        if torch.compiler.is_compiling():
            if isinstance(layout, BlockLayout):
                return out + block_product(x, blocks.to(out.dtype), layout)
            return self._untraced_product(out, x, blocks, layout)
        return self._product_added(out, x, blocks, layout)

    def _product_added(self, out: Tensor, x: Tensor, blocks: Tensor, layout: Layout) -> Tensor:
        # In place wherever autograd allows it, which is what linear layers return.
        if not out.is_contiguous() or out._is_view() or (out.is_leaf and out.requires_grad):
            out = out.clone(memory_format=torch.contiguous_format)
        return AddBlockProduct.apply(out, x, blocks, layout)

    # A graph break: places are looked up in an index, which belongs to no graph.
    @torch.compiler.disable
    def _untraced_product(self, *args: Any) -> Tensor:
        return self._product_added(*args)

    # What the weight holds

    @property
    def _base_weight(self) -> Tensor:
        return cast(Tensor, self.get_base_layer().weight)

    def holds_simply(self, names: tuple[str, ...]) -> bool:
        """Whether the weight holds one adapter, none of whose blocks sticks out, and holds it already."""
        if len(names) != 1 or names != self._held.names:
            return False
        return self.layouts[names[0]].covers_parameter

    def write_operands(self) -> tuple[Tensor, Tensor, Tensor, Layout]:
        """What a write of a layer that :meth:`holds_simply` reads: weight, W0's blocks, D, layout."""
        name = self._held.names[0]
        blocks = self.diablo_blocks[name].detach().contiguous()
        return self._base_weight.data, self._held.backup(), blocks, self.layouts[name]

    def hold(self, names: tuple[str, ...], blocks: Sequence[Tensor] | None = None) -> None:
        """Make the weight hold W0 plus the blocks of ``names``, as they are now or as given."""
        if not names:
            return self._restore()
        blocks = [self.diablo_blocks[name] for name in names] if blocks is None else blocks
        layouts = [self.layouts[name] for name in names]
        self._held.write(self._base_weight, names, layouts, blocks)

    def _restore(self) -> None:
        if self._held.names:
            self._held.restore(self._base_weight)

    def input_grad(self, grad: Tensor, names: tuple[str, ...], blocks: Sequence[Tensor]) -> Tensor:
        """``grad (W0 + D)^T`` with the sum of a past forward pass: ``(tokens, m2)`` -> ``(tokens, m1)``.

        If the weight's contents were swapped since, they are swapped back for the product.
        """
        before = self._held.names
        if before == names:
            return grad.mm(self._base_weight.to(grad.dtype))
        self.hold(names, blocks)
        try:
            return grad.mm(self._base_weight.to(grad.dtype))
        finally:
            self.hold(before)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Write ``W0 + D`` into the weight for good, or until :meth:`unmerge`.

        Raises:
            ValueError: ``safe_merge`` finds a number that is not finite (the weight is left as it
                was), or the base layer's weight is packed.
        """
        # First, because a layer without the adapters to be merged must not keep the sum of others.
        self._release()
        names = self._present(check_adapters_to_merge(self, adapter_names))
        if not names:
            return
        before = tuple(self.merged_adapters)
        if not writable(self.get_base_layer()):
            raise packed(self)
        self.hold(before + names)
        if safe_merge and not self._held.finite(self._base_weight):
            self.hold(before)
            raise ValueError(
                f"{self.module_name}: merging {', '.join(names)} gives weights that are not finite."
            )
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Undo :meth:`merge`; W0 comes back bit for bit."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self._restore()
        self.merged_adapters.clear()

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """PEFT's hook for ``unload`` and ``merge_and_unload``: the base layer, merged or as it was."""
        if merge:
            self.merge(safe_merge=safe_merge, adapter_names=adapter_names)
        else:
            self._release()
        return self.base_layer

    # Whoever asks for W0 gets it

    def _release(self) -> None:
        self._settled = None
        if not self.merged:
            self._restore()

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        self._release()
        super().set_adapter(adapter_names, inference_mode=inference_mode)

    def enable_adapters(self, enabled: bool) -> None:
        if not enabled:
            self._release()
        super().enable_adapters(enabled)

    def delete_adapter(self, adapter_name: str) -> None:
        self._release()
        super().delete_adapter(adapter_name)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._release()
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        self._release()
        for name, blocks in self.diablo_blocks.items():
            given = state_dict.get(f"{prefix}diablo_blocks.{name}")
            if given is None:
                continue
            if given.shape != blocks.shape:
                raise wrong_shape(self, name, tuple(given.shape))
            if self.diablo_positions.lacks(name, state_dict, prefix + "diablo_positions."):
                raise no_places(self, name)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._held.apply(fn)
        return super()._apply(fn, recurse)

    def __repr__(self) -> str:
        return "diablo." + super().__repr__()
