"""What a suite's declaration says beside its variants: the numbers that are scored, and known flaws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One number that a suite's scores have: what is measured on which task's completions.

    `metric` is `acc`, `f1`, `matthews`, `pass@K`, `refusal` or `rating`; `needs` is what has to be
    configured for it ("judge"), `unit` is "%" or "points", and `turn` says which answer of a
    conversation it is about.
    """

    task: str
    metric: str = "acc"
    unit: str = "%"
    lower_is_better: bool = False
    needs: str | None = None
    turn: int = 1

    @property
    def of_samples(self) -> int | None:
        """K of the metric `pass@K`, which needs as many completions of each prompt; None for others."""
        name, _, k = self.metric.partition("@")
        return int(k) if name == "pass" else None


@dataclass(frozen=True)
class Flaw:
    """A known flaw of the released code: its name, its id in the register of disagreements, in words.

    `sets` are the protocol's fields as the flaw has them, over those of the variant without it.
    """

    name: str
    id: str
    what: str
    sets: Mapping[str, Any]
