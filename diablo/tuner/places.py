"""Where drawn blocks lie, as a part of an adapter's state: what is loaded never depends on a generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .layout import Layout
from .placed import PlacedLayout


class Places(nn.Module):
    """Reads the positions of a layer's drawn layouts into a state dict, and puts them back from one.

    They are no buffers: no gradient, no cast and no process of a group has to see them.

    Args:
        layouts: those of a layer by adapter, which this module changes when it loads.
        module_name: of the layer, for messages.
    """

    def __init__(self, layouts: dict[str, Layout], module_name: str) -> None:
        super().__init__()
        self.layouts = layouts
        self.module_name = module_name

    def lacks(self, adapter: str, state_dict: Mapping[str, Any], prefix: str) -> bool:
        """Whether the adapter's places were drawn and ``state_dict`` does not have them."""
        return adapter in self._drawn() and prefix + adapter not in state_dict

    def _drawn(self) -> dict[str, PlacedLayout]:
        return {
            name: layout
            for name, layout in self.layouts.items()
            if isinstance(layout, PlacedLayout) and layout.drawn
        }

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, layout in self._drawn().items():
            destination[prefix + name] = layout.positions

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        drawn = self._drawn()
        missing_keys += [prefix + name for name in drawn if prefix + name not in state_dict]
        for key, positions in state_dict.items():
            name = key.removeprefix(prefix)
            if name not in drawn:
                unexpected_keys.append(key)
                continue
            try:
                self.layouts[name] = drawn[name].at(positions)
            except ValueError as error:
                raise ValueError(f"{self.module_name}: adapter {name!r}: {error}") from None
