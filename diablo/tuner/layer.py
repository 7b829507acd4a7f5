"""The layer: a linear layer with the diagonal blocks of one or more adapters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from .config import DiabloConfig
from .held import HeldWeight
from .ops import AddBlockProduct, BlockLayout, HeldLinear, block_layout, block_product
from .support import features, inplace_obstacle, merge_quantised, writable, wrong_shape

_INIT_STD = 0.02  # of init_weights=False; the size of a pretrained weight's own entries


class DiabloLayer(BaseTunerLayer):
    """The adapters of one layer, by name: parameters, settings and how they are made.

    ``diablo_blocks[adapter]`` has the shape ``(N, d1, d2)``.
    """

    adapter_layer_names = ("diablo_blocks",)
    other_param_names = ("num_blocks", "implementation", "diablo_dropout")

    def __init__(self, base_layer: nn.Module, name: str) -> None:
        self.base_layer = base_layer
        self.module_name = name
        self.in_features, self.out_features = features(base_layer)
        self.num_blocks: dict[str, int] = {}
        self.implementation: dict[str, str] = {}
        self.diablo_blocks = nn.ParameterDict({})
        self.diablo_dropout = nn.ModuleDict({})
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._held = HeldWeight()

    def layout(self, adapter: str) -> BlockLayout:
        return block_layout(self.in_features, self.out_features, self.num_blocks[adapter])

    def update_layer(
        self, adapter_name: str, num_blocks: int, config: DiabloConfig, tied: bool = False
    ) -> None:
        """Add an adapter.

        Raises:
            ValueError: N does not suit the layer's widths, or ``implementation="inplace"`` does not
                suit the layer. Either names the layer and says what to do.
        """
        try:
            layout = block_layout(self.in_features, self.out_features, num_blocks)
        except ValueError as error:
            raise ValueError(f"{self.module_name}: {error}") from None
        obstacle = inplace_obstacle(self.get_base_layer(), tied)
        if config.implementation == "inplace" and obstacle:
            raise ValueError(
                f"{self.module_name}: implementation='inplace' needs a plain floating-point nn.Linear "
                f"with a weight of its own, but {obstacle}. Use implementation='adapter' or 'auto', or "
                "leave the module out with exclude_modules."
            )
        inplace = config.implementation != "adapter" and not obstacle and config.dropout == 0
        self.num_blocks[adapter_name] = num_blocks
        self.implementation[adapter_name] = "inplace" if inplace else "adapter"
        if config.dropout > 0:
            self.diablo_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.diablo_blocks[adapter_name] = nn.Parameter(torch.zeros(layout.shape))
        if not config.init_weights:
            nn.init.normal_(self.diablo_blocks[adapter_name], std=_INIT_STD)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """D as a dense matrix in the orientation of a torch weight, ``(m2, m1)``, in the blocks' type.

        Raises:
            ValueError: the layer has no such adapter.
        """
        if adapter not in self.diablo_blocks:
            raise ValueError(f"{self.module_name} has no adapter {adapter!r}.")
        blocks, layout = self.diablo_blocks[adapter].detach(), self.layout(adapter)
        delta = blocks.new_zeros(self.out_features, self.in_features)
        for view, block in zip(layout.weight_views(delta), layout.block_views(blocks), strict=True):
            view.copy_(block)
        return delta

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True


class DiabloLinear(nn.Module, DiabloLayer):
    """``Y = X W0 + b + X D`` (section 3.1 of the paper), in one of two equivalent forms per adapter.

    `adapter` adds the block product to the base layer's output. `inplace` lets the frozen weight hold
    ``W0 + D`` and runs the base layer's matrix product alone.

    When is the weight up to date? PyTorch cannot tell that D has changed: fused AdamW, ``.data`` and
    flattened views update a parameter without advancing its version. So nothing is detected. Every
    forward pass of an `inplace` layer writes ``W0 + D`` into the blocks, from D as it is then, before the
    product: one elementwise kernel over 1/N of the weight, and exact whatever changed D, and however.
    The backward pass needs what the forward pass wrote, which stays there until another forward pass
    writes or someone asks for W0.

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

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.merged:
            return self.base_layer(x, *args, **kwargs)
        names = () if self.disable_adapters else self._present(self.active_adapters)
        held = tuple(n for n in names if self.implementation[n] == "inplace")
        if not held or args or kwargs or not self._may_hold():
            held = ()
            self._restore()
            out = self.base_layer(x, *args, **kwargs)
        else:
            out = self._held_forward(x, held)
        for name in names:
            if name not in held:
                out = self._add_product(out, x, name)
        return out

    def _present(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self.diablo_blocks)

    def _may_hold(self) -> bool:
        """Whether the base layer's own call may be replaced by the bare product, at this moment.

        Hooks on the base layer and a patched ``forward`` (accelerate's offloading) must run, and a
        weight that is itself trained must hold itself; the `adapter` form then gives the same result.
        """
        base = self.get_base_layer()
        patched = base._forward_hooks or base._forward_pre_hooks or "forward" in base.__dict__
        return base is self.base_layer and not patched and not base.weight.requires_grad

    # A graph break, because the write and the swap in the backward pass are side effects on the weight
    # that a traced graph cannot express. Compiling without breaks: implementation="adapter".
    @torch.compiler.disable
    def _held_forward(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        self._hold(names)
        base = self.base_layer
        blocks = [self.diablo_blocks[name] for name in names]
        trained = (x, base.bias, *blocks)
        recorded = any(t is not None and t.requires_grad for t in trained)
        if not (recorded and torch.is_grad_enabled()):
            return base(x)
        if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(x.device.type))
        elif x.dtype != base.weight.dtype:
            return base(x)  # raises PyTorch's own error about the two types
        return HeldLinear.apply(x, base.weight, base.bias, self, names, *blocks)

    def _add_product(self, out: Tensor, x: Tensor, name: str) -> Tensor:
        blocks, layout = self.diablo_blocks[name], self.layout(name)
        if name in self.diablo_dropout:
            x = self.diablo_dropout[name](x)
        x = x.to(out.dtype)
        if torch.compiler.is_compiling():
            return out + block_product(x, blocks.to(out.dtype), layout)
        # In place wherever autograd allows it, which is what linear layers return.
        if not out.is_contiguous() or out._is_view() or (out.is_leaf and out.requires_grad):
            out = out.clone(memory_format=torch.contiguous_format)
        return AddBlockProduct.apply(out, x, blocks, layout)

    # What the weight holds

    @property
    def _base_weight(self) -> Tensor:
        return cast(Tensor, self.get_base_layer().weight)

    def _hold(self, names: tuple[str, ...], blocks: Sequence[Tensor] | None = None) -> None:
        if not names:
            return self._restore()
        blocks = [self.diablo_blocks[name] for name in names] if blocks is None else blocks
        layouts = [self.layout(name) for name in names]
        self._held.write(self._base_weight, names, layouts, blocks)

    def _restore(self) -> None:
        if self._held.names:
            self._held.restore(self._base_weight)

    @contextmanager
    def holding(self, names: tuple[str, ...], blocks: Sequence[Tensor]) -> Iterator[Tensor]:
        """The weight with the sum of a past forward pass; what it held before is put back after."""
        before = self._held.names
        if before != names:
            self._hold(names, blocks)
        try:
            yield self._base_weight.detach()
        finally:
            if before != names:
                self._hold(before)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Write ``W0 + D`` into the weight for good, or until :meth:`unmerge`.

        Raises:
            ValueError: ``safe_merge`` finds a number that is not finite (the weight is left as it
                was), or the base layer is quantised in a way that PEFT cannot merge into.
        """
        # First, because a layer without the adapters to be merged must not keep the sum of others.
        self._release()
        names = self._present(check_adapters_to_merge(self, adapter_names))
        if not names:
            return
        base, before = self.get_base_layer(), tuple(self.merged_adapters)
        if writable(base):
            self._hold(before + names)
            if safe_merge and not self._held.finite(self._base_weight):
                self._hold(before)
                raise ValueError(
                    f"{self.module_name}: merging {', '.join(names)} gives weights that are not finite."
                )
        else:
            merge_quantised(self, sum(self.get_delta_weight(n) for n in names), safe_merge)
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Undo :meth:`merge`; W0 comes back bit for bit (a quantised base: up to requantisation)."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        if writable(self.get_base_layer()):
            self._restore()
        else:
            names = self._present(self.merged_adapters)
            merge_quantised(self, -sum(self.get_delta_weight(n) for n in names))
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
            if given is not None and given.shape != blocks.shape:
                raise wrong_shape(self, name, tuple(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._held.apply(fn)
        return super()._apply(fn, recurse)

    def __repr__(self) -> str:
        return "diablo." + super().__repr__()
