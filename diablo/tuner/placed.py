"""Blocks of one shape at given places of a weight: what all patterns but the diagonal one share.

A layer of ``m1`` inputs and ``m2`` outputs is a grid of ``m1 // d1`` by ``m2 // d2`` blocks of shape
``(d1, d2)``; what is left over at the edges belongs to no block. The block at ``(i, j)`` joins the inputs
``i*d1 .. (i+1)*d1`` with the outputs ``j*d2 .. (j+1)*d2``. Blocks may share inputs or outputs, so unlike
diagonal blocks they are no strided view of anything and are reached through an index.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from .layout import Layout


@dataclass(frozen=True, eq=False)
class PlacedLayout(Layout):
    """K blocks of shape ``(d1, d2)`` at ``positions`` of an ``m1`` by ``m2`` matrix.

    Attributes:
        positions: ``(K, 2)`` of int32, on the CPU: the [input block, output block] of each block.
        drawn: they were drawn at random, so an adapter keeps them in its file.

    Raises:
        ValueError: a position lies outside.
    """

    in_features: int
    out_features: int
    d1: int
    d2: int
    positions: Tensor
    drawn: bool = False
    _on: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        rows, columns = self.grid
        inputs, outputs = self.positions.unbind(1)
        outside = (inputs < 0) | (inputs >= rows) | (outputs < 0) | (outputs >= columns)
        if bool(outside.any()):
            raise ValueError(
                f"there is a block at {self.positions[outside][0].tolist()}, but of blocks of "
                f"{self.d1} x {self.d2} this layer of {self.in_features} inputs and "
                f"{self.out_features} outputs has {rows} input blocks and {columns} output blocks, "
                "counted from 0."
            )

    def at(self, positions: Tensor) -> Self:
        """The layout of as many blocks at other positions.

        Raises:
            ValueError: another number of positions, or one lies outside.
        """
        if positions.shape != self.positions.shape:
            raise ValueError(
                f"there are positions of shape {tuple(positions.shape)}, but this layer of "
                f"{self.in_features} inputs and {self.out_features} outputs needs "
                f"{tuple(self.positions.shape)}."
            )
        return replace(self, positions=positions.to("cpu", torch.int32))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the parameter, ``(K, d1, d2)``: block k is the one at ``positions[k]``."""
        return len(self.positions), self.d1, self.d2

    @property
    def grid(self) -> tuple[int, int]:
        """How many blocks side by side the inputs and the outputs have."""
        return self.in_features // self.d1, self.out_features // self.d2

    @property
    def covers_parameter(self) -> bool:
        return True

    def index(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Input blocks and output blocks, each ``(K,)`` of int64; brought to a device once."""
        if device not in self._on:
            with torch.inference_mode(False):
                first, second = self.positions.t().to(device, torch.int64).contiguous()
            self._on[device] = first, second
        return self._on[device]

    def inputs(self, x: Tensor) -> Tensor:
        """``(tokens, m1)`` as a view ``(tokens, input blocks, d1)``."""
        return _blocks(x, 1, self.grid[0], self.d1)

    def outputs(self, y: Tensor) -> Tensor:
        """``(tokens, m2)`` as a view ``(tokens, output blocks, d2)``."""
        return _blocks(y, 1, self.grid[1], self.d2)

    def _cells(self, weight: Tensor) -> Tensor:
        """A torch weight ``(m2, m1)`` as a view ``(input blocks, output blocks, d1, d2)``."""
        rows, columns = self.grid
        return _blocks(_blocks(weight, 1, rows, self.d1), 0, columns, self.d2).permute(2, 0, 3, 1)

    def origins(self, weight: Tensor) -> list[int]:
        row, column = weight.stride()
        return [self.d1 * i * column + self.d2 * j * row for i, j in self.positions.tolist()]

    def read(self, weight: Tensor) -> Tensor:
        return self._cells(weight)[self.index(weight.device)].contiguous()

    def write_(self, weight: Tensor, blocks: Tensor) -> None:
        self._cells(weight).index_put_(self.index(weight.device), blocks.to(weight.dtype))

    def write_sum_(self, weight: Tensor, source: Tensor | None, blocks: Tensor) -> None:
        source = self.read(weight) if source is None else source
        self.write_(weight, source + blocks)


def _blocks(x: Tensor, dim: int, count: int, width: int) -> Tensor:
    """The first ``count * width`` of a dimension, split in two."""
    return x.narrow(dim, 0, count * width).unflatten(dim, (count, width))
