"""Rectangular blocks at given places: Sparse Matrix Tuning's squares, and blocks drawn from a grid.

The gradient gathers the inputs and outputs of the blocks and is one batched product of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .ops import pairs_product
from .placed import PlacedLayout


@dataclass(frozen=True, eq=False)
class ChosenLayout(PlacedLayout):
    """K rectangles of an ``m1`` by ``m2`` matrix. Squares are made by :func:`chosen_layout`."""

    # The adapter's own products serve quantised bases and dropout; a product a block is simple, needs no
    # copy, and adds up blocks that share outputs (inputs) in a fixed order.

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        for x_part, out_part, block in self._parts(x, out, blocks):
            out_part.addmm_(x_part, block)

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        result = grad.new_zeros(grad.shape[0], self.in_features)
        for result_part, grad_part, block in self._parts(result, grad, blocks):
            result_part.addmm_(grad_part, block.t())
        return result

    def _parts(
        self, x: Tensor, y: Tensor, blocks: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each block views of its inputs in ``(tokens, m1)`` and its outputs in ``(tokens, m2)``."""
        inputs, outputs = self.inputs(x).unbind(1), self.outputs(y).unbind(1)
        for (i, j), block in zip(self.positions.tolist(), blocks, strict=True):
            yield inputs[i], outputs[j], block

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """As for every layout; takes blocks by as many as fill the wider of x and grad, so that what is
        gathered is never larger than what it is gathered from."""
        inputs, outputs = self.index(x.device)
        at_once = max(self.grid)
        parts = [
            pairs_product(
                self.inputs(x).index_select(1, i).transpose(0, 1),
                self.outputs(grad).index_select(1, j).transpose(0, 1),
                dtype,
            ).to(dtype)
            for i, j in zip(inputs.split(at_once), outputs.split(at_once), strict=True)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def chosen_layout(
    in_features: int, out_features: int, block_size: int, positions: Sequence[Sequence[int]]
) -> ChosenLayout:
    """The layout of squares of edge ``block_size`` at ``positions`` of (input block, output block).

    Raises:
        ValueError: the edge does not divide both widths, or a position lies outside.
    """
    if in_features % block_size or out_features % block_size:
        raise ValueError(
            f"block_size {block_size} must divide both {in_features} inputs and {out_features} outputs; "
            "take a common divisor of the widths of all layers with chosen blocks."
        )
    places = torch.tensor(positions, dtype=torch.int32)
    return ChosenLayout(in_features, out_features, block_size, block_size, places)
