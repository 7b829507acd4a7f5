"""Figure 4: average gradient norms of the full weights and of the diagonal blocks over the epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diablo.tables.frame import DIABLO, EDGE, PAPER, SOFT, Frame
from diablo.tables.gradient_norms import measured, tidy
from diablo.tables.run_sections import caption, draw_rows, foot
from diablo.tables.table import Table

PANEL = 2.8  # inches
GAP = 0.75  # inches between lines of panels
#: Quantiles of the matrices between which the shaded bands lie.
BAND = (0.1, 0.9)
LOOKS: dict[str, dict[str, Any]] = {
    "full": {"color": PAPER, "linestyle": "--", "marker": "s"},
    "blocks": {"color": DIABLO, "linestyle": "-", "marker": "o"},
    "ratio": {"color": EDGE, "linestyle": "-", "marker": "D"},
}
LABELS = {"full": "full weights", "blocks": "diagonal blocks", "ratio": "blocks / full"}
#: Panels of a row, from left: title, the columns that are drawn with their looks, log scale.
PANELS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("||G||_F / √numel (RMS)", {"rms_full": "full", "rms_blocks": "blocks"}, True),
    ("blocks / full, RMS", {"rms_ratio": "ratio"}, False),
    ("||G||_F / numel", {"per_entry_full": "full", "per_entry_blocks": "blocks"}, True),
)
WHAT = (
    "average gradient norm of the full weights and of their diagonal blocks before training and at the end of each "
    "epoch; lines: mean over the matrices (of the ratio: ratio of the means), shaded: 10 to 90 % of the matrices"
)


def draw_gradient_norms(table: Table, folder: Path) -> dict[str, str]:
    """Write `<name>.png`, `.svg` and `.csv` into `folder`; return the caption by file name."""
    what = f"{caption(table, WHAT)} {measured(table)}."
    return draw_rows(table, folder, what, tidy(table), _figure)


def _figure(table: Table, data: pd.DataFrame) -> Any:
    rows = [(group, row) for group, row in table.rows if row.runs]
    frame = Frame(
        table.heading,
        foot(table, measured(table), " With several seeds their mean, and the matrices of all."),
    )
    lines = max(1, len(rows))
    figure = frame.canvas(PANEL * lines + GAP * (lines - 1))
    space = {"hspace": GAP / PANEL, "wspace": 0.24}
    axes = figure.subplots(lines, len(PANELS), squeeze=False, gridspec_kw=space)
    for line, (group, row) in zip(axes, rows, strict=False):
        of_row = data[(data["row"] == row.number) & (data["group"] == group.label)]
        for ax, (title, keys, logarithmic) in zip(line, PANELS, strict=True):
            _panel(ax, of_row, keys, logarithmic)
            ax.set_title(title)
        line[0].set_title(f"{row.name}: {PANELS[0][0]}")
        line[0].set_ylabel(table.here_label(group), fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("epoch (0: before training)")
    if not rows:
        for ax in axes[0]:
            ax.set_axis_off()
    frame.finish(figure, _legend(), left=0.95, right=0.2)
    return figure


def _panel(ax: Axes, data: pd.DataFrame, keys: dict[str, str], logarithmic: bool) -> None:
    for key, look in keys.items():
        mean = data[data["part"] == "mean"].groupby("epoch")[key].mean()
        matrices = data[data["part"] == "matrix"].groupby("epoch")[key]
        low, high = (matrices.quantile(share) for share in BAND)
        style, epochs = LOOKS[look], mean.index.to_numpy()
        ax.fill_between(
            epochs, low.to_numpy(), high.to_numpy(), color=style["color"], alpha=0.18, lw=0
        )
        for edge in (low, high):
            thin = {key: style[key] for key in ("color", "linestyle")}
            ax.plot(epochs, edge.to_numpy(), lw=0.6, zorder=2, **thin)
        ax.plot(
            epochs, mean.to_numpy(), lw=1.6, markersize=5, markeredgecolor=EDGE,
            markeredgewidth=0.5, zorder=3, **style,
        )  # fmt: skip
    if logarithmic:
        ax.set_yscale("log")
    else:
        ax.axhline(1, color=SOFT, lw=0.8, zorder=1)
        ax.set_ylim(bottom=0)
    ax.set_xticks(sorted(data["epoch"].unique()))
    ax.grid(visible=False, axis="x")
    ax.grid(axis="y")


def _legend() -> list[Any]:
    lines: list[Any] = [Line2D([], [], label=LABELS[key], **look) for key, look in LOOKS.items()]
    return [*lines, Patch(facecolor=SOFT, alpha=0.3, label="10 to 90 % of the matrices")]
