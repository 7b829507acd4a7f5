"""Figure 3: effective ratios of X and g_Y by module, as bars for each share of the squares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diablo.tables.frame import EDGE, SOFT, Frame
from diablo.tables.ranks import MATRICES, powers, probed, short, tidy_ranks
from diablo.tables.run_sections import caption, draw_rows, foot
from diablo.tables.table import Table

PANEL = 2.6  # inches
GAP = 0.75  # inches between lines of panels, for titles and tick labels
#: From the least share of the squares to the largest; more shares begin again.
LOOKS: tuple[dict[str, Any], ...] = (
    {"facecolor": "#08457e", "hatch": ""},
    {"facecolor": "#5aa1cf", "hatch": "////"},
    {"facecolor": "#d3e4f1", "hatch": "...."},
)
#: The sum of the singular values themselves, and the numerical rank.
OTHERS: dict[str, dict[str, Any]] = {
    "values": {"marker": "D", "markerfacecolor": "#e6a817", "markersize": 4, "linestyle": "none"},
    "rank": {"marker": "_", "color": EDGE, "markersize": 22, "mew": 1.4, "linestyle": "none"},
}
WHAT = (
    "effective ratio k / min(b, m) of the activations X and the output gradients g_Y of each linear module; bars: "
    "share of the sum of squared singular values, diamonds: of the values themselves, lines: numerical rank"
)


def draw_ranks(table: Table, folder: Path) -> dict[str, str]:
    """Write `<name>.png`, `.svg` and `.csv` into `folder`; return the caption by file name."""
    what = f"{caption(table, WHAT)} {probed(table)}."
    return draw_rows(table, folder, what, tidy_ranks(table), _figure)


def _figure(table: Table, data: pd.DataFrame) -> Any:
    rows = [(group, row) for group, row in table.rows if row.runs]
    frame = Frame(table.heading, foot(table, probed(table), " Means over seeds, with their range."))
    lines = max(1, len(rows))
    figure = frame.canvas(PANEL * lines + GAP * (lines - 1))
    space = {"hspace": GAP / PANEL, "wspace": 0.08}
    axes = figure.subplots(lines, 2, squeeze=False, sharey=True, gridspec_kw=space)
    for line, (group, row) in zip(axes, rows, strict=False):
        of_row = data[(data["row"] == row.number) & (data["group"] == group.label)]
        for ax, (key, matrix) in zip(line, MATRICES.items(), strict=True):
            _panel(ax, of_row[of_row["matrix"] == matrix])
            what = {"x": "activations X", "g": "output gradients g_Y"}[key]
            ax.set_title(f"{row.name}: {what}")
        line[0].set_ylabel(f"k / min(b, m)\n{table.here_label(group)}", fontsize=8)
    if not rows:
        for ax in axes[0]:
            ax.set_axis_off()
    frame.finish(figure, _legend(data), left=0.85, right=0.2)
    return figure


def _panel(ax: Axes, data: pd.DataFrame) -> None:
    """Bars side by side in each module: mean over the seeds, with their range where there are several."""
    modules = list(dict.fromkeys(data["module"]))
    at = np.arange(len(modules))
    shares = _shares(data)
    width = 0.84 / max(1, len(shares))
    for index, share in enumerate(shares):
        x = at + (index - (len(shares) - 1) / 2) * width
        low, mean, high = _values(data, modules, 2, share)
        error: dict[str, Any] = {}
        if data["seed"].nunique() > 1:
            error = {"yerr": [mean - low, high - mean], "capsize": 2, "error_kw": {"lw": 0.8}}
        ax.bar(x, mean, 0.92 * width, edgecolor=EDGE, lw=0.6, **LOOKS[index % len(LOOKS)], **error)
        _, values, _ = _values(data, modules, 1, share)
        ax.plot(x, values, markeredgecolor=EDGE, mew=0.6, zorder=4, **OTHERS["values"])
    _, ranks, _ = _values(data, modules, 0, None)
    ax.plot(at, ranks, zorder=3, **OTHERS["rank"])
    ax.set_xticks(at, [short(name).removesuffix("_proj") for name in modules])
    ax.set_ylim(0, 1.04)
    ax.grid(visible=False, axis="x")
    ax.grid(axis="y")


def _shares(data: pd.DataFrame) -> list[float]:
    return sorted(data["threshold"].dropna().unique())


def _values(
    data: pd.DataFrame, modules: list[str], power: int, share: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(least, mean, largest) ratio over the seeds, a number a module; power 0: the numerical rank."""
    one = data[data["threshold"].isna() if power == 0 else data["power"] == power]
    if share is not None:
        one = one[one["threshold"] == share]
    found = one.groupby("module", sort=False)["ratio"].agg(["min", "mean", "max"]).loc[modules]
    return tuple(found[name].to_numpy() for name in found)  # type: ignore[return-value]


def _legend(data: pd.DataFrame) -> list[Any]:
    entries: list[Any] = [
        Patch(edgecolor=EDGE, label=f"{powers(2)} ≥ {share:g}", **LOOKS[index % len(LOOKS)])
        for index, share in enumerate(_shares(data) if len(data) else [])
    ]
    values: dict[str, Any] = OTHERS["values"] | {"markeredgecolor": EDGE}
    rank: dict[str, Any] = OTHERS["rank"] | {"markersize": 14}
    entries.append(Line2D([], [], label=f"{powers(1)}, the same shares", **values))
    entries.append(Line2D([], [], label="numerical rank", **rank))
    return entries if len(data) else [Patch(facecolor="none", edgecolor=SOFT, label="not run")]
