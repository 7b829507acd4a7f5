"""Rows of one label in several groups as lines over N: reproduced with intervals, reported apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diablo.tables import words
from diablo.tables.frame import EDGE, LEGEND_LINE, SOFT, STYLE, Frame, write_figure
from diablo.tables.render import tidy
from diablo.tables.table import Row, Table

PANEL, GAP = 2.6, 0.55  # inches
#: Okabe and Ito's colours, each with a marker of its own, so that none is needed.
LOOKS = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    ("#000000", "X"),
)
#: The two ends of the scale, lines across the panels.
ENDS = {"full": "--", "zero-shot": ":"}
#: Series stand side by side, not one on the other: as a share of the distance of a doubling of N.
SHIFT = 0.06


def draw_across(table: Table, folder: Path) -> dict[str, str]:
    """Write `<name>-across` as .png, .svg and .csv into `folder`; return its caption by file name.

    A line a label whose rows of one method have several N; each column and the answer loss have a panel, up is
    better in each. Where anything stands in, the reported numbers have panels of their own.

    Raises:
        ValueError: if no label has two N.
    """
    stem = f"{table.plan['name']}-across"
    lines = series(table)
    if not lines:
        raise ValueError(f"{table.plan['name']}: has `across`, but no label has rows of two N")
    drawn = {id(row) for rows in lines.values() for row in rows}
    keys = {
        (group.label, row.number)
        for group, row in table.rows
        if id(row) in drawn or row.plan["method"] in ENDS
    }
    frame = tidy(table)
    shown = [key in keys for key in zip(frame["group"], frame["row"], strict=True)]
    caption = words.caption(
        table,
        f"each label's rows over {table.plan['across']['label']}, with 95 % intervals; lines across: full "
        "fine-tuning and zero-shot; lower loss upwards"
        + ("; reported numbers with hollow marks" if table.has_reported else ""),
    )
    with matplotlib.style.context(STYLE):
        figure = _figure(table, lines)
        data = frame[shown].reset_index(drop=True)
        write_figure(figure, data, folder / stem, table.heading, caption)
    return {stem: caption}


def series(table: Table) -> dict[str, list[Row]]:
    """By label the rows of one method that have several N, from the smallest N on."""
    found: dict[tuple[str, str], list[Row]] = {}
    for _, row in table.rows:
        if row.plan["num_blocks"] is not None:
            found.setdefault((row.plan["method"], row.plan["label"]), []).append(row)
    lines = {}
    for (_, label), rows in found.items():
        if len({row.plan["num_blocks"] for row in rows}) > 1:
            lines[label] = sorted(rows, key=lambda row: row.plan["num_blocks"])
    return lines


def _figure(table: Table, lines: dict[str, list[Row]]) -> Figure:
    columns = [key for key in table.columns if not table.measures[key].reading]
    apart = bool(table.plan["stand_ins"])
    reported = [
        key
        for key in columns
        if any(row.cells[key].reported is not None for rows in lines.values() for row in rows)
    ]
    panels = [
        (key, ("here",) if apart or key not in reported else ("here", "reported"))
        for key in columns
    ]
    panels += [(key, ("reported",)) for key in reported if apart]
    lines_of_legend = (len(lines) + 4) // 5
    frame = Frame(table.heading, words.foot(table), ticks=0.35 + LEGEND_LINE * lines_of_legend)
    figure = frame.canvas(len(panels) * PANEL + (len(panels) - 1) * GAP)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"hspace": GAP / PANEL})[:, 0]
    for ax, (key, whose) in zip(axes, panels, strict=True):
        if "here" in whose:
            _ends(ax, table, key)
        for place, (rows, look) in enumerate(zip(lines.values(), _looks(lines), strict=True)):
            shift = 2 ** (SHIFT * (place - (len(lines) - 1) / 2))
            if "here" in whose:
                _here(ax, rows, key, look, shift)
            if "reported" in whose:
                _reported(ax, rows, key, look, shift)
        _axis(ax, [row for rows in lines.values() for row in rows], whose)
        title = "reported" if whose == ("reported",) else table.here_label(table.groups[0])
        ax.set_title(f"{table.columns[key]}: {title}")
        one = table.measures[key]
        ax.set_ylabel(one.unit + (", lower upwards" if one.lower_is_better else ""))
        if one.lower_is_better:
            ax.invert_yaxis()
    axes[-1].set_xlabel(table.plan["across"]["label"])
    entries = [
        Line2D([], [], label=label, color=color, marker=marker)
        for label, (color, marker) in zip(lines, _looks(lines), strict=True)
    ]
    frame.finish(figure, entries, left=0.95, right=0.3)
    return figure


def _looks(lines: dict[str, list[Row]]) -> list[tuple[str, str]]:
    return [LOOKS[place % len(LOOKS)] for place in range(len(lines))]


def _here(ax: Axes, rows: Sequence[Row], key: str, look: tuple[str, str], shift: float) -> None:
    color, marker = look
    points = [(shift * row.plan["num_blocks"], row.cells[key].estimate) for row in rows]
    there = [(x, found) for x, found in points if found is not None]
    for x, found in there:
        # Equal examples make an interval of width zero, but for rounding.
        reach = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
        ax.errorbar(x, found.value, yerr=reach, fmt="none", ecolor=color, capsize=2, lw=1, zorder=2)
    style: dict[str, Any] = {"color": color, "marker": marker, "markeredgecolor": EDGE, "zorder": 3}
    ax.plot([x for x, _ in there], [found.value for _, found in there], **style)


def _reported(ax: Axes, rows: Sequence[Row], key: str, look: tuple[str, str], shift: float) -> None:
    color, marker = look
    there = [
        (shift * row.plan["num_blocks"], value)
        for row in rows
        if (value := row.cells[key].reported) is not None
    ]
    style: dict[str, Any] = {
        "color": color,
        "marker": marker,
        "ls": ":",
        "markerfacecolor": "white",
    }
    ax.plot([x for x, _ in there], [value for _, value in there], zorder=4, **style)


def _ends(ax: Axes, table: Table, key: str) -> None:
    for _, row in table.rows:
        if row.plan["method"] in ENDS and (found := row.cells[key].estimate):
            ax.axhline(found.value, zorder=1, color=SOFT, lw=1.2, ls=ENDS[row.plan["method"]])
            place: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 7, "color": SOFT}
            at = ax.get_yaxis_transform()
            ax.text(0.995, found.value, row.plan["label"], transform=at, zorder=1, **place)


def _axis(ax: Axes, rows: Sequence[Row], whose: Sequence[str]) -> None:
    """A logarithmic axis with the paper's N and, where it is another, the one that was used."""
    used = {
        row.plan["num_blocks"]: row.plan["setting_used"]["num_blocks"] for row in rows if row.runs
    }
    values = sorted({row.plan["num_blocks"] for row in rows})
    names = [
        f"{n} (here {used[n]})" if "here" in whose and used.get(n, n) != n else str(n)
        for n in values
    ]
    ax.set_xscale("log", base=2)
    ax.set_xticks(values, names, fontsize=8)
    ax.minorticks_off()
    ax.set_xlim(values[0] / 2**0.5, values[-1] * 2**0.5)
    ax.margins(y=0.12)
    ax.grid(axis="y")
