"""Gradient norms by group of parameters, from the pass over the gradients that clipping makes anyway.

Table 9 of the paper follows the norms of LoRA's A and B and of DiaBlo's blocks apart. What is measured
is not said there; here it is the global L2 norm of a group, of the accumulated and unscaled gradient,
before clipping, and beside it the mean norm of the group's matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_

#: The group of parameters that belong to no adapter.
BASE = "base"


def parameter_group(name: str, adapters: Sequence[str] = ("default",)) -> str:
    """The group of a parameter: `lora_A`, `lora_B`, `diablo_blocks`, or :data:`BASE`.

    PEFT names an adapter's parameters `<module>.<group>.<adapter>`, some with `.weight` after it.
    """
    parts = name.split(".")
    for before, part in pairwise(parts):
        if part in adapters:
            return before
    return BASE


class GroupNorms:
    """Clips the gradients of a model, and keeps the norms by group that it needed for that.

    Attributes:
        groups: names of the groups, in the order of :attr:`values`.
        values: (2 * groups,) on the gradients' device: global norms, then means over the matrices.
    """

    def __init__(self, model: nn.Module):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        adapters = tuple(getattr(model, "peft_config", ()))
        self._parameters = [parameter for _, parameter in named]
        self._groups = [parameter_group(name, adapters) for name, _ in named]
        self.groups = sorted(set(self._groups))
        self.values = torch.zeros(2 * len(self.groups))

    def clip(self, max_norm: float) -> Tensor:
        """Scale the gradients down to a global L2 norm of `max_norm`; the norm from before, a scalar."""
        named = zip(self._parameters, self._groups, strict=True)
        having = [(p, group) for p, group in named if p.grad is not None]
        grads = [p.grad for p, _ in having if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(grads))
        total = torch.linalg.vector_norm(norms)
        globally, means = [], []
        for name in self.groups:
            members = [index for index, (_, group) in enumerate(having) if group == name]
            part = norms[members] if members else norms.new_zeros(1)
            globally.append(torch.linalg.vector_norm(part))
            means.append(part.mean())
        self.values = torch.stack(globally + means).float()
        clip_grads_with_norm_([p for p, _ in having], max_norm, total)
        return total

    def facts(self, values: Sequence[float | None]) -> dict[str, dict[str, float | None]]:
        """For the log: `grad_norms` and `mean_grad_norms` by group, from :attr:`values` as numbers."""
        count = len(self.groups)
        return {
            "grad_norms": dict(zip(self.groups, values[:count], strict=True)),
            "mean_grad_norms": dict(zip(self.groups, values[count:], strict=True)),
        }
