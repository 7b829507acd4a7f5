"""What is known of a margin: a value with bounds, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from diablo.claims.margins import Margin
from diablo.tables.statistics import percentile_interval

#: Where bounds come from: printed digits, exact counts, a sample (95 %), a measured range, or nothing.
Kind = Literal["rounding", "exact", "sample", "range", "point"]
ALPHA = 0.05


@dataclass(frozen=True)
class Reading:
    """A margin's value with its bounds at 95 %.

    Attributes:
        values: the cells' numbers, in the order of the margin's terms.
        draws: of a paired bootstrap; bounds at any level follow from them.
        evidence: what the bounds are, in words.
        stand_ins: what stands in for the paper's models and data; empty where nothing does.
    """

    value: float
    values: tuple[float, ...]
    kind: Kind
    low: float | None = None
    high: float | None = None
    draws: np.ndarray | None = None
    evidence: str = ""
    stand_ins: str = ""

    def bounds(self, alpha: float = ALPHA) -> tuple[float, float] | None:
        """Two-sided bounds at the level 1 - alpha; None where there are none."""
        if self.draws is not None:
            return percentile_interval(self.draws, 1 - alpha)
        if self.low is None or self.high is None:
            return None
        # From 95 % to another level as a normal distribution would go; printed digits have no level.
        wider = norm.ppf(1 - alpha / 2) / norm.ppf(1 - ALPHA / 2) if self.kind == "sample" else 1.0
        return (
            self.value - wider * (self.value - self.low),
            self.value + wider * (self.high - self.value),
        )


@dataclass(frozen=True)
class Missing:
    """Why a margin has no value; `undeclared` where its experiment does not exist yet."""

    reason: str
    undeclared: bool = False


def total(margin: Margin, values: tuple[float, ...]) -> float:
    """The margin's value; rounded, so that 43.4 - 38.7 - 4.7 is zero."""
    found = sum(factor * value for (factor, _), value in zip(margin.terms, values, strict=True))
    return round(found - margin.constant, 9)


class Reported:
    """Margins of the printed numbers; their bounds are what rounding leaves open."""

    def read(self, margin: Margin) -> Reading | Missing:
        """The margin as printed; missing where the paper prints a cell not at all."""
        values, slack = [], margin.slack
        for factor, cell in margin.terms:
            if cell.printed is None:
                return Missing(f"{cell.address} is not printed")
            values.append(cell.printed)
            slack += abs(factor) * 0.5 * 10.0**-cell.digits
        value = total(margin, tuple(values))
        low, high = round(value - slack, 9), round(value + slack, 9)
        return Reading(value, tuple(values), "rounding", low, high, evidence="as printed")

    def statement(self, words: str) -> Missing:
        """A theorem is proved, not printed as a number."""
        return Missing("a theorem, no number")
