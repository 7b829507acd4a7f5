"""What a layer knows of its adapters: their parameters and settings, by name."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .chosen import chosen_layout
from .config import DiabloConfig
from .held import HeldWeight
from .layout import Layout
from .patterns import given_layout, pattern_layout
from .places import Places
from .refresh import Scope
from .support import features, inplace_obstacle

_INIT_STD = 0.02  # of init_weights=False; the size of a pretrained weight's own entries


class DiabloLayer(BaseTunerLayer):
    """The adapters of one layer, by name: parameters, settings and how they are made.

    ``diablo_blocks[adapter]`` has the shape ``(N, d1, d2)``; ``layouts[adapter]`` says where they lie.
    """

    adapter_layer_names = ("diablo_blocks",)
    other_param_names = ("layouts", "implementation", "diablo_dropout")

    def __init__(self, base_layer: nn.Module, name: str) -> None:
        self.base_layer = base_layer
        self.module_name = name
        self.in_features, self.out_features = features(base_layer)
        self.layouts: dict[str, Layout] = {}
        self.implementation: dict[str, str] = {}
        self.diablo_blocks = nn.ParameterDict({})
        self.diablo_positions = Places(self.layouts, name)
        self.diablo_dropout = nn.ModuleDict({})
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._held = HeldWeight()
        self._scope = Scope()
        self._settled: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    @property
    def num_blocks(self) -> dict[str, int]:
        """Each adapter's number of blocks in this layer."""
        return {name: layout.shape[0] for name, layout in self.layouts.items()}

    def update_layer(
        self, adapter_name: str, num_blocks: int, config: DiabloConfig, tied: bool = False
    ) -> None:
        """Add an adapter.

        Args:
            num_blocks: N; unused where ``config.block_size`` is given.

        Raises:
            ValueError: N or the given positions do not suit the layer's widths, or
                ``implementation="inplace"`` does not suit the layer. Either names the layer and says what to do.
        """
        try:
            layout = self._new_layout(num_blocks, config)
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
        self.layouts[adapter_name] = layout
        self.implementation[adapter_name] = "inplace" if inplace else "adapter"
        if config.dropout > 0:
            self.diablo_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.diablo_blocks[adapter_name] = nn.Parameter(torch.zeros(layout.shape))
        if not config.init_weights:
            nn.init.normal_(self.diablo_blocks[adapter_name], std=_INIT_STD)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _new_layout(self, num_blocks: int, config: DiabloConfig) -> Layout:
        widths = self.in_features, self.out_features
        if config.block_positions is None:
            seed = config.pattern_seed
            return pattern_layout(config.pattern, *widths, num_blocks, seed, self.module_name)
        positions = config.block_positions[self.module_name]
        if config.block_size is not None:
            return chosen_layout(*widths, config.block_size, positions)
        return given_layout(config.pattern, *widths, num_blocks, positions)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """D as a dense matrix in the orientation of a torch weight, ``(m2, m1)``, in the blocks' type.

        Raises:
            ValueError: the layer has no such adapter.
        """
        if adapter not in self.diablo_blocks:
            raise ValueError(f"{self.module_name} has no adapter {adapter!r}.")
        blocks = self.diablo_blocks[adapter].detach()
        delta = blocks.new_zeros(self.out_features, self.in_features)
        self.layouts[adapter].write_(delta, blocks)
        return delta

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True
