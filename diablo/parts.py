"""An experiment with several parts: taken apart, each part resolved alone, and put together again.

A part is a training set with the suite that scores it. Alone it is an experiment like any other, so
nothing else knows of parts; a row of the whole has a run for each. An experiment without parts is one
part whose name is "". No torch here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diablo.experiments import Experiment, Group, Part, Row
from diablo.settings import Settings

#: Of a part's plan, what the whole plan lists for each part; a plan of one part has them at its top too.
_OWN = (
    *("suite", "variant", "tasks", "decoding", "limits"),
    *("protocol", "unstated", "notes", "test_sizes_paper"),
)


def parts_of(experiment: Experiment) -> dict[str, Experiment]:
    """An experiment for each part, by name, with the settings that hold there.

    The closest decides: the row's for this part, the row's, the group's for this part, the group's, the
    part's.
    """
    if not experiment.parts:
        return {"": experiment}
    return {name: _alone(experiment, name, part) for name, part in experiment.parts.items()}


def _alone(experiment: Experiment, name: str, part: Part) -> Experiment:
    def of_row(row: Row) -> Row:
        own = Settings(**{key: getattr(row, key) for key in Settings.model_fields})
        settings = row.parts.get(name, Settings()).over(own)
        return row.model_copy(update={**dict(settings), "parts": {}})

    def of_group(group: Group) -> Group:
        defaults = group.parts.get(name, Settings()).over(group.defaults, part.defaults)
        rows = [of_row(row) for row in group.rows]
        return group.model_copy(update={"defaults": defaults, "rows": rows, "parts": {}})

    taken = {key: getattr(part, key) for key in ("train", "suite", "columns", "readings")}
    groups = [of_group(group) for group in experiment.groups]
    return experiment.model_copy(update={**taken, "groups": groups, "parts": {}})


def join(experiment: Experiment, tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The plan of the whole experiment: the JSON that `diablo aggregate` reads.

    Args:
        tables: of each part, by name, its own plan (`diablo.resolver`).

    Raises:
        ValueError: if a row trains other numbers of parameters in another part: #Params is one column.
    """
    plans = list(tables.values())
    parts = [
        {
            "name": name,
            "columns": list(plan["columns"]),
            "readings": list(plan["readings"]),
            **{key: plan[key] for key in _OWN},
        }
        for name, plan in tables.items()
    ]
    if not experiment.parts:
        return {**plans[0], "parts": parts}
    whole = {key: value for key, value in plans[0].items() if key not in _OWN}
    for key in ("columns", "readings", "entries", "missing"):
        whole[key] = {name: value for plan in plans for name, value in plan[key].items()}
    for key in ("stand_ins", "quantizers"):
        whole[key] = _distinct(value for plan in plans for value in plan[key])
    return whole | {
        "variant": plans[0]["variant"],
        "average": experiment.average if all(plan["average"] for plan in plans) else None,
        "groups": [
            _group(experiment.name, *groups)
            for groups in zip(*(plan["groups"] for plan in plans), strict=True)
        ],
        "parts": parts,
    }


def _group(name: str, *groups: Mapping[str, Any]) -> dict[str, Any]:
    lines = zip(*(group["rows"] for group in groups), strict=True)
    where = f"{name}: {groups[0]['label']}"
    return {**groups[0], "rows": [_row(where, *rows) for rows in lines]}


def _row(where: str, *rows: Mapping[str, Any]) -> dict[str, Any]:
    first = rows[0]
    if len(counts := {row["params_counted"] for row in rows}) > 1:
        raise ValueError(
            f"{where} / {first['label']}: trains {sorted(counts)} parameters in its parts; the table has "
            "one column for them, so give all parts the same modules"
        )
    rates = {row["setting_used"]["lr"] for row in rows}
    sources = {row["lr_from"] for row in rows}
    return {
        **first,
        "notes": _distinct(note for row in rows for note in row["notes"]),
        # Each run says its own; here only what holds for all.
        "setting_used": {**first["setting_used"], "lr": rates.pop() if len(rates) == 1 else None},
        "lr_from": "scale" if "scale" in sources else first["lr_from"],
        "runs": [run for row in rows for run in row["runs"]],
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order; also of values that have no hash."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
