"""Arithmetic of diagonal blocks: views of tensors, and the two autograd functions.

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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:
    from .layer import DiabloLinear


@dataclass(frozen=True)
class BlockLayout:
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
        """No entry of the parameter is padding."""
        return self.full == self.num_blocks

    @property
    def covers_input(self) -> bool:
        """Every input belongs to some block."""
        return self.full * self.d1 + (self.edge_in if self.has_edge else 0) == self.in_features

    def block_views(self, blocks: Tensor) -> list[Tensor]:
        """``(N, d1, d2)`` -> ``(full, d1, d2)`` and, where a block is cut, ``(1, edge_in, edge_out)``."""
        views = [blocks[: self.full]]
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
        views = [x[:, :end].unflatten(1, (self.full, width)).transpose(0, 1)]
        if self.has_edge:
            views.append(x[:, end : end + edge].unsqueeze(0))
        return views

    def weight_views(self, weight: Tensor) -> list[Tensor]:
        """The blocks of a torch weight ``(m2, m1)``, shaped like :meth:`block_views`, as views."""
        rows, columns = self.full * self.d2, self.full * self.d1
        grid = weight[:rows, :columns].unflatten(1, (self.full, self.d1))
        grid = grid.unflatten(0, (self.full, self.d2))  # (full, d2, full, d1)
        views = [grid.diagonal(dim1=0, dim2=2).permute(2, 1, 0)]
        if self.has_edge:
            edge = weight[rows : rows + self.edge_out, columns : columns + self.edge_in]
            views.append(edge.t().unsqueeze(0))
        return views


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


def add_block_product_(out: Tensor, x: Tensor, blocks: Tensor, layout: BlockLayout) -> Tensor:
    """``out += x D`` in place: out ``(tokens, m2)``, x ``(tokens, m1)``, blocks ``(N, d1, d2)``."""
    views = zip(
        layout.output_views(out), layout.input_views(x), layout.block_views(blocks), strict=True
    )
    for out_view, x_view, block_view in views:
        out_view.baddbmm_(x_view, block_view)
    return out


def block_product(x: Tensor, blocks: Tensor, layout: BlockLayout) -> Tensor:
    """``x D`` for x of shape ``(..., m1)``: plain differentiable operations, for torch.compile."""
    flat = x.reshape(-1, layout.in_features)
    views = zip(layout.input_views(flat), layout.block_views(blocks), strict=True)
    parts = [torch.bmm(xv, bv).transpose(0, 1).flatten(1) for xv, bv in views]
    product = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    product = F.pad(product, (0, layout.out_features - product.shape[1]))
    return product.view(*x.shape[:-1], layout.out_features)


def block_input_grad(grad: Tensor, blocks: Tensor, layout: BlockLayout) -> Tensor:
    """``grad D^T``: the adapter's part of the input gradient, ``(tokens, m1)``."""
    shape = (grad.shape[0], layout.in_features)
    result = grad.new_empty(shape) if layout.covers_input else grad.new_zeros(shape)
    views = zip(
        layout.input_views(result),
        layout.output_views(grad),
        layout.block_views(blocks),
        strict=True,
    )
    for result_view, grad_view, block_view in views:
        result_view.baddbmm_(grad_view, block_view.transpose(1, 2), beta=0)
    return result


def block_grad(x: Tensor, grad: Tensor, layout: BlockLayout, dtype: torch.dtype) -> Tensor:
    """The gradient of the blocks, ``x_n^T grad_n`` for every block n (equation 2 of the paper).

    Returns ``(N, d1, d2)`` in ``dtype``, the blocks' own. A GPU adds 16-bit products up in float32 and
    float32 blocks get that sum unrounded; elsewhere it is rounded to the inputs' type on the way, as
    autocast rounds every weight gradient.
    """
    views = zip(layout.input_views(x), layout.output_views(grad), strict=True)
    products = [_product(xv.transpose(1, 2), gv, dtype) for xv, gv in views]
    if layout.covers_parameter:
        return products[0].to(dtype)
    result = torch.zeros(layout.shape, dtype=dtype, device=x.device)
    for result_view, product in zip(layout.block_views(result), products, strict=True):
        result_view.copy_(product)
    return result


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """``a b``, in ``dtype`` where the batched product can write it and in the inputs' type elsewhere."""
    if a.is_cuda and dtype == torch.float32 and a.dtype in (torch.float16, torch.bfloat16):
        return torch.bmm(a, b, out_dtype=dtype)
    return torch.bmm(a, b)


class AddBlockProduct(torch.autograd.Function):
    """``out += x D`` on the base layer's output, in place: the `adapter` form.

    Inputs: out ``(..., m2)``, x ``(..., m1)`` of the same dtype, blocks ``(N, d1, d2)`` of any dtype.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, blocks: Tensor, layout: BlockLayout) -> Tensor:
        ctx.mark_dirty(out)
        ctx.save_for_backward(x, blocks)
        ctx.layout = layout
        flat = out.view(-1, layout.out_features)
        add_block_product_(flat, x.reshape(-1, layout.in_features), blocks.to(out.dtype), layout)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, blocks = ctx.saved_tensors
        layout = ctx.layout
        grad_x = grad_blocks = None
        flat = grad.reshape(-1, layout.out_features)
        if ctx.needs_input_grad[1]:
            grad_x = block_input_grad(flat, blocks.to(grad.dtype), layout).view(x.shape)
        if ctx.needs_input_grad[2]:
            flat_x = x.reshape(-1, layout.in_features)
            grad_blocks = block_grad(flat_x, flat, layout, blocks.dtype)
        return grad, grad_x, grad_blocks, None


class HeldLinear(torch.autograd.Function):
    """``x (W0 + D) + bias`` where the frozen weight already holds ``W0 + D``: the `inplace` form.

    Inputs: x ``(..., m1)``, weight ``(m2, m1)``, bias ``(m2,)`` or None, then one ``(N, d1, d2)`` per
    active adapter in ``names``. The forward pass is the base layer's matrix product and nothing else;
    the backward pass is the base layer's too, plus the gradient of the blocks.

    The weight is not saved for the backward pass but read from the layer, which puts back the
    contents of the forward pass if they have been swapped since (`disable_adapter` between the two,
    as preference training does). The blocks are saved, so PyTorch's own version check refuses a
    backward pass after they were changed in place, just as it does for any other parameter.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        layer: DiabloLinear,
        names: tuple[str, ...],
        *blocks: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, *blocks)
        ctx.layer, ctx.names = layer, names
        ctx.layouts = [layer.layout(name) for name in names]
        bias = None if bias is None else bias.to(x.dtype)
        return F.linear(x, weight.to(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *blocks = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            with ctx.layer.holding(ctx.names, blocks) as weight:
                grad_x = flat.mm(weight.to(grad.dtype)).view(x.shape)
        if ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0)
        flat_x = x.reshape(-1, x.shape[-1])
        grads = [
            block_grad(flat_x, flat, layout, block.dtype) if needed else None
            for layout, block, needed in zip(
                ctx.layouts, blocks, ctx.needs_input_grad[5:], strict=True
            )
        ]
        return grad_x, None, grad_bias, None, None, *grads


class TracedHeldLinear(torch.autograd.Function):
    """:class:`HeldLinear` for ``torch.compile``: one adapter, no cut block, nothing but tensors.

    Inputs: x ``(..., m1)``, weight ``(m2, m1)`` that holds ``W0 + D``, bias or None, blocks
    ``(N, d1, d2)``. The weight is saved as any other would be, so it must still hold the same sum in the
    backward pass: adapters may not be switched between the two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, blocks: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, blocks)
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, blocks = ctx.saved_tensors
        num_blocks, d1, d2 = blocks.shape
        flat, flat_x = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        grad_x = flat.mm(weight.to(grad.dtype)).view(x.shape)
        inputs = flat_x.unflatten(1, (num_blocks, d1)).transpose(0, 1)
        outputs = flat.unflatten(1, (num_blocks, d2)).transpose(0, 1)
        grad_blocks = _product(inputs.transpose(1, 2), outputs, blocks.dtype).to(blocks.dtype)
        grad_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, None, grad_bias, grad_blocks
