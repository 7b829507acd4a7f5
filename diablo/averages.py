"""The plan of a figure that shows other tables' averages: their rows, none of them trained again. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from diablo.data.protocol import unknown
from diablo.figures import Averages, Panel
from diablo.naming import mark_repeats

#: Of a table's plan, what its panel needs; `groups` stand beside the panels, one each.
_NOT_ITS_OWN = ("groups", "quantizers", "chart")


def averages_plan(
    figure: Averages,
    tables: Mapping[str, dict[str, Any]],
    titles: Mapping[str, str],
    skip: Collection[str] = (),
) -> dict[str, Any]:
    """The JSON that `diablo aggregate` reads for a figure of averages.

    `panels` and `groups` belong together one by one: a panel has what its table's plan says of the whole
    table, a group the rows that are shown of it.

    Args:
        tables: the tables' own plans, by name.
        titles: what models are called, by their names in the catalogue.
        skip: names of rows that are not run for this figure.

    Raises:
        ValueError: if there is no such table, group or row, or the table has no average; names the nearest.
    """
    chosen = [_panel(figure, panel, tables, skip) for panel in figure.panels]
    groups = [group for _, group in chosen]
    mark_repeats(groups)
    first = chosen[0][0]
    return {
        "name": figure.name,
        "title": figure.title,
        "section": figure.section,
        "kind": "averages",
        "scale": first["scale"],
        "scale_describe": first["scale_describe"],
        "notes": figure.notes,
        "stand_ins": _stand_ins(chosen, titles),
        "quantizers": [],
        "panels": [panel for panel, _ in chosen],
        "groups": groups,
    }


def _panel(
    figure: Averages, panel: Panel, tables: Mapping[str, dict[str, Any]], skip: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a table says of itself, and the group with the rows that are shown."""
    where = f"workflow/figures/{figure.name}.yaml: panels"
    if panel.table not in tables:
        raise ValueError(unknown("table", panel.table, tables, where))
    plan = tables[panel.table]
    where += f": {panel.table}"
    if plan["kind"] != "accuracy" or len(plan["parts"]) > 1:
        raise ValueError(f"{where}: a figure of averages is for tables of accuracies without parts")
    groups = {group["label"]: group for group in plan["groups"]}
    if panel.group not in groups:
        raise ValueError(unknown("group", panel.group, groups, where))
    group = groups[panel.group]
    rows = {row["id"]: row for row in group["rows"]}
    for name in panel.rows:
        if name not in rows:
            raise ValueError(unknown("row", name, rows, f"{where}: {panel.group}"))
    shown = [{**rows[name], "same_as": None} for name in panel.rows]
    here = f"left to {panel.table} at scale {plan['scale']}"
    for row in shown:
        if row["id"] in skip and row["runs"]:
            row |= {"runs": [], "reason": here}
    if plan["average"] is None:  # the scale's data lack a column
        why = {"runs": [], "reason": f"{panel.table} has no average at this scale"}
        shown = [{**row, **why} if row["runs"] else row for row in shown]
    whole = {key: value for key, value in plan.items() if key not in _NOT_ITS_OWN}
    whole["average"] = plan["average"] or "AVG"
    return whole, {**group, "label": panel.title, "rows": shown}


def _stand_ins(
    chosen: list[tuple[dict[str, Any], dict[str, Any]]], titles: Mapping[str, str]
) -> list[str]:
    """What stands in for the models that are shown, a table has more, and for their tables' data."""
    found = []
    for panel, group in chosen:
        title = f"{group['used_model_title']} stands in for "
        if group["used_model"] != group["model"]:
            found.append(title + titles[group["model"]])
        found += [text for text in panel["stand_ins"] if not text.startswith(title)]
    return list(dict.fromkeys(found))
