"""What a layer, its weight and the autograd functions need to know of the entries that train."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Layout(ABC):
    """Which entries of the ``m1`` by ``m2`` matrix D train, as blocks of one parameter, and D's products.

    Diagonal blocks are a :class:`~diablo.tuner.ops.BlockLayout`, blocks at chosen places a
    :class:`~diablo.tuner.chosen.ChosenLayout`. D is never built: every product reads the blocks.

    Attributes:
        in_features, out_features: ``m1`` and ``m2``.
    """

    in_features: int
    out_features: int

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """The shape of the parameter: blocks, inputs of a block, outputs of a block."""

    @property
    @abstractmethod
    def covers_parameter(self) -> bool:
        """No entry of the parameter is padding."""

    @abstractmethod
    def block_views(self, blocks: Tensor) -> list[Tensor]:
        """The parameter in parts, without its padding, as views."""

    @abstractmethod
    def weight_views(self, weight: Tensor) -> list[Tensor]:
        """The blocks of a torch weight ``(m2, m1)``, shaped like :meth:`block_views`, as views."""

    @abstractmethod
    def origins(self, weight: Tensor) -> list[int]:
        """How many elements after the weight's first each block's first lies (no padding)."""

    @abstractmethod
    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        """``out += x D`` in place: out ``(tokens, m2)``, x ``(tokens, m1)``."""

    @abstractmethod
    def product(self, x: Tensor, blocks: Tensor) -> Tensor:
        """``x D``, ``(tokens, m2)``: plain differentiable operations, for torch.compile."""

    @abstractmethod
    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        """``grad D^T``: the adapter's part of the input gradient, ``(tokens, m1)``."""

    @abstractmethod
    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """The gradient of the blocks, ``x_n^T grad_n`` for block n's inputs and outputs.

        Returns :attr:`shape` in ``dtype``, the blocks' own. A GPU adds 16-bit products up in float32 and
        float32 blocks get that sum unrounded; elsewhere it is rounded to the inputs' type on the way, as
        autocast rounds every weight gradient.
        """

    def read(self, weight: Tensor) -> Tensor:
        """A copy of the weight's blocks in the parameter's shape, contiguous, padding zero."""
        make = weight.new_empty if self.covers_parameter else weight.new_zeros
        blocks = make(self.shape)
        for part, view in zip(self.block_views(blocks), self.weight_views(weight), strict=True):
            part.copy_(view)
        return blocks

    def write_(self, weight: Tensor, blocks: Tensor) -> None:
        """Put ``blocks`` into the weight."""
        for view, part in zip(self.weight_views(weight), self.block_views(blocks), strict=True):
            view.copy_(part)

    def write_sum_(self, weight: Tensor, source: Tensor | None, blocks: Tensor) -> None:
        """Put ``source + blocks`` into the weight; None adds to what is there.

        One elementwise kernel a view: the sum in the wider of the two types, rounded once to the
        weight's.
        """
        views = self.weight_views(weight)
        sources = views if source is None else self.block_views(source)
        for view, part, block in zip(views, sources, self.block_views(blocks), strict=True):
            torch.add(part, block, out=view)
