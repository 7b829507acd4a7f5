"""One entry of a score file: read, and checked against its own outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.tables.checks import task_of
from diablo.tables.measures import BINARY, OF_SETS, Measure
from diablo.tables.sets import Pair, Statistic

#: A rating is one of 1 to 10.
RATINGS = (1.0, 10.0)


@dataclass(frozen=True)
class Entry:
    """What the examples of one entry came out as.

    Attributes:
        available: examples before the cap on the test set.
        values: by id 0 or 1, an estimate of pass@k in [0, 1], or a rating; empty for statistics of sets.
        pairs: by id (gold, read), for statistics of sets only.
        malformed: ids of examples whose verdict could not be read; they have no outcome.
        samples: completions of each example, by how many examples have so many.
        kinds: how many completions passed, failed, timed out and so on, where the file says so.
        statistic: what is computed from `pairs`.
    """

    available: int
    values: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, Pair] = field(default_factory=dict)
    malformed: tuple[str, ...] = ()
    samples: Mapping[int, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    statistic: Statistic | None = None

    @property
    def ids(self) -> set[str]:
        """All examples that were scored, with those whose verdict could not be read."""
        return {*self.values, *self.pairs, *self.malformed}

    @property
    def n(self) -> int:
        """How many examples have an outcome."""
        return len(self.values) or len(self.pairs)


def read_entry(path: Path, content: Mapping[str, Any], measure: Measure) -> Entry:
    """One entry of the score file `content`, which was read from `path`.

    Raises:
        ValueError: if it is missing, of another metric or unit than the plan says, has an outcome that
            cannot be, or says a value that its own outcomes do not give. The message names the file.
    """
    entry = task_of(path, content, measure.key)
    where = f"{path}: task {measure.key}"
    for key, wanted in (("metric", measure.metric), ("unit", measure.unit)):
        if entry.get(key, wanted) != wanted:
            raise ValueError(f"{where}: {key} is {entry[key]!r}, the plan says {wanted!r}")
    outcomes = {str(one["id"]): one for one in entry["outcomes"]}
    malformed = tuple(str(one) for one in entry.get("malformed", ()))
    none = not outcomes and not malformed
    if none or len(outcomes) != len(entry["outcomes"]) or len(outcomes) != entry["n"]:
        raise ValueError(
            f"{where} has n = {entry['n']}, {len(entry['outcomes'])} outcomes and "
            f"{len(outcomes)} distinct ids; all three must be equal and positive"
        )
    if both := set(outcomes) & set(malformed):
        raise ValueError(f"{where}: {min(both)!r} has an outcome and is listed as malformed")
    available = _available(where, entry, len(outcomes) + len(malformed))
    if measure.metric in OF_SETS:
        statistic = Statistic(measure.metric, _positive(where, entry, measure))
        pairs = {name: (one["answer"], one["extracted"]) for name, one in outcomes.items()}
        _check_value(where, entry, statistic.of(list(pairs.values())))
        return Entry(available, pairs=pairs, malformed=malformed, statistic=statistic)
    values = {name: one["correct"] for name, one in outcomes.items()}
    for name, value in values.items():
        _check_outcome(where, name, value, measure)
    if values:
        _check_value(where, entry, math.fsum(values.values()) / len(values))
    samples, kinds = _samples(where, outcomes, measure) if measure.k else ({}, {})
    return Entry(available, values, malformed=malformed, samples=samples, kinds=kinds)


def _available(where: str, entry: Mapping[str, Any], scored: int) -> int:
    """How many examples of a task there were to be scored."""
    available = entry.get("available")
    if not isinstance(available, int) or available < scored:
        raise ValueError(
            f"{where} has available = {available!r} for n = {scored}; it must say "
            "how many examples there were before the cap: run `diablo score` again"
        )
    return available


def _positive(where: str, entry: Mapping[str, Any], measure: Measure) -> str | None:
    if measure.metric != "f1":
        return None
    if not isinstance(entry.get("positive"), str):
        raise ValueError(
            f"{where}: f1 needs to say which label is `positive`: run `diablo score` again"
        )
    return entry["positive"]


def _check_outcome(where: str, name: str, value: Any, measure: Measure) -> None:
    if measure.metric in BINARY:
        fits, expected = value in (0, 1), "neither 0 nor 1"
    elif measure.metric == "rating":
        fits, expected = RATINGS[0] <= value <= RATINGS[1], "no rating of 1 to 10"
    else:
        fits, expected = 0 <= value <= 1, "no share between 0 and 1"
    if not fits:
        raise ValueError(f"{where}: {name!r}: correct = {value!r} is {expected}")


def _check_value(where: str, entry: Mapping[str, Any], found: float) -> None:
    if entry["value"] is None or abs(found - entry["value"]) > 1e-6:
        raise ValueError(
            f"{where} says value {entry['value']}, its outcomes give {found:.6f} "
            "(a share between 0 and 1, or a mean rating)"
        )


def _samples(
    where: str, outcomes: Mapping[str, Mapping[str, Any]], measure: Measure
) -> tuple[dict[int, int], dict[str, int]]:
    """(examples by number of completions, completions by kind), the estimates checked against them."""
    assert measure.k is not None
    samples: dict[int, int] = {}
    kinds: dict[str, int] = {}
    for name, one in outcomes.items():
        n, passed = one["samples"], one["passed"]
        if not 0 <= passed <= n or n < measure.k:
            raise ValueError(
                f"{where}: {name!r}: {passed} of {n} samples passed; {measure.metric} needs "
                f"{measure.k} samples or more"
            )
        # Chen et al. (2021): one minus the share of draws of k samples that hold none that passed.
        estimate = 1 - math.comb(n - passed, measure.k) / math.comb(n, measure.k)
        if abs(estimate - one["correct"]) > 1e-6:
            raise ValueError(
                f"{where}: {name!r}: correct = {one['correct']!r}, but {passed} of {n} samples give "
                f"{measure.metric} = {estimate:.6f}"
            )
        samples[n] = samples.get(n, 0) + 1
        for kind, count in one.get("outcomes", {}).items():
            kinds[kind] = kinds.get(kind, 0) + count
    return samples, kinds
