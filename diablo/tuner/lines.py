"""Whole inputs or whole outputs of a weight: blocks as long as the matrix is wide.

With ``Y = X W``, as the paper writes it, an input is a row of W and an output a column. A torch weight is
the transpose: there an input is a column and an output a row. Both readings of "row" are there, under
names that cannot be mistaken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .ops import pairs_product
from .placed import PlacedLayout


@dataclass(frozen=True, eq=False)
class InputsLayout(PlacedLayout):
    """All weights of K inputs: blocks of ``(1, m2)``."""

    def _chosen(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index(x.device)[0])

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        out.addmm_(self._chosen(x), blocks.squeeze(1))

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        result = grad.new_zeros(grad.shape[0], self.in_features)
        product = grad.mm(blocks.squeeze(1).t())
        return result.index_copy_(1, self.index(grad.device)[0], product)

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        product = pairs_product(self._chosen(x)[None], grad[None], dtype)
        return product.to(dtype).view(self.shape)


@dataclass(frozen=True, eq=False)
class OutputsLayout(PlacedLayout):
    """All weights of K outputs: blocks of ``(m1, 1)``."""

    def _chosen(self, y: Tensor) -> Tensor:
        return y.index_select(1, self.index(y.device)[1])

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        outputs = self.index(x.device)[1]
        total = torch.addmm(out.index_select(1, outputs), x, blocks.squeeze(2).t())
        out.index_copy_(1, outputs, total)

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        return self._chosen(grad).mm(blocks.squeeze(2))

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        product = pairs_product(self._chosen(grad)[None], x[None], dtype)
        return product.to(dtype).view(self.shape)
