"""Bar charts of a table: reproduced numbers with intervals, reported ones as marks of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import blended_transform_factory

from diablo.tables import legend, words
from diablo.tables.frame import (
    BASELINE,
    DIABLO,
    DIAMOND,
    EDGE,
    END,
    SOFT,
    STYLE,
    Frame,
    write_figure,
)
from diablo.tables.ranking import UNRANKED
from diablo.tables.render import interval, number, sign, spread, tidy
from diablo.tables.table import Cell, Row, Table

SHOWN = "in percent, bars computed here with 95 % intervals"
ROW_HEIGHT = 0.27  # inches
GAP = 0.55  # inches between panels, for their titles


def draw(table: Table, folder: Path) -> dict[str, str]:
    """Write a table's figures and their data into `folder`; return their captions by file name.

    `<name>` shows the averages, one panel per group (left out where the experiment has none), and
    `<name>-tasks` each task, one panel per task; each as .png, .svg and .csv.
    """
    name = table.plan["name"]
    captions = {}
    shown = SHOWN + (", diamonds reported by the paper" if table.has_reported else "")
    with matplotlib.style.context(STYLE):
        if "avg" in table.columns:
            captions[name] = words.caption(table, f"average accuracy {shown}")
            # The losses are written beside the bars and belong to their data.
            _write(_averages(table), table, ["avg", "loss"], folder / name, captions[name])
        tasks = list(table.plan["columns"])
        captions[f"{name}-tasks"] = words.caption(table, f"accuracy on each task {shown}")
        _write(
            _tasks(table, tasks), table, tasks, folder / f"{name}-tasks", captions[f"{name}-tasks"]
        )
    return captions


def _write(figure: Figure, table: Table, keys: Sequence[str], stem: Path, caption: str) -> None:
    frame = tidy(table)
    write_figure(figure, frame[frame["column"].isin(keys)], stem, table.heading, caption)


def _averages(table: Table) -> Figure:
    """One panel per group, rows of the paper from top to bottom, numbers written at the right."""
    heights = [len(group.rows) for group in table.groups]
    panels = sum(heights) * ROW_HEIGHT + GAP * (len(heights) - 1)
    frame = _frame(table)
    figure = frame.canvas(panels)
    axes = figure.subplots(
        len(heights),
        1,
        sharex=True,
        squeeze=False,
        # Matplotlib measures the gap in mean panel heights.
        gridspec_kw={
            "height_ratios": heights,
            "hspace": GAP * len(heights) / (ROW_HEIGHT * sum(heights)),
        },
    )[:, 0]
    for ax, group in zip(axes, table.groups, strict=True):
        _panel(ax, [(row.name, row) for row in group.rows], "avg")
        for y, row in enumerate(group.rows):
            _note(ax, y, row)
        paper = "paper: " if group.has_reported else ""
        ax.set_title(f"{paper}{group.label}  |  {table.here_label(group)}")
    axes[-1].set_xlabel(f"{table.columns['avg']}, %")
    longest = max(len(row.name) for _, row in table.rows)
    entries = _legend(table, [row for _, row in table.rows], "paper's model")
    frame.finish(figure, entries, left=_label_width(longest), right=3.2)
    return figure


def _tasks(table: Table, keys: Sequence[str]) -> Figure:
    """One panel per task with every distinct run; rows that were not run are left to the table."""
    shown = [
        (words.row_name(table, group, row), row)
        for group, row in table.rows
        if row.runs and not row.plan["same_as"]
    ]
    labels = {group.label for group, row in table.rows if any(row is one for _, one in shown)}
    if len(labels) == 1:
        shown = [(row.name, row) for _, row in shown]
    columns = min(4, len(keys))
    lines = -(-len(keys) // columns)
    height = max(len(shown), 2) * ROW_HEIGHT
    frame = _frame(table)
    figure = frame.canvas(lines * height + GAP * (lines - 1))
    grid = figure.subplots(
        lines,
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
        gridspec_kw={"hspace": GAP / height, "wspace": 0.14},
    )
    for ax in grid.flat[len(keys) :]:
        ax.set_visible(False)
    for ax, key in zip(grid.flat, keys, strict=False):
        _panel(ax, shown, key)
        for y, (_, row) in enumerate(shown):
            _beside(ax, y, sign(row.cells[key]))
        n = table.examples(key)
        ax.set_title(table.columns[key] + (f" (n = {n})" if n else ""))
    for ax in grid[-1]:
        ax.set_xlabel("%")
    longest = max((len(name) for name, _ in shown), default=0)
    entries = _legend(table, [row for _, row in shown], ", ".join(sorted(labels)))
    frame.finish(figure, entries, left=_label_width(longest), right=0.25)
    return figure


def _label_width(characters: int) -> float:
    """Inches that a row's name of so many characters needs beside the axes."""
    return 0.3 + 0.075 * characters


def _panel(ax: Axes, rows: Sequence[tuple[str, Row]], key: str) -> None:
    """Bars and marks of one column, first row on top."""
    for y, (_, row) in enumerate(rows):
        cell = row.cells[key]
        if cell.estimate is not None:
            _bar(ax, y, row, cell)
        if cell.reported is not None:
            ax.plot(cell.reported, y, clip_on=False, zorder=4, **DIAMOND)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 100)


def _bar(ax: Axes, y: int, row: Row, cell: Cell) -> None:
    assert cell.estimate is not None
    method, value = row.plan["method"], cell.estimate.value
    colour = DIABLO if method == "diablo" else END if method in UNRANKED else BASELINE
    again = bool(row.plan["same_as"])
    ax.barh(
        y,
        value,
        height=0.66,
        color="white" if again else colour,
        edgecolor=colour if again and method not in UNRANKED else SOFT,
        hatch="////" if again else None,
        linewidth=0.8,
    )
    reach = [[value - cell.estimate.low], [cell.estimate.high - value]]
    ax.errorbar(value, y, xerr=reach, fmt="none", ecolor=EDGE, capsize=2.5, lw=1.2, zorder=3)


def _note(ax: Axes, y: int, row: Row) -> None:
    """`52.7 [48.6, 56.8], loss 1.234` or why the row has no number, beside the axes."""
    cell = row.cells["avg"]
    found = cell.estimate
    if found is None:
        text, style = textwrap.shorten(row.status, 50, placeholder=" ..."), "italic"
    else:
        loss = row.cells["loss"]
        assert loss.estimate is not None
        parts = [
            f"{number(found.value)}{spread(cell)} {sign(cell)} {interval(cell)}",
            f"loss {number(loss.estimate.value, loss.digits)} {sign(loss)}",
            f"{row.setting_here} here" if row.setting_here else "",
        ]
        text = ", ".join(" ".join(part.split()) for part in parts if part)
        style = "normal"
    _beside(ax, y, text, fontstyle=style, color=EDGE if found else SOFT)


def _beside(ax: Axes, y: int, text: str, **style: Any) -> None:
    """Small text at the right of the axes, level with a bar."""
    transform = blended_transform_factory(ax.transAxes, ax.transData)
    ax.text(1.015, y, text, transform=transform, va="center", fontsize=8, **style)


def _frame(table: Table) -> Frame:
    signs = legend.COMPARED if any(group.compared for group in table.groups) else ""
    more = [text for text in (legend.seeds(table), signs) if text]
    return Frame(table.heading, [*words.foot(table), *more])


def _legend(table: Table, rows: Sequence[Row], reported_for: str) -> list[Any]:
    """One entry for every kind of mark that the figure has."""
    same = ", here (same model)" if table.has_reported else ""
    here = ", here (stand-in)" if table.plan["stand_ins"] else same
    drawn = [row for row in rows if row.runs]
    methods = {row.plan["method"] for row in drawn if not row.plan["same_as"]}
    entries: list[Any] = []
    if "diablo" in methods:
        entries.append(Patch(facecolor=DIABLO, edgecolor=SOFT, label=f"DiaBlo{here}"))
    if methods - {"diablo", *UNRANKED}:
        entries.append(Patch(facecolor=BASELINE, edgecolor=SOFT, label=f"others{here}"))
    if methods & set(UNRANKED):
        entries.append(Patch(facecolor=END, edgecolor=SOFT, label=f"full / zero-shot{here}"))
    if any(row.plan["same_as"] for row in drawn):
        label = "same run as above"
        entries.append(Patch(facecolor="white", edgecolor=SOFT, hatch="////", label=label))
    if any(row.has_reported for row in rows):
        label = f"reported, {reported_for}"
        entries.append(Line2D([], [], linestyle="none", label=label, **DIAMOND))
    return entries
