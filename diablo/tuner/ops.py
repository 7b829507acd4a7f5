"""Arithmetic of diagonal blocks: where they lie, views of tensors, products.

Notation of section 3.1 of the paper: a layer has ``m1`` inputs and ``m2`` outputs and N blocks of
shape ``(d1, d2)`` with ``d1 = ceil(m1 / N)``, ``d2 = ceil(m2 / N)``. Block n joins the inputs
``n*d1 .. (n+1)*d1`` with the outputs ``n*d2 .. (n+1)*d2``. The paper pads the input with zeros to
``N*d1`` and cuts the output to ``m2``. Nothing has to be padded to get the same numbers: the first
``full`` blocks lie inside the matrix, at most one sticks out and is cut to ``(edge_in, edge_out)``, and
the rest lie outside. So every operation here is a batched product over one or two strided views.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import Layout


@dataclass(frozen=True)
class BlockLayout(Layout):
    """Where the N blocks of an ``m1`` by ``m2`` matrix lie. Made by :func:`block_layout`."""

    in_features: int
    out_features: int
    num_blocks: int
    d1: int
    d2: int
    full: int
    edge_in: int
    edge_out: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the parameter, ``(N, d1, d2)``, padding included."""
        return self.num_blocks, self.d1, self.d2

    @property
    def has_edge(self) -> bool:
        return self.edge_in > 0 and self.edge_out > 0

    @property
    def covers_parameter(self) -> bool:
        return self.full == self.num_blocks

    @property
    def covers_input(self) -> bool:
        """Every input belongs to some block."""
        return self.full * self.d1 + (self.edge_in if self.has_edge else 0) == self.in_features

    def block_views(self, blocks: Tensor) -> list[Tensor]:
        """``(N, d1, d2)`` -> ``(full, d1, d2)`` and, where a block is cut, ``(1, edge_in, edge_out)``."""
        views = [blocks if self.covers_parameter else blocks[: self.full]]
        if self.has_edge:
            views.append(blocks[self.full : self.full + 1, : self.edge_in, : self.edge_out])
        return views

    def input_views(self, x: Tensor) -> list[Tensor]:
        """``(tokens, m1)`` -> ``(full, tokens, d1)`` and the cut block's ``(1, tokens, edge_in)``."""
        return self._width_views(x, self.d1, self.edge_in)

    def output_views(self, y: Tensor) -> list[Tensor]:
        """``(tokens, m2)`` -> ``(full, tokens, d2)`` and the cut block's ``(1, tokens, edge_out)``."""
        return self._width_views(y, self.d2, self.edge_out)

    def _width_views(self, x: Tensor, width: int, edge: int) -> list[Tensor]:
        end = self.full * width
        whole = x if x.shape[1] == end else x[:, :end]
        views = [whole.view(-1, self.full, width).transpose(0, 1)]
        if self.has_edge:
            views.append(x[:, end : end + edge].unsqueeze(0))
        return views

    def weight_views(self, weight: Tensor) -> list[Tensor]:
        """The blocks of a torch weight ``(m2, m1)``, shaped like :meth:`block_views`, as views."""
        row, column = weight.stride()
        step = self.d2 * row + self.d1 * column
        views = [weight.as_strided((self.full, self.d1, self.d2), (step, column, row))]
        if self.has_edge:
            rows, columns = self.full * self.d2, self.full * self.d1
            edge = weight[rows : rows + self.edge_out, columns : columns + self.edge_in]
            views.append(edge.t().unsqueeze(0))
        return views

    def origins(self, weight: Tensor) -> list[int]:
        row, column = weight.stride()
        return [n * (self.d2 * row + self.d1 * column) for n in range(self.num_blocks)]

    def read(self, weight: Tensor) -> Tensor:
        make = weight.new_empty if self.covers_parameter else weight.new_zeros
        blocks = make(self.shape)
        self._copy(self.block_views(blocks), self.weight_views(weight))
        return blocks

    def write_(self, weight: Tensor, blocks: Tensor) -> None:
        self._copy(self.weight_views(weight), self.block_views(blocks))

    def write_sum_(self, weight: Tensor, source: Tensor | None, blocks: Tensor) -> None:
        """As for every layout: one elementwise kernel a view."""
        views = self.weight_views(weight)
        sources = views if source is None else self.block_views(source)
        for view, part, block in zip(views, sources, self.block_views(blocks), strict=True):
            torch.add(part, block, out=view)

    @staticmethod
    def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        views = zip(
            self.output_views(out), self.input_views(x), self.block_views(blocks), strict=True
        )
        for out_view, x_view, block_view in views:
            out_view.baddbmm_(x_view, block_view)

    def product(self, x: Tensor, blocks: Tensor) -> Tensor:
        """``x D``, ``(tokens, m2)``: plain differentiable operations, for torch.compile."""
        views = zip(self.input_views(x), self.block_views(blocks), strict=True)
        parts = [torch.bmm(xv, bv).transpose(0, 1).flatten(1) for xv, bv in views]
        product = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return F.pad(product, (0, self.out_features - product.shape[1]))

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        shape = (grad.shape[0], self.in_features)
        result = grad.new_empty(shape) if self.covers_input else grad.new_zeros(shape)
        views = zip(
            self.input_views(result),
            self.output_views(grad),
            self.block_views(blocks),
            strict=True,
        )
        for result_view, grad_view, block_view in views:
            result_view.baddbmm_(grad_view, block_view.transpose(1, 2), beta=0)
        return result

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """As for every layout (here it is equation 2 of the paper)."""
        views = zip(self.input_views(x), self.output_views(grad), strict=True)
        products = [pairs_product(xv, gv, dtype) for xv, gv in views]
        if self.covers_parameter:
            return products[0].to(dtype)
        result = torch.zeros(self.shape, dtype=dtype, device=x.device)
        for result_view, product in zip(self.block_views(result), products, strict=True):
            result_view.copy_(product)
        return result


@cache
def block_layout(in_features: int, out_features: int, num_blocks: int) -> BlockLayout:
    """The layout of N blocks; N is kept even where it divides neither width (section 3.1).

    Raises:
        ValueError: N below 1, or above both widths (every further block would lie outside).
    """
    widest = max(in_features, out_features)
    if not 1 <= num_blocks <= widest:
        raise ValueError(
            f"num_blocks must be at least 1 and at most {widest}, the larger of {in_features} inputs "
            f"and {out_features} outputs, but it is {num_blocks}."
        )
    d1, d2 = -(-in_features // num_blocks), -(-out_features // num_blocks)
    full = min(num_blocks, in_features // d1, out_features // d2)
    room = full < num_blocks
    edge_in = min(d1, in_features - full * d1) if room else 0
    edge_out = min(d2, out_features - full * d2) if room else 0
    return BlockLayout(in_features, out_features, num_blocks, d1, d2, full, edge_in, edge_out)


def block_product(x: Tensor, blocks: Tensor, layout: BlockLayout) -> Tensor:
    """``x D`` for x of shape ``(..., m1)``: plain differentiable operations, for torch.compile."""
    product = layout.product(x.reshape(-1, layout.in_features), blocks)
    return product.view(*x.shape[:-1], layout.out_features)


def pairs_product(x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
    """``x^T grad`` for every block: x ``(N, tokens, d1)``, grad ``(N, tokens, d2)``.

    In ``dtype`` where the batched product can write it and in the inputs' type elsewhere.
    """
    if x.is_cuda:
        if dtype == torch.float32 and x.dtype in (torch.float16, torch.bfloat16):
            return torch.bmm(x.transpose(1, 2), grad, out_dtype=dtype)
        return torch.bmm(x.transpose(1, 2), grad)
    if x.shape[2] > grad.shape[2]:
        return _thin_product(grad, x).transpose(1, 2)
    return _thin_product(x, grad)


#: The least width at which a product on a CPU fills its vector registers.
_VECTOR = 16


def _thin_product(narrow: Tensor, wide: Tensor) -> Tensor:
    """``narrow^T wide`` for every block, on a CPU: ``(N, tokens, a)``, ``(N, tokens, b)``, a <= b.

    Thin matrices multiply two to four times faster with the narrower one first. Neighbouring blocks too
    thin for a vector are multiplied as one, and the parts off its diagonal are dropped: twice the
    arithmetic in half the time.
    """
    count, _, a = narrow.shape
    b = wide.shape[2]
    joined = -(-_VECTOR // b)
    if joined == 1 or count % joined:
        return torch.bmm(narrow.transpose(1, 2), wide)
    merged = [
        t.transpose(0, 1).view(-1, count // joined, joined * t.shape[2]) for t in (narrow, wide)
    ]
    product = torch.bmm(merged[0].permute(1, 2, 0), merged[1].transpose(0, 1))
    parts = product.view(-1, joined, a, joined, b).diagonal(dim1=1, dim2=3)
    return parts.permute(0, 3, 1, 2).reshape(count, a, b)
