"""Uniform grids: a scale and a whole-numbered zero point for each group of a row.

A weight w becomes the code c = clamp(round(w / scale) + zero, 0, 2^bits - 1), which stands for
scale · (c - zero). The range of a group always holds zero, as in GPTQ, so zeros stay zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GridSettings:
    """How a grid is fitted to a weight.

    Attributes:
        bits: of a code, 2 to 8.
        group_size: columns that share a scale; None: the whole row (per channel).
        symmetric: zero point in the middle; otherwise from the minimum.
        shrink: the range between minimum and maximum is multiplied by this.
        dtype: what scales and values are stored in; scales are rounded to it first.
    """

    bits: int
    group_size: int | None = None
    symmetric: bool = False
    shrink: float = 1.0
    dtype: torch.dtype = torch.float32

    def columns(self, width: int) -> int:
        """Columns of a group in a row of `width` entries."""
        return width if self.group_size is None else self.group_size


@dataclass(frozen=True)
class Grid:
    """A fitted grid: `scale` and `zero`, both (rows, groups), computed in the weight's dtype."""

    scale: torch.Tensor
    zero: torch.Tensor
    settings: GridSettings

    @classmethod
    def fit(cls, weight: torch.Tensor, settings: GridSettings) -> Grid:
        """The min-max grid of `weight` (rows, columns); the group size divides the columns."""
        groups = weight.unflatten(1, (-1, settings.columns(weight.shape[1])))
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        if settings.symmetric:
            high = torch.maximum(-low, high)
            low = -high
        top = 2**settings.bits - 1
        scale = settings.shrink * (high - low) / top
        # Scales are stored in `dtype`, so the codes must be chosen with what is stored.
        smallest = torch.finfo(settings.dtype).tiny
        scale = torch.where(scale > 0, scale, 1).to(settings.dtype).clamp(min=smallest)
        scale = scale.to(weight.dtype)
        if settings.symmetric:
            zero = torch.full_like(scale, (top + 1) // 2)
        else:
            zero = (-settings.shrink * low / scale).round().clamp(0, top)
        return cls(scale, zero, settings)

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """Codes (rows, columns) of the nearest grid values, whole numbers in the weight's dtype."""
        groups = weight.unflatten(1, (self.scale.shape[1], -1))
        return nearest(groups, self.scale[..., None], self.zero[..., None], self.settings).flatten(
            1
        )

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """What codes (rows, columns) stand for, as stored: rounded to the settings' dtype."""
        groups = codes.unflatten(1, (self.scale.shape[1], -1))
        values = self.scale[..., None] * (groups - self.zero[..., None])
        return values.flatten(1).to(self.settings.dtype)

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """Round to nearest: `weight` on the grid, in the settings' dtype."""
        return self.values(self.codes(weight))


def nearest(
    weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, settings: GridSettings
) -> torch.Tensor:
    """Codes of the nearest grid values; the three tensors broadcast."""
    return ((weight / scale).round() + zero).clamp(0, 2**settings.bits - 1)
