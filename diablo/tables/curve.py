"""The average over one setting of the rows: reproduced with intervals, reported as diamonds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diablo.tables import words
from diablo.tables.frame import DIABLO, DIAMOND, EDGE, PAPER, SOFT, STYLE, Frame, write_figure
from diablo.tables.render import tidy
from diablo.tables.table import Group, Row, Table

PANEL = 2.3  # inches
GAP = 0.5  # inches between panels, for their titles
TICKS = 0.9  # inches, for tick labels of three lines
REPORTED: dict[str, Any] = {**DIAMOND, "lw": 1.0, "ls": ":"}
HERE: dict[str, Any] = {
    "color": DIABLO,
    "marker": "o",
    "markeredgecolor": EDGE,
    "markersize": 5.5,
    "lw": 1.5,
}
SPREAD: dict[str, Any] = {"color": DIABLO, "lw": 6, "alpha": 0.35, "solid_capstyle": "butt"}
#: Full fine-tuning: lines across the panel.
FULL_HERE: dict[str, Any] = {"color": SOFT, "lw": 1.2, "ls": "--"}
FULL_REPORTED: dict[str, Any] = {"color": PAPER, "lw": 1.2, "ls": "-."}


def draw_curve(table: Table, folder: Path) -> dict[str, str]:
    """Write `<name>-curve` as .png, .svg and .csv into `folder`; return its caption by file name.

    One panel a group whose rows have the setting; where another model or other data stand in, the
    reported numbers have a panel and a scale of their own. Below lies the answer loss, which moves where
    accuracies do not; its scale is turned over, so that up is better in every panel.

    Raises:
        ValueError: if the table has no average or no row has the setting.
    """
    stem, over = f"{table.plan['name']}-curve", table.plan["curve"]["over"]
    groups = [group for group in table.groups if _points(group, over)]
    if "avg" not in table.columns or not groups:
        missing = "no `average`" if groups else f"no row with `{over}`"
        raise ValueError(f"{table.plan['name']}: has a `curve` over {over}, but {missing}")
    shown = [
        f"average accuracy in percent over {table.plan['curve']['label']}",
        "dots computed here with 95 % intervals",
        "diamonds reported by the paper" if table.has_reported else "",
        "lines across: full fine-tuning" if any(map(_full, groups)) else "",
        "below, the answer loss, lower loss upwards",
    ]
    caption = words.caption(table, ", ".join(filter(None, shown)))
    with matplotlib.style.context(STYLE):
        figure = _curves(table, groups, over)
        write_figure(figure, tidy_curve(table), folder / stem, table.heading, caption)
    return {stem: caption}


def tidy_curve(table: Table) -> pd.DataFrame:
    """The table's lines about average and answer loss, with the setting in the paper and here as numbers.

    Rows without the setting are kept if they are full fine-tuning, the line across.
    """
    over = table.plan["curve"]["over"]
    frame = tidy(table)
    shown = frame["column"].isin(["avg", "loss"])
    frame = frame[shown].sort_values("column", kind="stable").reset_index(drop=True)
    rows = [row for _, row in table.rows] * 2
    paper = [row.plan[over] for row in rows]
    here = [row.plan["setting_used"][over] if row.runs else None for row in rows]
    frame.insert(0, over, pd.Series(paper, dtype="Int64"))
    frame.insert(1, f"{over}_used", pd.Series(here, dtype="Int64"))
    shown = frame[over].notna() | (frame["method"] == "full")
    return frame[shown].reset_index(drop=True)


def _points(group: Group, over: str) -> list[Row]:
    """The rows that have the setting, from its smallest value on."""
    rows = [row for row in group.rows if row.plan[over] is not None]
    return sorted(rows, key=lambda row: row.plan[over])


def _full(group: Group) -> list[Row]:
    return [row for row in group.rows if row.plan["method"] == "full"]


def _curves(table: Table, groups: Sequence[Group], over: str) -> Figure:
    apart = bool(table.plan["stand_ins"]) and table.has_reported
    each = 3 if apart else 2  # here, reported where it is apart, answer loss
    lines = len(groups) * each
    entries = _legend(table, groups, over)
    frame = Frame(table.heading, words.foot(table), ticks=TICKS)
    height = PANEL if apart else 1.4 * PANEL
    gap = GAP if len(groups) == 1 else GAP + TICKS
    figure = frame.canvas(lines * height + (lines - 1) * gap)
    axes = figure.subplots(lines, 1, squeeze=False, gridspec_kw={"hspace": gap / height})[:, 0]
    for index, group in enumerate(groups):
        rows = _points(group, over)
        full = _full(group)
        panels = axes[each * index : each * (index + 1)]
        here, paper, loss = panels[0], panels[-2], panels[-1]
        _here(here, rows, full, over, "avg")
        _reported(paper, rows, full, over)
        _here(loss, rows, full, over, "loss")
        for ax in panels:
            _scale(ax, rows, over)
            ax.set_ylabel(f"{table.columns['avg']}, %")
            ax.tick_params(labelbottom=ax is loss)
        loss.set_ylabel("nats per token")
        loss.set_title("answer loss, lower upwards")
        loss.invert_yaxis()
        if apart:
            paper.set_title(f"reported ({group.label})")
        known = f"paper: {group.label}  |  " if group.has_reported and not apart else ""
        here.set_title(f"{known}{table.here_label(group)}")
        if not any(row.runs for row in rows):
            _say_not_run(here)
            _say_not_run(loss)
    axes[-1].set_xlabel(f"{table.plan['curve']['label']}, with the trainable parameters below it")
    frame.finish(figure, entries, left=0.95, right=0.3)
    return figure


def _here(ax: Axes, rows: Sequence[Row], full: Sequence[Row], over: str, key: str) -> None:
    """The line of what was computed here, with intervals and the spread over seeds."""
    points = [(row.plan[over], row.cells[key].estimate) for row in rows]
    for x, found in points:
        if found is None:
            continue
        # Equal examples make an interval of width zero, but for rounding.
        reach = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
        ax.errorbar(x, found.value, yerr=reach, fmt="none", ecolor=EDGE, capsize=3, lw=1, zorder=2)
        if found.seed_sd is not None:
            ends = [found.value - found.seed_sd, found.value + found.seed_sd]
            ax.plot([x, x], ends, zorder=1, **SPREAD)
    drawn = [(x, found.value) for x, found in points if found is not None]
    ax.plot([x for x, _ in drawn], [value for _, value in drawn], zorder=3, **HERE)
    for row in full:
        if (across := row.cells[key].estimate) is not None:
            ax.axhline(across.value, zorder=1, **FULL_HERE)


def _reported(ax: Axes, rows: Sequence[Row], full: Sequence[Row], over: str) -> None:
    """The line of the reported numbers."""
    drawn = {
        row.plan[over]: value for row in rows if (value := row.cells["avg"].reported) is not None
    }
    ax.plot(list(drawn), list(drawn.values()), zorder=4, **REPORTED)
    for row in full:
        if (across := row.cells["avg"].reported) is not None:
            ax.axhline(across, zorder=1, **FULL_REPORTED)


def _scale(ax: Axes, rows: Sequence[Row], over: str) -> None:
    """A logarithmic axis with the paper's values and, under each, what was used and what it costs."""
    ax.set_xscale("log", base=2)
    ax.set_xticks([row.plan[over] for row in rows], [_tick(row, over) for row in rows], fontsize=8)
    ax.minorticks_off()
    values = [row.plan[over] for row in rows]
    ax.set_xlim(values[0] / 2**0.5, values[-1] * 2**0.5)
    ax.margins(y=0.12)
    ax.grid(axis="y")


def _tick(row: Row, over: str) -> str:
    """`128`, what was used in its place, and the parameters in the paper and here."""
    lines = [str(row.plan[over])]
    if row.setting_here:
        lines[0] += f" (here {row.plan['setting_used'][over]})"
    if row.plan["params_reported"]:
        lines.append(f"paper {row.plan['params_reported']}")
    if row.trained is not None:
        lines.append(f"here {row.trained:,}")
    return "\n".join(lines)


def _say_not_run(ax: Axes) -> None:
    place: dict[str, Any] = {"ha": "center", "va": "center", "color": SOFT, "fontstyle": "italic"}
    ax.text(0.5, 0.1, "no row was run", transform=ax.transAxes, **place)


def _legend(table: Table, groups: Sequence[Group], over: str) -> list[Any]:
    """One entry for every kind of mark that the figure has."""
    rows = [row for group in groups for row in _points(group, over)]
    full = [row for group in groups for row in _full(group)]
    entries: list[Any] = []
    if any(row.runs for row in rows):
        entries.append(Line2D([], [], label="here, with 95 % intervals", **HERE))
    if any(len(row.runs) > 1 for row in rows):
        entries.append(Line2D([], [], label="± sd over seeds", **SPREAD))
    if any(row.runs for row in full):
        entries.append(Line2D([], [], label=f"{full[0].plan['label']}, here", **FULL_HERE))
    if table.has_reported:
        entries.append(Line2D([], [], label="reported", **REPORTED))
    if any(row.has_reported for row in full):
        entries.append(Line2D([], [], label=f"{full[0].plan['label']}, reported", **FULL_REPORTED))
    return entries
