"""Figures of a table of variances: the norms step by step, and the variances as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diablo.tables import words
from diablo.tables.frame import DIABLO, EDGE, SOFT, STYLE, Frame, write_figure
from diablo.tables.gradient_formats import NO_INTERVAL, significant, tidy_variances
from diablo.tables.gradients import GradientRow, gradient_rows
from diablo.tables.render import number
from diablo.tables.table import Table

#: By group of parameters: dark to light, with line styles, markers and hatches that need no colour.
LOOKS: dict[str, dict[str, str]] = {
    "diablo_blocks": {"color": DIABLO, "linestyle": "-", "marker": "o", "hatch": ""},
    "lora_A": {"color": "#009e73", "linestyle": "--", "marker": "^", "hatch": "////"},
    "lora_B": {"color": "#e6a817", "linestyle": ":", "marker": "s", "hatch": "...."},
}
PANEL = 3.0  # inches
GAP = 0.6  # inches between panels, for their titles
#: Markers on a line; with more measured steps than this they would hide it.
MOST_MARKERS = 60


def draw_gradients(table: Table, folder: Path) -> dict[str, str]:
    """Write a table's figures and their data into `folder`; return their captions by file name.

    `<name>` has the norms over the steps, `<name>-variance` the reported and the reproduced
    variances; each as .png, .svg and .csv.
    """
    name, every = table.plan["name"], table.plan["every"]
    which = "at every step" if every == 1 else f"at every step (pale) and one in {every} (marked)"
    norms = (
        f"gradient norm by group of parameters {which}, before clipping; with several seeds their mean "
        "and, shaded, their range"
    )
    variances = "variance of the gradient norm by epoch, as reported and as computed here, on axes of their own"
    captions = {name: _caption(table, norms), f"{name}-variance": _caption(table, variances)}
    with matplotlib.style.context(STYLE):
        drawn = {
            name: (_norms(table), tidy_norms(table)),
            f"{name}-variance": (_variances(table), tidy_variances(table)),
        }
        for stem, (figure, data) in drawn.items():
            write_figure(figure, data, folder / stem, table.heading, captions[stem])
    return captions


def tidy_norms(table: Table) -> pd.DataFrame:
    """One line per row, seed and step: the norms as drawn; empty where the step was skipped."""
    frames = [
        pd.DataFrame(
            {
                "group": group.label,
                "used_model": group.used_model,
                "stand_in": bool(table.plan["stand_ins"]),
                "row": row.number,
                "label": row.plan["label"],
                "parameters": row.plan["group"],
                "run": run.name,
                "seed": run.seed,
                "step": run.norms.steps,
                "epoch": run.norms.epochs,
                "norm": run.norms.norms,
                "mean_of_matrices": run.norms.means,
                "measured": run.norms.steps % table.plan["every"] == 0,
            }
        )
        for group, row in gradient_rows(table)
        for run in row.runs
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["group"])


def _caption(table: Table, what: str) -> str:
    not_run = sum(not row.runs for _, row in table.rows)
    where = words.place(table)
    sentences = [
        f"{table.heading}{where and f' ({where})'}: {what}.",
        words.banner(table) or "",
        f"{not_run} of {len(table.rows)} rows were not run." if not_run else "",
    ]
    return " ".join(text for text in sentences if text)


def _panels(frame: Frame, groups: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with a line of panels for each group; the axes as (groups, columns)."""
    figure = frame.canvas(PANEL * groups + GAP * (groups - 1))
    space = {"hspace": GAP / PANEL, "wspace": 0.16}
    return figure, figure.subplots(groups, columns, squeeze=False, gridspec_kw=space)


def _look(row: GradientRow, *keys: str) -> dict[str, Any]:
    return {key: LOOKS[row.plan["group"]][key] for key in keys}


# --- norms over the steps


def _norms(table: Table) -> Figure:
    every = table.plan["every"]
    frame = Frame(table.heading, words.foot(table))
    figure, axes = _panels(frame, len(table.groups), 1)
    for ax, group in zip(axes[:, 0], table.groups, strict=True):
        rows = [row for one, row in gradient_rows(table) if one is group]
        _norm_panel(ax, rows, every)
        ax.set_title(table.here_label(group))
        ax.set_ylabel("gradient norm")
        if not any(row.runs for row in rows):
            _say_not_run(ax, rows)
    axes[-1, 0].set_xlabel("optimiser step")
    frame.finish(figure, _norm_legend(table), left=0.75, right=0.3)
    return figure


def _norm_panel(ax: Axes, rows: Sequence[GradientRow], every: int) -> None:
    """The lines of one group's rows, with the epochs marked."""
    for row in rows:
        if row.runs:
            _norm_lines(ax, row, every)
    runs = [run for row in rows for run in row.runs]
    if runs:
        _mark_epochs(ax, max((run.norms.epochs for run in runs), key=len))
    # Room above the lines for the epochs' numbers.
    ax.margins(y=0.1)
    ax.set_ylim(bottom=0)
    ax.grid(visible=False, axis="x")
    ax.grid(axis="y")


def _norm_lines(ax: Axes, row: GradientRow, every: int) -> None:
    """One row: every step as a pale line, the measured ones marked, their range over the seeds."""
    # The seeds of a row train on the same examples, and so as many steps.
    norms = np.array([run.norms.norms for run in row.runs])
    steps, mean = row.runs[0].norms.steps, norms.mean(axis=0)
    at = steps % every == 0
    style = _look(row, "color", "linestyle")
    if every > 1:
        ax.plot(steps, mean, lw=0.5, alpha=0.35, zorder=1, rasterized=True, color=style["color"])
    if len(norms) > 1:
        low, high = norms[:, at].min(axis=0), norms[:, at].max(axis=0)
        ax.fill_between(steps[at], low, high, color=style["color"], alpha=0.18, lw=0)
    ax.plot(
        steps[at],
        mean[at],
        lw=1.5,
        marker=LOOKS[row.plan["group"]]["marker"],
        markersize=4,
        markeredgecolor=EDGE,
        markeredgewidth=0.4,
        zorder=3,
        markevery=max(1, int(at.sum()) // MOST_MARKERS),
        **style,
    )


def _mark_epochs(ax: Axes, epochs: np.ndarray) -> None:
    """Lines between the epochs, and their numbers."""
    ends = [0, *(np.flatnonzero(np.diff(epochs)) + 1).tolist(), len(epochs)]
    for epoch, (start, end) in enumerate(pairwise(ends), start=1):
        if end < len(epochs):
            ax.axvline(end + 0.5, color=SOFT, lw=1, ls=(0, (4, 3)))
        place: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": SOFT}
        middle = (start + end + 1) / 2
        ax.text(middle, 0.99, f"epoch {epoch}", transform=ax.get_xaxis_transform(), **place)
    ax.set_xlim(0, len(epochs) + 1)


def _say_not_run(ax: Axes, rows: Sequence[GradientRow]) -> None:
    text = "\n".join(f"{row.name}: {row.status}" for row in rows)
    place: dict[str, Any] = {"ha": "center", "va": "center", "color": SOFT, "fontstyle": "italic"}
    ax.text(0.5, 0.5, text, transform=ax.transAxes, wrap=True, **place)


def _norm_legend(table: Table) -> list[Any]:
    """One entry for every kind of line that the figure has."""
    every = table.plan["every"]
    drawn = {row.plan["group"]: row for _, row in gradient_rows(table) if row.runs}
    entries: list[Any] = [
        Line2D([], [], label=row.plan["label"], **_look(row, "color", "linestyle", "marker"))
        for row in drawn.values()
    ]
    if drawn and every > 1:
        label = f"all steps (marked: one in {every})"
        entries.append(Line2D([], [], color=SOFT, alpha=0.5, lw=0.5, label=label))
    if any(len(row.runs) > 1 for row in drawn.values()):
        entries.append(Patch(facecolor=SOFT, alpha=0.18, label="range over seeds"))
    return entries


# --- variances by epoch


def _variances(table: Table) -> Figure:
    """Two panels a group, reported and computed here: their scales are not the same."""
    several = any(len(row.runs) > 1 for _, row in table.rows)
    spread = "Lines on the bars: sample standard deviation over seeds. " if several else ""
    frame = Frame(table.heading, [*words.foot(table), f"{spread}{NO_INTERVAL}"])
    figure, axes = _panels(frame, len(table.groups), 2)
    for (left, right), group in zip(axes, table.groups, strict=True):
        rows = [row for one, row in gradient_rows(table) if one is group]
        labels = list(table.columns.values())
        reported = [[cell.reported for cell in row.cells.values()] for row in rows]
        _bars(left, rows, labels, reported, lambda value: number(value, 2))
        left.set_title(f"reported ({group.label})")
        left.set_ylabel("variance of the gradient norm")
        values = [[cell.value for cell in row.cells.values()] for row in rows]
        spreads = [[cell.seed_sd for cell in row.cells.values()] for row in rows]
        _bars(right, rows, labels, values, lambda value: significant(value, 2), spreads)
        right.set_title(table.here_label(group))
        if not any(row.runs for row in rows):
            _say_not_run(right, rows)
    legend = [
        Patch(facecolor=look["color"], edgecolor=EDGE, hatch=look["hatch"], label=row.plan["label"])
        for row, look in {
            row.plan["group"]: (row, LOOKS[row.plan["group"]]) for _, row in gradient_rows(table)
        }.values()
    ]
    frame.finish(figure, legend, left=0.75, right=0.3)
    return figure


def _bars(
    ax: Axes,
    rows: Sequence[GradientRow],
    epochs: Sequence[str],
    values: Sequence[Sequence[float | None]],
    printed: Callable[[float], str],
    spreads: Sequence[Sequence[float | None]] | None = None,
) -> None:
    """Bars of one panel, (rows, epochs), side by side in each epoch, with their numbers on top."""
    width = 0.84 / len(rows)
    for index, (row, heights) in enumerate(zip(rows, values, strict=True)):
        for epoch, height in enumerate(heights):
            x = epoch + (index - (len(rows) - 1) / 2) * width
            sd = spreads[index][epoch] if spreads else None
            if height is not None:
                error: dict[str, Any] = {"yerr": sd, "capsize": 2.5, "error_kw": {"lw": 1}}
                look = _look(row, "color", "hatch")
                ax.bar(x, height, 0.92 * width, edgecolor=EDGE, lw=0.6, **look, **error)
            top, text = (height or 0) + (sd or 0), "–" if height is None else printed(height)
            ax.text(x, top, text, ha="center", va="bottom", fontsize=7.5)
    ax.set_xticks(range(len(epochs)), epochs)
    ax.set_ylim(bottom=0)
    ax.margins(y=0.12)
    ax.grid(visible=False, axis="x")
    ax.grid(axis="y")
