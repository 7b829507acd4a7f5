"""What a layer knows of its adapters: their parameters and settings, by name."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .config import DiabloConfig
from .held import HeldWeight
from .ops import BlockLayout, block_layout
from .refresh import Scope
from .support import features, inplace_obstacle

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
        self._scope = Scope()
        self._settled: tuple[tuple[str, ...], tuple[str, ...]] | None = None

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
