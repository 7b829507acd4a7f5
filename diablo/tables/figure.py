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
from matplotlib.transforms import Transform, blended_transform_factory

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
from diablo.tables.scores import RATINGS
from diablo.tables.table import Cell, Row, Table

SHOWN = "bars computed here with 95 % intervals"
ROW_HEIGHT = 0.27  # inches
GAP = 0.55  # inches between panels, for their titles
SECOND_LINE = 0.2  # inches, of a title with a second line
SMALL: dict[str, Any] = {"va": "center", "fontsize": 8}
LONG = 32  # characters of a title that fit over a panel, a third of the figure wide
TICKS = 0.4  # inches, where panels above others have tick labels of their own


def draw(table: Table, folder: Path) -> dict[str, str]:
    """Write a table's figures and their data into `folder`; return their captions by file name.

    `<name>` shows the averages, one panel per group (left out where the experiment has none), and
    `<name>-tasks` each column, one panel per column (left out where averages are all); each as .png, .svg and .csv. Second readings
    of the same metric are left to the table, and the answer loss to the averages where there are any.
    """
    name = table.plan["name"]
    captions = {}
    what = "accuracy " if legend.plain(table) else ""
    shown = f"{legend.units(table)}, {SHOWN}"
    shown += ", diamonds reported by the paper" if table.has_reported else ""
    with matplotlib.style.context(STYLE):
        if "avg" in table.columns:
            captions[name] = words.caption(table, f"average {what}{shown}")
            # The losses are written beside the bars and belong to their data.
            _write(_averages(table), table, ["avg", "loss"], folder / name, captions[name])
        if keys := drawn_columns(table):
            each, stem = "accuracy on each task" if what else "each column", f"{name}-tasks"
            captions[stem] = words.caption(table, f"{each} {shown}")
            _write(_tasks(table, keys), table, keys, folder / stem, captions[stem])
    return captions


def drawn_columns(table: Table) -> list[str]:
    """The columns that have a panel: all of the paper's, of the readings the first of each metric on the
    same prompts, and the answer loss where no average stands for all."""
    shown = set()
    keys = []
    for key, one in table.measures.items():
        what = (one.part, one.task, one.metric)
        if key not in ("avg", "loss") and not (one.reading and what in shown):
            keys.append(key)
            shown.add(what)
    return keys + (["loss"] if "loss" in table.columns and "avg" not in table.columns else [])


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
        _panel(ax, table, [(row.name, row) for row in group.rows], "avg")
        for y, row in enumerate(group.rows):
            _note(ax, y, row)
        paper = "paper: " if group.has_reported else ""
        ax.set_title(f"{paper}{group.label}  |  {table.here_label(group)}")
    axes[-1].set_xlabel(f"{table.columns['avg']}, {table.measures['avg'].unit}")
    longest = max(len(row.name) for _, row in table.rows)
    entries = _legend(table, [row for _, row in table.rows], "paper's model")
    frame.finish(figure, entries, left=_label_width(longest), right=3.2)
    return figure


def _tasks(table: Table, keys: Sequence[str]) -> Figure:
    """One panel per task with every distinct run; rows that were not run are left to the table."""
    shown = [
        (table.row_name(group, row), row)
        for group, row in table.rows
        if row.runs and not row.plan["same_as"]
    ]
    labels = {group.label for group, row in table.rows if any(row is one for _, one in shown)}
    if len(labels) == 1:
        shown = [(row.name, row) for _, row in shown]
    plain = legend.plain(table)
    # What a column is does not fit into narrow panels beside its name.
    columns = min(4 if plain else 3, len(keys))
    lines = -(-len(keys) // columns)
    height = max(len(shown), 2) * ROW_HEIGHT
    one_scale = len({_scale(table, key) for key in keys}) == 1
    gap = GAP + (0 if plain else SECOND_LINE) + (0 if one_scale else TICKS)
    frame = _frame(table)
    figure = frame.canvas(lines * height + gap * (lines - 1))
    grid = figure.subplots(
        lines,
        columns,
        sharex=one_scale,
        sharey=True,
        squeeze=False,
        gridspec_kw={"hspace": gap / height, "wspace": 0.14},
    )
    for ax in grid.flat[len(keys) :]:
        ax.set_visible(False)
    for ax, key in zip(grid.flat, keys, strict=False):
        _panel(ax, table, shown, key)
        for y, (_, row) in enumerate(shown):
            _beside(ax, y, sign(row.cells[key]))
            if missing := row.cells[key].missing:
                ax.text(0.02, y, missing, transform=_level(ax), fontstyle="italic", **SMALL)
        if plain:
            n = table.examples(key)
            ax.set_title(table.columns[key] + (f" (n = {n})" if n and key != "loss" else ""))
        else:
            label = table.columns[key]
            ax.set_title(label, pad=16, fontsize=10 * min(1, LONG / len(label)))
            ax.text(
                0,
                1.03,
                "; ".join(legend.head(table, key)),
                transform=ax.transAxes,
                fontsize=8,
                color=SOFT,
            )
    for index, (ax, key) in enumerate(zip(grid.flat, keys, strict=False)):
        if not one_scale or index >= len(keys) - columns:
            ax.set_xlabel(table.measures[key].unit)
    longest = max((len(name) for name, _ in shown), default=0)
    entries = _legend(table, [row for _, row in shown], ", ".join(sorted(labels)))
    frame.finish(figure, entries, left=_label_width(longest), right=0.25)
    return figure


def _label_width(characters: int) -> float:
    """Inches that a row's name of so many characters needs beside the axes."""
    return 0.3 + 0.075 * characters


def _scale(table: Table, key: str) -> tuple[float, float]:
    """The ends of a column's axis: those of its unit, further down where a correlation is negative."""
    found = [cell.estimate for _, row in table.rows if (cell := row.cells[key]).estimate]
    if table.measures[key].unit == "points":
        return RATINGS
    if table.measures[key].unit == "%":
        return min([0.0, *(one.low for one in found)]), 100.0
    return 0.0, 1.05 * max((one.high for one in found), default=1.0)


def _panel(ax: Axes, table: Table, rows: Sequence[tuple[str, Row]], key: str) -> None:
    """Bars and marks of one column, first row on top."""
    scale = _scale(table, key)
    for y, (_, row) in enumerate(rows):
        cell = row.cells[key]
        if cell.estimate is not None:
            _bar(ax, y, row, cell, start=max(0.0, scale[0]))
        if cell.reported is not None:
            ax.plot(cell.reported, y, clip_on=False, zorder=4, **DIAMOND)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(*scale)


def _bar(ax: Axes, y: int, row: Row, cell: Cell, start: float) -> None:
    """One bar with its interval; ratings start at 1, everything else at 0."""
    assert cell.estimate is not None
    method, value = row.plan["method"], cell.estimate.value
    colour = DIABLO if method == "diablo" else END if method in UNRANKED else BASELINE
    again = bool(row.plan["same_as"])
    ax.barh(
        y,
        value - start,
        left=start,
        height=0.66,
        color="white" if again else colour,
        edgecolor=colour if again and method not in UNRANKED else SOFT,
        hatch="////" if again else None,
        linewidth=0.8,
    )
    # The interval of a statistic of a set need not hold its value.
    reach = [[max(0.0, value - cell.estimate.low)], [max(0.0, cell.estimate.high - value)]]
    ax.errorbar(value, y, xerr=reach, fmt="none", ecolor=EDGE, capsize=2.5, lw=1.2, zorder=3)


def _note(ax: Axes, y: int, row: Row) -> None:
    """`52.7 [48.6, 56.8], loss 1.234` or why the row has no number, beside the axes."""
    cell, loss = row.cells["avg"], row.cells.get("loss")
    found = cell.estimate
    if found is None:
        why = cell.missing or row.status
        text, style = textwrap.shorten(why, 50, placeholder=" ..."), "italic"
    else:
        parts = [
            f"{number(found.value, cell.digits)}{spread(cell)} {sign(cell)} {interval(cell)}",
            f"loss {number(loss.estimate.value, loss.digits)} {sign(loss)}"
            if loss and loss.estimate
            else "",
            f"{row.setting_here} here" if row.setting_here else "",
        ]
        text = ", ".join(" ".join(part.split()) for part in parts if part)
        style = "normal"
    _beside(ax, y, text, fontstyle=style, color=EDGE if found else SOFT)


def _beside(ax: Axes, y: int, text: str, **style: Any) -> None:
    """Small text at the right of the axes, level with a bar."""
    ax.text(1.015, y, text, transform=_level(ax), **{**SMALL, **style})


def _level(ax: Axes) -> Transform:
    """Across in parts of the axes, down in bars."""
    return blended_transform_factory(ax.transAxes, ax.transData)


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
