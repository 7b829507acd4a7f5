"""The theorems' figure: gaps over N and over LoRA's rank, and maps of Theorem 2 over both ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diablo.tables.frame import (
    BASELINE,
    DIABLO,
    EDGE,
    PAPER,
    SOFT,
    STYLE,
    Frame,
    write_figure,
)
from diablo.tables.theorems import HEADING

CAPTION = (
    "Theorem 1 above: the relative residual gap of DiaBlo over N and of LoRA over its rank, for inputs of rank r; "
    "Theorem 2 below: what vanishing diagonal blocks say about the whole gradient, for every pair of ranks."
)
FOOT = (
    "Above: gap = (L(Δ) − L*) / (L(0) − L*), 0 is the minimum over all Δ; largest magnitude over seeds left of the bound, "
    "smallest to largest right of it; magnitudes below 1e-17 are drawn there. Vertical lines: the theorem's bound N = m1/r, "
    "for LoRA the least rank that suffices. Between the grey lines no gap may lie.",
    "Below: rank of the stacked Kronecker system for each (r1, r2), the same for all seeds. Black outline: Theorem 2's "
    "condition. Dashed: as many equations as unknowns, r1 r2 = m1 m2 / N. Float64; exact minima, no training.",
)
MAP = ("inputs", "outputs", "blocks")
PANEL = 2.7  # inches
GAP = 0.75  # inches between the two lines of panels
FLOOR = 1e-17
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": DIABLO, "linestyle": "-", "marker": "o"},
    {"color": "#009e73", "linestyle": "--", "marker": "^"},
    {"color": "#e6a817", "linestyle": ":", "marker": "s"},
)
GRID = "#8a939c"
#: Colour of each outcome; counter-examples of a system with equations enough have a cross.
OUTCOMES = {
    "zero": BASELINE,
    "zero outside the condition": "#ffffff",
    "counter-example": "#3b4a5a",
    "contradiction": "#d4006a",
}


def draw_theorems(
    gaps: pd.DataFrame, cells: pd.DataFrame, network: pd.DataFrame, stem: Path
) -> None:
    """Write `<stem>.png`, `.svg` and `.csv`, all measurements merged over seeds, drawn or not.

    Args:
        gaps, cells, network: of `sweep_least_squares`, `merge_seeds`, `sweep_network`.
    """
    merged = merge_gaps(gaps)
    with matplotlib.style.context(STYLE):
        figure = _figure(merged, cells)
        write_figure(figure, tidy_theorems(merged, cells, network), stem, HEADING, CAPTION)


def merge_gaps(gaps: pd.DataFrame) -> pd.DataFrame:
    """One line for each setting, method and size: least, median and largest gap over the seeds."""
    keys = ["inputs", "outputs", "rank", "target_rank", "method", "size", "reaches", "params"]
    grouped = gaps.groupby(keys, dropna=False, sort=False)["gap"]
    return grouped.agg(gap_min="min", gap="median", gap_max="max", seeds="size").reset_index()


def tidy_theorems(merged: pd.DataFrame, cells: pd.DataFrame, network: pd.DataFrame) -> pd.DataFrame:
    """The measurements in one frame; `part` says of what, columns of other parts are empty."""
    parts = {"least squares": merged, "stationary points": cells, "network": network}
    frames = [frame.assign(part=name).astype(object) for name, frame in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[["part", *(name for name in frame if name != "part")]]


def _figure(merged: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    frame = Frame(HEADING, FOOT)
    figure = frame.canvas(2 * PANEL + GAP)
    axes = figure.subplots(2, 3, gridspec_kw={"hspace": GAP / PANEL, "wspace": 0.26})
    generic = merged[merged["target_rank"].isna()]
    sizes, maps = _distinct(generic, "inputs", "outputs"), _distinct(cells, *MAP)
    for ax, (inputs, outputs) in zip(axes[0], sizes[:2], strict=False):
        _gaps(ax, generic, inputs, outputs, "diablo")
        ax.set_title(f"DiaBlo, m1 = {inputs}, m2 = {outputs}")
    inputs, outputs = sizes[0]
    _gaps(axes[0, 2], generic, inputs, outputs, "lora")
    axes[0, 2].set_title(f"LoRA, m1 = {inputs}, m2 = {outputs}")
    axes[0, 0].set_ylabel("relative residual gap")
    for ax, (inputs, outputs, blocks) in zip(axes[1], maps[:3], strict=False):
        here = (cells[list(MAP)] == (inputs, outputs, blocks)).all(axis=1)
        _map(ax, cells[here], inputs, outputs, blocks)
        ax.set_title(f"N = {blocks}, m1 = {inputs}, m2 = {outputs}")
    axes[1, 0].set_ylabel("rank r1 of the inputs X")
    frame.finish(figure, _legend(cells), left=0.75, right=0.2)
    return figure


def _distinct(frame: pd.DataFrame, *columns: str) -> list[tuple[int, ...]]:
    """The values of some columns that occur together, in the order of the lines."""
    return list(dict.fromkeys(zip(*(frame[name].tolist() for name in columns), strict=True)))


def _gaps(ax: Axes, merged: pd.DataFrame, inputs: int, outputs: int, method: str) -> None:
    """Gaps over N or over LoRA's rank, a line for each of the last three ranks of the inputs."""
    of = merged[(merged["inputs"] == inputs) & (merged["outputs"] == outputs)]
    for rank, look in zip(sorted(of["rank"].unique())[-3:], LOOKS, strict=False):
        line = of[(of["rank"] == rank) & (of["method"] == method) & (of["size"] > 0)]
        reaches = line["reaches"].to_numpy()
        worst = line[["gap_min", "gap_max"]].abs().max(axis=1)
        shown = np.where(reaches, worst, line["gap"]).clip(FLOOR)
        ax.plot(
            line["size"], shown, label=f"r = {rank}", lw=1.3, markersize=4.5, zorder=3,
            markeredgecolor=EDGE, markeredgewidth=0.5, **look,
        )  # fmt: skip
        ax.vlines(line["size"][~reaches], line["gap_min"][~reaches], line["gap_max"][~reaches],
                  color=look["color"], lw=4, alpha=0.4)  # fmt: skip
        bound = inputs / rank if method == "diablo" else line["size"][reaches].min()
        ax.axvline(bound, color=look["color"], ls=look["linestyle"], lw=1, zorder=1)
    for limit in (1e-10, 1e-3):
        ax.axhline(limit, color=SOFT, lw=0.8)
    ax.axhspan(1e-10, 1e-3, color=SOFT, alpha=0.1, lw=0)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR / 4, 6)
    ax.set_yticks([1e-16, 1e-13, 1e-10, 1e-7, 1e-3, 1])
    ax.grid(visible=False)
    # Where no line passes: left of the bounds over N, right of them over the rank.
    place = {"diablo": (0.0, 0.58), "lora": (0.47, 0.58)}[method]
    ax.legend(loc="center left", fontsize=8, bbox_to_anchor=place)
    sizes = sorted(of.loc[(of["method"] == method) & (of["size"] > 0), "size"].unique())
    if method == "diablo":
        ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
    ax.minorticks_off()
    ax.set_xlabel("number of blocks N" if method == "diablo" else "LoRA's rank")


def _map(ax: Axes, pairs: pd.DataFrame, inputs: int, outputs: int, blocks: int) -> None:
    """The outcome of each pair of ranks, the theorem's condition, and the count of equations."""
    names = list(OUTCOMES)
    grid = pairs.pivot(index="rank1", columns="rank2", values="outcome").map(names.index)
    colours = matplotlib.colors.ListedColormap(list(OUTCOMES.values()))
    edges1, edges2 = np.arange(inputs + 1) + 0.5, np.arange(outputs + 1) + 0.5
    ax.pcolormesh(edges2, edges1, grid.to_numpy(), cmap=colours, vmin=-0.5, vmax=3.5, lw=0.3, edgecolors=GRID)  # fmt: skip
    crossed = pairs[
        (pairs["outcome"] == "counter-example") & (pairs["equations"] >= pairs["unknowns"])
    ]
    ax.plot(crossed["rank2"], crossed["rank1"], "x", color="white", markersize=4.5, mew=1.2)
    _outline(ax, pairs)
    rank2 = np.linspace(0.5, outputs + 0.5, 200)
    ax.plot(rank2, inputs * outputs / blocks / rank2, color=PAPER, ls="--", lw=1.6, zorder=4)
    ax.set(xlim=(0.5, outputs + 0.5), ylim=(0.5, inputs + 0.5))
    ax.set_xlabel("rank r2 of the output gradient")
    ax.grid(visible=False)


def _outline(ax: Axes, pairs: pd.DataFrame) -> None:
    """The border of Theorem 2's condition: for each r2, the largest r1 inside."""
    inside = pairs[pairs["inside"]].groupby("rank2")["rank1"].max()
    edges = np.append(inside.index.to_numpy() - 0.5, inside.index.max() + 0.5)
    ax.stairs(inside.to_numpy() + 0.5, edges, baseline=None, color="black", lw=2, zorder=5)


def _legend(cells: pd.DataFrame) -> list[Any]:
    """One entry for every kind of mark that the maps have."""
    names = {
        "zero": "inside: whole gradient vanishes",
        "zero outside the condition": "outside: vanishes all the same",
        "counter-example": "counter-example",
        "contradiction": "contradiction",
    }
    entries: list[Any] = [
        Patch(facecolor=OUTCOMES[name], edgecolor=GRID, label=label)
        for name, label in names.items()
        if (cells["outcome"] == name).any()
    ]
    crossed: dict[str, Any] = {"edgecolor": "white", "hatch": "xx", "lw": 0}
    dark = OUTCOMES["counter-example"]
    entries.append(Patch(facecolor=dark, label="the same, equations enough", **crossed))
    entries.append(Line2D([], [], color=PAPER, ls="--", lw=1.6, label="r1 r2 = m1 m2 / N"))
    return entries
