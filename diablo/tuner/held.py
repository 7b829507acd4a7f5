"""What a base layer's weight holds: W0, or W0 + D in the blocks of D.

Both merging and the `inplace` form write into the frozen weight. This class owns those writes and the
backup that undoes them bit for bit. It knows nothing of PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .layout import Layout


class HeldWeight:
    """The contents of one weight ``(m2, m1)``, and a copy of W0's own blocks while they are covered.

    ``names`` says whose blocks the weight holds: ``()`` means W0 itself. Writes go through
    ``weight.data`` and leave the weight's version counter alone: rewriting the same sum between a
    forward and its backward pass is no change, and a true change of D is caught on the blocks.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._backup: list[tuple[Layout, Tensor]] = []

    def write(
        self,
        weight: Tensor,
        names: tuple[str, ...],
        layouts: Sequence[Layout],
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
                self._backup = [(layout, layout.read(data)) for layout in layouts]
                self.names = names
            elif len(names) > 1:
                self._copy_backup(data)
            for index, (layout, block) in enumerate(zip(layouts, blocks, strict=True)):
                source = self._backup[0][1].to(data.device) if index == 0 else None
                layout.write_sum_(data, source, block.detach())

    def backup(self) -> Tensor:
        """W0's own blocks ``(N, d1, d2)`` under the first adapter's, contiguous."""
        return self._backup[0][1]

    def restore(self, weight: Tensor) -> None:
        """Put W0 back, bit for bit, and drop the copy of its blocks."""
        if not self.names:
            return
        with torch.inference_mode(False), torch.no_grad():
            self._copy_backup(weight.data)
        self.names, self._backup = (), []

    def finite(self, weight: Tensor) -> bool:
        """Whether every block that the weight holds is finite."""
        blocks = [layout.read(weight.data) for layout, _ in self._backup]
        return all(bool(torch.isfinite(part).all()) for part in blocks)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow ``nn.Module._apply`` (``to``, ``half``, ``cuda``) with the copy of W0's blocks."""
        with torch.no_grad():
            self._backup = [(layout, fn(blocks)) for layout, blocks in self._backup]

    def _copy_backup(self, data: Tensor) -> None:
        for layout, blocks in self._backup:
            layout.write_(data, blocks)
