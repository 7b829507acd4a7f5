"""What a base layer's weight holds: W0, or W0 + D in its diagonal blocks.

Both merging and the `inplace` form write into the frozen weight. This class owns those writes and the
backup that undoes them bit for bit. It knows nothing of PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .ops import BlockLayout


class HeldWeight:
    """The contents of one weight ``(m2, m1)``, and a copy of W0's own blocks while they are covered.

    ``names`` says whose blocks the weight holds: ``()`` means W0 itself. Writes go through
    ``weight.data`` and leave the weight's version counter alone: rewriting the same sum between a
    forward and its backward pass is no change, and a true change of D is caught on the blocks.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._backup: list[tuple[BlockLayout, list[Tensor]]] = []

    def write(
        self,
        weight: Tensor,
        names: tuple[str, ...],
        layouts: Sequence[BlockLayout],
        blocks: Sequence[Tensor],
    ) -> None:
        """Make the weight hold W0 plus the blocks ``(N, d1, d2)`` of every adapter in ``names``.

        It writes always and asks nothing: see :class:`~diablo.tuner.layer.DiabloLinear` for why that is
        what makes `inplace` exact. One adapter costs one elementwise kernel over its blocks; further
        ones, whose blocks may overlap the first's, are added one after the other.
        """
        with torch.inference_mode(False), torch.no_grad():
            data = weight.data
            if names != self.names:
                self.restore(weight)
                self._backup = [
                    (lay, [_copy(view) for view in lay.weight_views(data)]) for lay in layouts
                ]
                self.names = names
            elif len(names) > 1:
                self._copy_backup(data)
            for index, (layout, block) in enumerate(zip(layouts, blocks, strict=True)):
                views = zip(
                    layout.weight_views(data), layout.block_views(block.detach()), strict=True
                )
                for part, (view, block_view) in enumerate(views):
                    source = self._backup[0][1][part].to(view.device) if index == 0 else view
                    # In one kernel: sum in the wider of the two types, round once to the weight's.
                    torch.add(source, block_view, out=view)

    def backup(self) -> Tensor:
        """W0's own whole blocks ``(full, d1, d2)`` under the first adapter's, contiguous."""
        return self._backup[0][1][0]

    def restore(self, weight: Tensor) -> None:
        """Put W0 back, bit for bit, and drop the copy of its blocks."""
        if not self.names:
            return
        with torch.inference_mode(False), torch.no_grad():
            self._copy_backup(weight.data)
        self.names, self._backup = (), []

    def finite(self, weight: Tensor) -> bool:
        """Whether every block that the weight holds is finite."""
        data = weight.data
        views = [view for layout, _ in self._backup for view in layout.weight_views(data)]
        return all(bool(torch.isfinite(view).all()) for view in views)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow ``nn.Module._apply`` (``to``, ``half``, ``cuda``) with the copy of W0's blocks."""
        with torch.no_grad():
            self._backup = [(lay, [fn(part) for part in parts]) for lay, parts in self._backup]

    def _copy_backup(self, data: Tensor) -> None:
        for layout, parts in self._backup:
            for view, part in zip(layout.weight_views(data), parts, strict=True):
                view.copy_(part)


def _copy(view: Tensor) -> Tensor:
    return view.clone(memory_format=torch.contiguous_format)
