"""Single entries of a weight, anywhere: the gradient is a sampled product."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .placed import PlacedLayout


@dataclass(frozen=True, eq=False)
class EntriesLayout(PlacedLayout):
    """K single entries: blocks of ``(1, 1)``, in the order of a torch weight, output by output."""

    few: ClassVar[bool] = False
    _crow: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        inputs, outputs = self.positions.long().unbind(1)
        order = (outputs * self.in_features + inputs).argsort()
        object.__setattr__(self, "positions", self.positions[order])

    # The adapter's own products serve quantised bases and dropout. They build D, for one layer at a time:
    # it is one dense product in any type, and entries that share an output add up in a fixed order.

    def _dense(self, blocks: Tensor) -> Tensor:
        """D as a torch weight, ``(m2, m1)``."""
        delta = blocks.new_zeros(self.out_features, self.in_features)
        self.write_(delta, blocks)
        return delta

    def add_product_(self, out: Tensor, x: Tensor, blocks: Tensor) -> None:
        out.addmm_(x, self._dense(blocks).t())

    def input_grad(self, grad: Tensor, blocks: Tensor) -> Tensor:
        return grad.mm(self._dense(blocks))

    def block_grad(self, x: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """As for every layout: a scalar product over the tokens for each entry, added up in float32 at least.

        Nothing is as large as the full gradient, or as entries times tokens.
        """
        compute = self.sampled if x.device.type == "cpu" and len(x) else self.gathered
        return compute(x, grad).to(dtype).view(self.shape)

    def sampled(self, x: Tensor, grad: Tensor) -> Tensor:
        """The entries of ``x^T grad``, ``(K,)``, by one sparse product.

        On a CPU it takes about as long as a third of the dense one. It copies x and grad, in the type of
        the sums.
        """
        sums = torch.promote_types(x.dtype, torch.float32)
        rows, columns = grad.t().to(sums).contiguous(), x.to(sums)
        sample = self._sample(x.device, sums)
        return torch.sparse.sampled_addmm(sample, rows, columns, beta=0).values()

    def gathered(self, x: Tensor, grad: Tensor) -> Tensor:
        """The same by gathering inputs and outputs, of as many entries as fill the wider of x and grad.

        In a fixed order and of nothing but common operations: what a GPU can replay.
        """
        sums = torch.promote_types(x.dtype, torch.float32)
        at_once = max(self.in_features, self.out_features)
        rows, columns = grad.t().contiguous(), x.t().contiguous()
        inputs, outputs = (index.split(at_once) for index in self.index(x.device))
        parts = [
            (columns[i].to(sums) * rows[j]).sum(1) for i, j in zip(inputs, outputs, strict=True)
        ]
        return torch.cat(parts)

    def _sample(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The places as a sparse matrix ``(m2, m1)`` in compressed rows."""
        inputs, outputs = self.index(device)
        if device not in self._crow:
            counts = torch.bincount(outputs, minlength=self.out_features)
            with torch.inference_mode(False):
                self._crow[device] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        values = torch.zeros(len(inputs), dtype=dtype, device=device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                self._crow[device],
                inputs,
                values,
                (self.out_features, self.in_features),
                check_invariants=False,
            )
