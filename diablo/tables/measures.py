"""What a table's columns measure: the parts, entries and units of a plan.

A plan has one part for each training set with its test suite. A row of the table is trained once for
each part; most experiments have one part without a name. Plans of before there were parts are read as
one part whose columns are accuracies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diablo.io import read_json

NATS = "nats per token"
#: Units of the entries: shares printed in percent, ratings of 1 to 10.
UNITS = ("%", "points")
#: Means of outcomes that are 0 or 1.
BINARY = ("acc", "refusal")
#: Statistics of a whole set of (gold, read) pairs, which are no mean over examples.
OF_SETS = ("f1", "matthews")
DIGITS = {"%": 1, "points": 2, NATS: 3}

#: Keys of a part that stand at the top of a plan with one part.
_PART = ("suite", "variant", "decoding", "limits", "protocol", "unstated", "notes")


@dataclass(frozen=True)
class Measure:
    """What one column shows: an entry of the score files, the average of entries, or the answer loss.

    Attributes:
        key: name of the entry, `avg` or `loss`.
        part: name of the part whose runs it is measured on; `avg` and `loss` are over all parts.
        task: the prompts behind it.
        unit: "%" (shares times 100), "points" (1 to 10) or "nats per token".
        missing: `not run: ...` where the column cannot have numbers, None where it can.
        reading: whether it is shown beside the columns and enters no average.
    """

    key: str
    part: str
    task: str
    metric: str
    unit: str
    lower_is_better: bool = False
    missing: str | None = None
    reading: bool = False

    @property
    def digits(self) -> int:
        """How many decimals are printed."""
        return DIGITS[self.unit]

    @property
    def factor(self) -> float:
        """From the outcomes of a score file to the unit."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def better(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.lower_is_better else 1

    @property
    def k(self) -> int | None:
        """The k of pass@k, None for other metrics."""
        found = re.fullmatch(r"pass@(\d+)", self.metric)
        return int(found[1]) if found else None


def read_plan(path: str | Path) -> dict[str, Any]:
    """A plan with `parts`, `entries` and `missing`, which older plans lack, and the part of every run.

    That of a figure of averages comes as it is: its panels are completed one by one.

    Raises:
        ValueError: if a column has no entry, an entry has an unknown metric or unit, an average is over
            columns that cannot be averaged, or a run is of no part; the message names the file.
    """
    plan = read_json(path)
    if plan["kind"] == "averages":
        return plan
    if old := plan.pop("curve", None):
        plan["chart"] = {"x": old["over"], "label": old["label"]}
    return complete_plan(plan, path)


def complete_plan(plan: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The plan of one table with what older plans lack; see :func:`read_plan`.

    Args:
        path: of the file that it is from, for messages.
    """
    plan.setdefault("readings", {})
    plan.setdefault("chart", None)
    plan.setdefault("missing", {})
    plan.setdefault("across", None)
    if "parts" not in plan:
        part = {key: plan[key] for key in _PART if key in plan}
        part["test_sizes_paper"] = plan.get("test_sizes_paper", {})
        plan["parts"] = [{"name": "", "columns": list(plan["columns"]), **part}]
        plan["parts"][0]["readings"] = list(plan["readings"])
    if "entries" not in plan:
        names = [*plan["columns"], *plan["readings"]]
        plan["entries"] = {name: {"task": name.removesuffix("_strict")} for name in names}
    known = [part["name"] for part in plan["parts"]]
    for row in (row for group in plan["groups"] for row in group["rows"]):
        for run in row["runs"]:
            if len(known) == 1:
                run.setdefault("part", known[0])
            if run.get("part") not in known:
                raise ValueError(
                    f"{path}: run {run['run']} is of part {run.get('part')!r}; the plan has {known}"
                )
    if plan["kind"] == "accuracy":
        _check(path, plan)
    return plan


def _check(path: str | Path, plan: Mapping[str, Any]) -> None:
    measures = entry_measures(plan)
    for key in (*plan["columns"], *plan["readings"]):
        if key not in measures:
            raise ValueError(f"{path}: column {key!r} needs an entry, and a part that has it")
        one = measures[key]
        if one.metric not in (*BINARY, *OF_SETS, "rating") and one.k is None:
            raise ValueError(f"{path}: entry {key!r} has the unknown metric {one.metric!r}")
        if one.unit not in UNITS:
            raise ValueError(f"{path}: entry {key!r} has unit {one.unit!r}; valid: {UNITS}")
    averaged = [measures[key] for key in plan["columns"]]
    alike = len({(one.unit, one.lower_is_better) for one in averaged}) == 1
    apart = len({(one.part, one.task) for one in averaged}) == len(averaged)
    if plan["average"] and not (alike and apart):
        raise ValueError(
            f"{path}: `average` is over {', '.join(plan['columns'])}; it needs columns of one unit and "
            "direction, each with prompts of its own"
        )


def entry_measures(plan: Mapping[str, Any]) -> dict[str, Measure]:
    """The columns and readings that some part has, by entry, in the plan's order."""
    part_of = {
        key: part["name"] for part in plan["parts"] for key in (*part["columns"], *part["readings"])
    }
    found = {}
    for key in (*plan["columns"], *plan["readings"]):
        if key in plan["entries"] and key in part_of:
            entry, reason = plan["entries"][key], plan["missing"].get(key)
            if reason and not reason.startswith("not run"):
                reason = f"not run: {reason}"
            found[key] = Measure(
                key=key,
                part=part_of[key],
                task=entry["task"],
                metric=entry.get("metric", "acc"),
                unit=entry.get("unit", "%"),
                lower_is_better=entry.get("lower_is_better", False),
                missing=reason,
                reading=key in plan["readings"],
            )
    return found


def table_measures(plan: Mapping[str, Any], with_loss: bool) -> dict[str, Measure]:
    """What every column of the table measures, in the table's order."""
    entries = entry_measures(plan)
    found = {key: entries[key] for key in plan["columns"]}
    if plan["average"]:
        first = next(iter(found.values()))
        lost = [key for key, one in found.items() if one.missing]
        missing = f"not run: no {', '.join(plan['columns'][key] for key in lost)}" if lost else None
        found["avg"] = Measure("avg", "", "", "mean", first.unit, first.lower_is_better, missing)
    found |= {key: entries[key] for key in plan["readings"]}
    if with_loss:
        found["loss"] = Measure("loss", "", "", "loss", NATS, lower_is_better=True)
    return found


def columns_of(measures: Iterable[Measure]) -> list[Measure]:
    """The paper's columns among them: neither readings nor average nor answer loss."""
    return [one for one in measures if one.key not in ("avg", "loss") and not one.reading]
