"""The autograd functions of the two forms of a layer (notation: :mod:`~diablo.tuner.ops`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .layout import Layout
from .ops import pairs_product

if TYPE_CHECKING:
    from .layer import DiabloLinear


class AddBlockProduct(torch.autograd.Function):
    """``out += x D`` on the base layer's output, in place: the `adapter` form.

    Inputs: out ``(..., m2)``, x ``(..., m1)`` of the same dtype, blocks ``(N, d1, d2)`` of any dtype.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, blocks: Tensor, layout: Layout) -> Tensor:
        ctx.mark_dirty(out)
        ctx.save_for_backward(x, blocks)
        ctx.layout = layout
        flat = out.view(-1, layout.out_features)
        layout.add_product_(flat, x.reshape(-1, layout.in_features), blocks.to(out.dtype))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, blocks = ctx.saved_tensors
        layout = ctx.layout
        grad_x = grad_blocks = None
        flat = grad.reshape(-1, layout.out_features)
        if ctx.needs_input_grad[1]:
            grad_x = layout.input_grad(flat, blocks.to(grad.dtype)).view(x.shape)
        if ctx.needs_input_grad[2]:
            flat_x = x.reshape(-1, layout.in_features)
            grad_blocks = layout.block_grad(flat_x, flat, blocks.dtype)
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
        ctx.layouts = [layer.layouts[name] for name in names]
        bias = None if bias is None else bias.to(x.dtype)
        return F.linear(x, weight.to(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *blocks = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = ctx.layer.input_grad(flat, ctx.names, blocks).view(x.shape)
        if ctx.needs_input_grad[2]:
            grad_bias = flat.sum(0)
        flat_x = x.reshape(-1, x.shape[-1])
        grads = [
            layout.block_grad(flat_x, flat, block.dtype) if needed else None
            for layout, block, needed in zip(
                ctx.layouts, blocks, ctx.needs_input_grad[5:], strict=True
            )
        ]
        return grad_x, None, grad_bias, None, None, *grads


class TracedHeldLinear(torch.autograd.Function):
    """:class:`HeldLinear` for ``torch.compile``: one adapter of diagonal blocks, none cut, nothing but
    tensors.

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
        grad_blocks = pairs_product(inputs, outputs, blocks.dtype).to(blocks.dtype)
        grad_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, None, grad_bias, grad_blocks
