"""Accuracy and answer loss over one setting of the rows: lines over a number, else bars side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd

from diablo.apart import scientific
from diablo.figures import NUMBERS
from diablo.tables import legend, words
from diablo.tables.frame import STYLE, write_figure
from diablo.tables.ranking import UNRANKED
from diablo.tables.render import tidy
from diablo.tables.table import Group, Row, Table


@dataclass(frozen=True)
class Series:
    """Rows of a group that differ in nothing but the chart's setting, by its values in the paper."""

    name: str
    rows: dict[Any, Row]

    @property
    def label(self) -> str:
        """The name, with the N that was really used where that is another one, or that nothing was run."""
        run = [row for row in self.rows.values() if row.runs]
        if not run:
            return f"{self.name}: not run"
        paper = {row.plan["num_blocks"] for row in run}
        used = {row.plan["setting_used"]["num_blocks"] for row in run}
        return self.name + (f" (here N={used.pop()})" if len(paper) == 1 and used != paper else "")


def draw_chart(table: Table, stem: Path) -> dict[str, str]:
    """Write a table's chart as `<stem>.png`, `.svg` and `.csv`; return its caption by file name.

    Raises:
        ValueError: if the table has no number to draw, no row has the setting, or two rows differ neither
            in it nor in what makes a series.
    """
    from diablo.tables import chart_bars, chart_lines

    x, label = table.plan["chart"]["x"], table.plan["chart"]["label"]
    groups = [group for group in table.groups if points(group, x)]
    key = column(table)
    if not groups:
        raise ValueError(f"{table.plan['name']}: has a `chart` over {x}, but no row with `{x}`")
    kind = chart_lines if x in NUMBERS else chart_bars
    loss = (
        ["below or beside, the answer loss, lower loss upwards"] if "loss" in table.columns else []
    )
    shown = [f"{noun(table)} in percent over {label}", *kind.shown(table, groups, x), *loss]
    caption = words.caption(table, ", ".join(shown))
    with matplotlib.style.context(STYLE):
        figure = kind.figure(table, groups, x, key)
        write_figure(figure, tidy_chart(table), stem, table.heading, caption)
    return {stem.name: caption}


def column(table: Table) -> str:
    """The column that is drawn: the average, or the only one.

    Raises:
        ValueError: if there is neither, as where the scale's data lack a column of the average.
    """
    if "avg" in table.columns:
        return "avg"
    columns = list(table.plan["columns"])
    if len(columns) != 1:
        name = table.plan["name"]
        raise ValueError(f"{name}: has a `chart`, but no `average` and {len(columns)} columns")
    return columns[0]


def noun(table: Table) -> str:
    """What is drawn, in words."""
    key = column(table)
    return "average accuracy" if key == "avg" else f"accuracy on {table.columns[key]}"


def points(group: Group, x: str) -> list[Row]:
    """The rows that have the setting; full fine-tuning and zero-shot are no points."""
    return [
        row
        for row in group.rows
        if row.plan.get(x) is not None and row.plan["method"] not in UNRANKED
    ]


def values(group: Group, x: str) -> list[Any]:
    """Values of the setting, in the paper: numbers in their order, others in the table's."""
    found = list(dict.fromkeys(row.plan[x] for row in points(group, x)))
    return sorted(found) if x in NUMBERS else found


def series_of(group: Group, x: str) -> list[Series]:
    """The group's points by series, each in the order of the values.

    Raises:
        ValueError: if two rows of one series have the same value; names both.
    """
    found: dict[str, dict[Any, Row]] = {}
    for row in points(group, x):
        name, value = series_name(row, x), row.plan[x]
        other = found.setdefault(name, {}).setdefault(value, row)
        if other is not row:
            raise ValueError(
                f"{group.label}: rows {other.number} and {row.number} are both {name} with {x} = {value}; "
                "a chart needs rows that differ in its setting, or in their label, size, modules, layers or lr"
            )
    order = values(group, x)
    return [
        Series(name, {value: rows[value] for value in order if value in rows})
        for name, rows in found.items()
    ]


def series_name(row: Row, x: str) -> str:
    """Method, size and whatever else tells the row apart, without the chart's setting: `DiaBlo N=64`."""
    size = "" if x == "num_blocks" else size_of(row)
    if row.plan.get("rank_of"):
        size = f"of the size of N={row.plan['rank_of']}"
    others = [text for key, text in row.plan.get("apart", {}).items() if key != x]
    return " ".join(filter(None, [row.plan["label"], size, *others]))


def size_of(row: Row, used: bool = False) -> str:
    """`N=64` or `r=8`: in the paper, or as really used."""
    plan = row.plan["setting_used"] if used else row.plan
    if plan["num_blocks"] is not None:
        return f"N={plan['num_blocks']}"
    return f"r={plan['rank']}" if plan["rank"] is not None else ""


def value_text(x: str, value: Any) -> str:
    """A value of the setting, as an axis says it."""
    if x == "lr":
        return scientific(value)
    return value.upper() if x == "modules" else str(value)


def used_value(row: Row, x: str) -> Any:
    """The setting as it was really used; None where the row was not run."""
    if not row.runs:
        return None
    return row.plan[x] if x == "modules" else row.plan["setting_used"][x]


def foot(table: Table, groups: Sequence[Group], x: str) -> list[str]:
    """What stands under the chart: stand-ins, how it was made, and why points are missing."""
    reasons = Counter(row.plan["reason"] for g in groups for row in points(g, x) if not row.runs)
    missing = "; ".join(f"{n} row{'s' if n > 1 else ''}, {why}" for why, n in reasons.items())
    not_run = f"Not run: {missing}." if missing else ""
    return [text for text in (*words.foot(table), legend.seeds(table), not_run) if text]


def tidy_chart(table: Table) -> pd.DataFrame:
    """The table's lines about what is drawn, with series and setting, in the paper and here, in front.

    Rows without the setting are kept if they are full fine-tuning, the line across.
    """
    x, frame = table.plan["chart"]["x"], tidy(table)
    keys = [column(table), "loss"]
    frame = frame[frame["column"].isin(keys)].sort_values(
        "column", kind="stable", key=lambda names: names.map(keys.index)
    )
    count = len(frame) // len(table.rows)
    rows = [row for _, row in table.rows] * count
    drawn = {id(row) for group in table.groups for row in points(group, x)}
    whole = "Int64" if x == "num_blocks" else None
    front: list[tuple[str, list[Any], str | None]] = [
        ("series", [series_name(row, x) if id(row) in drawn else "" for row in rows], None),
        (x, [row.plan.get(x) if id(row) in drawn else None for row in rows], whole),
        (f"{x}_used", [used_value(row, x) if id(row) in drawn else None for row in rows], whole),
    ]
    frame = frame.reset_index(drop=True)
    for place, (name, found, dtype) in enumerate(front):
        frame.insert(place, name, pd.Series(found, dtype=dtype))
    kept = [id(row) in drawn or row.plan["method"] == "full" for row in rows]
    return frame[kept].reset_index(drop=True)
