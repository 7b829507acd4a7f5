"""Figures of a table of variances: the norms step by step, and the variances as bars."""

from __future__ import annotations

from collections.abc import Sequence
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
from diablo.tables.table import Table

#: By group of parameters: dark to light, with line styles, markers and hatches that need no colour.
LOOKS: dict[str, dict[str, str]] = {
    "diablo_blocks": {"color": DIABLO, "linestyle": "-", "marker": "o", "hatch": ""},
    "lora_A": {"color": "#d55e00", "linestyle": "--", "marker": "^", "hatch": "////"},
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
    which = "at every step" if every == 1 else f"at every step (pale) and every {every}th (marked)"
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
                "table": table.plan["name"],
                "used_model": group.used_model,
                "stand_ins": "; ".join(table.plan["stand_ins"]),
                "group": group.label,
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
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["table"])


def _caption(table: Table, what: str) -> str:
    not_run = sum(not row.runs for _, row in table.rows)
    where = words.place(table)
    sentences = [
        f"{table.heading}{where and f' ({where})'}: {what}.",
        words.banner(table) or "",
        f"{not_run} of {len(table.rows)} rows were not run." if not_run else "",
    ]
    return " ".join(text for text in sentences if text)


def _frame(table: Table, *remarks: str, ticks: float = 0.45) -> Frame:
    facts = words.facts(table)
    made = f"Limits: {facts['Limits']}."
    foot = [text for text in (words.banner(table), made, *remarks) if text]
    return Frame(table.heading, foot, ticks=ticks)


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
    frame = _frame(table)
    figure, axes = _panels(frame, len(table.groups), 1)
    for ax, group in zip(axes[:, 0], table.groups, strict=True):
        rows = [row for one, row in gradient_rows(table) if one is group]
        _norm_panel(ax, rows, every)
        ax.set_title(
            f"{'paper: ' if group.has_reported else ''}{group.label}  |  {table.here_label(group)}"
        )
        ax.set_ylabel("gradient norm")
        if not any(row.runs for row in rows):
            _say_not_run(ax, rows)
    axes[-1, 0].set_xlabel("optimiser step")
    frame.finish(figure, _norm_legend(table), left=0.75, right=0.3)
    return figure


def _norm_panel(ax: Axes, rows: Sequence[GradientRow], every: int) -> None:
    """The lines of one group's rows, with the epochs marked."""
    last, ends = 1, set()
    for row in (row for row in rows if row.runs):
        # Seeds of one row have the same data and so the same number of steps.
        steps = row.runs[0].norms.steps
        norms = np.array([run.norms.norms for run in row.runs])
        mean = norms.mean(axis=0)
        pale = every > 1
        style = _look(row, "color", "linestyle")
        ax.plot(steps, mean, lw=0.7 if pale else 1.5, alpha=0.35 if pale else 1.0, **style)
        if len(norms) > 1:
            low, high = norms.min(axis=0), norms.max(axis=0)
            ax.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
        at = steps % every == 0
        markers: dict[str, Any] = {"markersize": 4, "markeredgecolor": EDGE, "markeredgewidth": 0.4}
        spacing = max(1, int(at.sum()) // MOST_MARKERS)
        ax.plot(
            steps[at],
            mean[at],
            lw=1.5 if pale else 0,
            markevery=spacing,
            **style,
            **_look(row, "marker"),
            **markers,
        )
        last = max(last, len(steps))
        epochs = row.runs[0].norms.epochs
        ends |= set((np.flatnonzero(np.diff(epochs)) + 1).tolist())
    ax.set_xlim(0, last + 1)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    edges = [0, *sorted(ends), last]
    for epoch, (start, end) in enumerate(pairwise(edges), start=1):
        if end < last:
            ax.axvline(end + 0.5, color=SOFT, lw=1, ls=(0, (4, 3)))
        place: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": SOFT}
        ax.text(
            (start + end) / 2, 0.98, f"epoch {epoch}", transform=ax.get_xaxis_transform(), **place
        )


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
        entries.append(Line2D([], [], color=SOFT, alpha=0.35, lw=0.7, label="every step"))
    if any(len(row.runs) > 1 for row in drawn.values()):
        entries.append(Patch(facecolor=SOFT, alpha=0.15, label="range over seeds"))
    return entries


# --- variances by epoch


def _variances(table: Table) -> Figure:
    """Two panels a group, reported and computed here: their scales are not the same."""
    several = any(len(row.runs) > 1 for _, row in table.rows)
    spread = "Lines on the bars: sample standard deviation over seeds. " if several else ""
    frame = _frame(table, f"{spread}{NO_INTERVAL}")
    figure, axes = _panels(frame, len(table.groups), 2)
    for (left, right), group in zip(axes, table.groups, strict=True):
        rows = [row for one, row in gradient_rows(table) if one is group]
        reported = [[cell.reported for cell in row.cells.values()] for row in rows]
        _bars(left, rows, list(table.columns.values()), reported)
        left.set_title(f"reported ({group.label})")
        left.set_ylabel("variance of the gradient norm")
        values = [[cell.value for cell in row.cells.values()] for row in rows]
        spreads = [[cell.seed_sd for cell in row.cells.values()] for row in rows]
        _bars(right, rows, list(table.columns.values()), values, spreads)
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
    spreads: Sequence[Sequence[float | None]] | None = None,
) -> None:
    """Bars of one panel, (rows, epochs), side by side in each epoch, with their numbers on top."""
    width = 0.8 / len(rows)
    for index, (row, heights) in enumerate(zip(rows, values, strict=True)):
        for epoch, height in enumerate(heights):
            x = epoch + (index - (len(rows) - 1) / 2) * width
            if height is None:
                ax.text(x, 0, "–", ha="center", va="bottom", color=SOFT)
                continue
            sd = spreads[index][epoch] if spreads else None
            ax.bar(
                x,
                height,
                width * 0.92,
                edgecolor=EDGE,
                lw=0.6,
                yerr=sd,
                capsize=2.5,
                error_kw={"lw": 1},
                **_look(row, "color", "hatch"),
            )
            ax.text(
                x, height + (sd or 0), significant(height), ha="center", va="bottom", fontsize=7.5
            )
    ax.set_xticks(range(len(epochs)), epochs)
    ax.set_ylim(bottom=0)
    ax.margins(y=0.12)
    ax.grid(visible=False, axis="x")
    ax.grid(axis="y")
