"""What a layer, its weight and the autograd functions need to know of the entries that train."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Layout(ABC):
    """Which entries of the ``m1`` by ``m2`` matrix D train, as blocks of one parameter, and D's products.

    Diagonal blocks are a :class:`~diablo.tuner.ops.BlockLayout`. Everything else is blocks at given
    places (:class:`~diablo.tuner.placed.PlacedLayout`): rectangles, whole inputs, whole outputs, single
    entries. No gradient is computed of an entry that does not train.

    Attributes:
        in_features, out_features: ``m1`` and ``m2``.
        few: the blocks are few enough to be written one by one (:mod:`~diablo.tuner.fused`).
    """

    in_features: int
    out_features: int
    few: ClassVar[bool] = True

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """The shape of the parameter: blocks, inputs of a block, outputs of a block."""

    @property
    @abstractmethod
    def covers_parameter(self) -> bool:
        """No entry of the parameter is padding."""

    @abstractmethod
    def origins(self, weight: Tensor) -> list[int]:
        """How many elements after the weight's first each block's first lies (no padding)."""

    @abstractmethod
    def read(self, weight: Tensor) -> Tensor:
        """A copy of the blocks of a torch weight ``(m2, m1)``: :attr:`shape`, contiguous, padding zero."""

    @abstractmethod
    def write_(self, weight: Tensor, blocks: Tensor) -> None:
        """Put ``blocks`` into the weight."""

    @abstractmethod
    def write_sum_(self, weight: Tensor, source: Tensor | None, blocks: Tensor) -> None:
        """Put ``source + blocks`` into the weight; None adds to what is there.

        The sum is made in the wider of the two types and rounded once, to the weight's.
        """

    @abstractmethod
    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        """``out += x D`` in place: out ``(tokens, m2)``, x ``(tokens, m1)``."""

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
