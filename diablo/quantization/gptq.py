"""GPTQ (Frantar et al., 2023, arXiv:2210.17323, algorithm 1): rounding that repairs its own errors.

Columns are rounded one after the other; what a column's rounding changes in the layer's output is
made good, as far as possible, by the columns that are still to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .grid import Grid, GridSettings, nearest

#: Columns whose updates to later columns are made together; a group is a block of its own.
BLOCK = 128
#: Dampings to try, in turn, when the Hessian cannot be factored with the one that was asked for.
DAMPINGS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Rounded:
    """A weight on its grid: `codes` (rows, columns) and the damping that was needed."""

    codes: torch.Tensor
    grid: Grid
    damp: float

    @property
    def values(self) -> torch.Tensor:
        return self.grid.values(self.codes)


def gptq(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    settings: GridSettings,
    damp: float = 0.01,
    act_order: bool = False,
    name: str = "weight",
) -> Rounded:
    """Quantise one linear layer.

    Args:
        weight: (rows, columns) = (outputs, inputs); not changed.
        hessian: (columns, columns), XᵀX over the calibration inputs, up to a positive factor.
        settings: of the grid. Without `act_order` a group's grid is fitted when its first column
            is reached, to the weights as updated by then; with it all are fitted beforehand
            (static groups), so that groups stay neighbours in the stored weight.
        damp: share of the Hessian's mean diagonal that is added to its diagonal.
        act_order: round the columns with the largest inputs first.
        name: the layer's, for messages.

    Raises:
        ValueError: if the Hessian is singular even with the largest damping.
    """
    columns = weight.shape[1]
    hessian, weight = hessian.clone(), weight.clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1
    weight[:, dead] = 0

    static = act_order or settings.group_size is None
    grid = Grid.fit(weight, settings)
    scale, zero = grid.scale.clone(), grid.zero.clone()
    order = torch.arange(columns, device=weight.device)
    if act_order:
        order = hessian.diagonal().argsort(descending=True, stable=True)
    factor, damp = inverse_factor(hessian[order][:, order], damp, name)

    # Columns as rows: each step then works on contiguous memory.
    left = weight.t()[order].contiguous()
    codes = torch.empty_like(left)
    group, size = (order // settings.columns(columns)).tolist(), settings.columns(columns)
    block = settings.group_size or BLOCK
    for start in range(0, columns, block):
        end = min(start + block, columns)
        if not static:
            fitted = Grid.fit(left[start:end].t(), settings)
            scale[:, start // size], zero[:, start // size] = fitted.scale[:, 0], fitted.zero[:, 0]
        rows, within = left[start:end], factor[start:end, start:end]
        errors = torch.empty_like(rows)
        for i in range(end - start):
            s, z = scale[:, group[start + i]], zero[:, group[start + i]]
            codes[start + i] = nearest(rows[i], s, z, settings)
            errors[i] = (rows[i] - s * (codes[start + i] - z)) / within[i, i]
            rows[i + 1 :].addr_(within[i, i + 1 :], errors[i], alpha=-1)
        left[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)

    return Rounded(codes[order.argsort()].t().contiguous(), Grid(scale, zero, settings), damp)


def inverse_factor(hessian: torch.Tensor, damp: float, name: str) -> tuple[torch.Tensor, float]:
    """Upper Cholesky factor of the damped Hessian's inverse, and the damping that was needed.

    Raises:
        ValueError: if no damping up to the largest makes the Hessian positive definite.
    """
    mean = hessian.diagonal().mean()
    for tried in (damp, *(larger for larger in DAMPINGS if larger > damp)):
        damped = hessian.clone()
        damped.diagonal().add_(tried * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            continue
        factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed and torch.isfinite(factor).all():
            return factor, tried
    raise ValueError(
        f"{name}: the Hessian of its calibration inputs is singular, even with {tried} of its mean "
        "diagonal added to the diagonal; use more calibration samples or a larger `damp`"
    )
