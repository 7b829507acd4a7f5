"""A made-up experiment and made-up numbers for the tests of claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from diablo.claims.addresses import Addresses, load_addresses
from diablo.claims.judge import Finding, judge
from diablo.claims.margins import Margin, tree
from diablo.claims.model import Claims, Predicate
from diablo.claims.reading import Missing, Reading, Reported, total
from diablo.experiments import Experiment
from diablo.validation import validate

NOTHING = Path("no-benchmarks")


def experiment(rows: list[dict[str, Any]], **changes: Any) -> Experiment:
    """An experiment `table99` with one group, `Big`."""
    value = {
        "name": "table99",
        "title": "Made up",
        "train": "commonsense_170k",
        "suite": "commonsense",
        "columns": {"one": "One", "two": "Two"},
        "average": "AVG",
        "groups": [{"model": "llama2-7b", "label": "Big", "rows": rows}],
    }
    return validate(Experiment, value | changes, "made up")


def numbered(values: Mapping[str, Mapping[str, float]]) -> Addresses:
    """Addresses `table99/big/<method>/<column>` with these printed numbers."""
    rows = [
        {"label": name.upper(), "method": name, "reported": its} for name, its in values.items()
    ]
    only = validate(
        Claims, {"claims": [{"id": "a", "section": "1", "claim": "", "not_here": "-"}]}, ""
    )
    return load_addresses(only, [experiment(rows)], NOTHING)


def averages(**values: float) -> Addresses:
    """Rows with these averages and nothing else."""
    return numbered({name: {"avg": value} for name, value in values.items()})


def printed(addresses: Addresses, predicate: dict[str, Any]) -> Finding:
    """The verdict on the printed numbers."""
    return judge(tree(validate(Predicate, predicate, "claim"), addresses), Reported())


class Intervals:
    """Numbers with intervals of their own; `width` is the half width of every margin's interval."""

    def __init__(self, width: float | None, lost: tuple[str, ...] = ()) -> None:
        self.width, self.lost = width, lost

    def read(self, margin: Margin) -> Reading | Missing:
        for _, cell in margin.terms:
            if cell.line.names[0] in self.lost:
                return Missing(f"not run: {cell.line.names[0]}")
        values = tuple(cell.printed for _, cell in margin.terms)
        value = total(margin, values)
        if self.width is None:
            return Reading(value, values, "point")
        return Reading(value, values, "sample", value - self.width, value + self.width)

    def statement(self, words: str) -> Missing:
        return Missing("no theorems")


def sampled(
    addresses: Addresses, predicate: dict[str, Any], width: float | None, *lost: str
) -> str:
    """The verdict where every margin has an interval of this half width."""
    node = tree(validate(Predicate, predicate, "claim"), addresses)
    return judge(node, Intervals(width, lost)).verdict


def refused(addresses: Addresses, address: str, *words: str) -> None:
    """The address is refused with a message that has these words."""
    with pytest.raises(ValueError, match=words[0]) as caught:
        addresses.find(address)
    for word in words:
        assert word in str(caught.value)
