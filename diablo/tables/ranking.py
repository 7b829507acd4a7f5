"""Which numbers of a column are set bold (best) and underlined (second).

The rule, for reported and for reproduced numbers each, inside one group and one column:

- Ranked are the fine-tuning methods that the paper compares. Full fine-tuning and the model as it
  is are the two ends of the scale, not competitors, so `full` and `zero-shot` get no mark (the paper
  calls DiaBlo's 87.3 on Llama3-8B the best while its full fine-tuning has 87.5).
- Numbers are compared as printed, with one decimal (losses with three; the lowest is best). Equal numbers get the same mark, and the second
  mark goes to the next smaller number.
- With fewer than two ranked numbers nothing is marked.

The marks say nothing about significance: that is what the intervals and the comparisons are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Mark = Literal["best", "second"]

#: Methods that are shown but not ranked.
UNRANKED = ("full", "zero-shot")


def marks(
    values: Mapping[int, float], digits: int = 1, lower_is_better: bool = False
) -> dict[int, Mark]:
    """Marks by key for the numbers of one column, which are printed with so many decimals."""
    if len(values) < 2:
        return {}
    printed = {key: f"{value:.{digits}f}" for key, value in values.items()}
    order = sorted(set(printed.values()), key=float, reverse=not lower_is_better)
    names: tuple[Mark, ...] = ("best", "second")
    return {
        key: name
        for name, number in zip(names, order, strict=False)
        for key, text in printed.items()
        if text == number
    }
