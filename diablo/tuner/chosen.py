"""Square blocks at chosen places of a weight, as Sparse Matrix Tuning trains them.

A layer of ``m1`` inputs and ``m2`` outputs is a grid of ``m1 / b`` by ``m2 / b`` blocks of edge b. The
block at ``(i, j)`` joins the inputs ``i*b .. (i+1)*b`` with the outputs ``j*b .. (j+1)*b``. Blocks may
share inputs or outputs, so unlike diagonal blocks they are no strided view of anything: the gradient
gathers the inputs and outputs of the blocks and is one batched product of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout
from .ops import pairs_product

#: (input block, output block)
Position = tuple[int, int]


@dataclass(frozen=True)
class ChosenLayout(Layout):
    """Where the K chosen blocks of an ``m1`` by ``m2`` matrix lie. Made by :func:`chosen_layout`."""

    in_features: int
    out_features: int
    block_size: int
    positions: tuple[Position, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the parameter, ``(K, b, b)``: block k is the one at ``positions[k]``."""
        return len(self.positions), self.block_size, self.block_size

    @property
    def covers_parameter(self) -> bool:
        return True

    def block_views(self, blocks: Tensor) -> list[Tensor]:
        """``(K, b, b)`` -> K times ``(b, b)``."""
        return list(blocks.unbind(0))

    def weight_views(self, weight: Tensor) -> list[Tensor]:
        row, column = weight.stride()
        size, first = (self.block_size, self.block_size), weight.storage_offset()
        return [
            weight.as_strided(size, (column, row), first + origin)
            for origin in self.origins(weight)
        ]

    def origins(self, weight: Tensor) -> list[int]:
        row, column = weight.stride()
        return [self.block_size * (i * column + j * row) for i, j in self.positions]

    # The adapter's own products serve quantised bases and dropout; a product a block is simple, needs no
    # copy, and adds up blocks that share outputs (inputs) in a fixed order.

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        for (i, j), block in zip(self.positions, blocks, strict=True):
            self._columns(out, j).addmm_(self._columns(x, i), block)

    def product(self, x: Tensor, blocks: Tensor) -> Tensor:
        columns = [x.new_zeros(x.shape[0], self.block_size)] * (
            self.out_features // self.block_size
        )
        for (i, j), block in zip(self.positions, blocks, strict=True):
            columns[j] = torch.addmm(columns[j], self._columns(x, i), block)
        return torch.cat(columns, dim=1)

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        result = grad.new_zeros(grad.shape[0], self.in_features)
        for (i, j), block in zip(self.positions, blocks, strict=True):
            self._columns(result, i).addmm_(self._columns(grad, j), block.t())
        return result

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """As for every layout; takes blocks by as many as fill the wider of x and grad, so that what is
        gathered is never larger than what it is gathered from."""
        at_once = max(self.in_features, self.out_features) // self.block_size
        parts = [
            self._block_grad(x, grad, self.positions[first : first + at_once], dtype)
            for first in range(0, len(self.positions), at_once)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _block_grad(
        self, x: Tensor, grad: Tensor, positions: Sequence[Position], dtype: torch.dtype
    ) -> Tensor:
        inputs, outputs = zip(*positions, strict=True)
        return pairs_product(self._gather(x, inputs), self._gather(grad, outputs), dtype).to(dtype)

    def _gather(self, x: Tensor, chosen: Sequence[int]) -> Tensor:
        """``(tokens, width)`` -> ``(K, tokens, b)``, strided like a view of diagonal blocks.

        One copy, and no index tensor that would have to be brought to the device.
        """
        parts = x.unflatten(1, (-1, self.block_size)).unbind(1)
        return torch.stack([parts[n] for n in chosen], dim=1).transpose(0, 1)

    def _columns(self, x: Tensor, n: int) -> Tensor:
        return x.narrow(1, n * self.block_size, self.block_size)


def chosen_layout(
    in_features: int, out_features: int, block_size: int, positions: Sequence[Sequence[int]]
) -> ChosenLayout:
    """The layout of blocks of edge ``block_size`` at ``positions`` of (input block, output block).

    Raises:
        ValueError: the edge does not divide both widths, or a position lies outside.
    """
    if in_features % block_size or out_features % block_size:
        raise ValueError(
            f"block_size {block_size} must divide both {in_features} inputs and {out_features} outputs; "
            "take a common divisor of the widths of all layers with chosen blocks."
        )
    rows, columns = in_features // block_size, out_features // block_size
    for i, j in positions:
        if i >= rows or j >= columns:
            raise ValueError(
                f"block_positions has {[i, j]}, but with block_size {block_size} this layer has "
                f"{rows} input blocks and {columns} output blocks, counted from 0."
            )
    return ChosenLayout(in_features, out_features, block_size, tuple((i, j) for i, j in positions))
