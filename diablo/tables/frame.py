"""What all figures share: style, colours, title, legend, foot, and how they are written."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from diablo.io import atomic_path, write_text

STYLE = Path(__file__).with_name("style.mplstyle")

DIABLO, BASELINE, END, PAPER = "#0072b2", "#9ec5dd", "#e3e6ea", "#d55e00"
EDGE, SOFT = "#1b1f24", "#57606a"
DIAMOND: dict[str, Any] = {
    "marker": "D",
    "color": PAPER,
    "markeredgecolor": EDGE,
    "markersize": 5.5,
}
HEAD = 0.75  # inches
WIDTH = 10.0  # inches
FOOT_LINE = 0.13  # inches
LEGEND_LINE = 0.25  # inches


@dataclass(frozen=True)
class Frame:
    """Title, legend and foot, placed in inches so that they never meet the panels.

    Attributes:
        heading: the title.
        foot: sentences under the panels; each starts a line and is wrapped.
        ticks: inches between the lowest panel and the legend, for tick labels and the axis' name.
        entries: how many the legend has.
        columns: how many of them stand in a line.
    """

    heading: str
    foot: Sequence[str]
    ticks: float = 0.45
    entries: int = 5
    columns: int = 5

    @property
    def _lines(self) -> list[str]:
        return [line for part in self.foot for line in textwrap.wrap(part, 160)]

    @property
    def _legend_bottom(self) -> float:
        return 0.1 + FOOT_LINE * len(self._lines)

    @property
    def _foot_height(self) -> float:
        lines = max(1, -(-self.entries // self.columns))
        return 0.1 + self._legend_bottom + LEGEND_LINE * lines + self.ticks

    def canvas(self, panels: float) -> Figure:
        """A figure with room for panels of so many inches in height."""
        return Figure(figsize=(WIDTH, panels + HEAD + self._foot_height))

    def finish(self, figure: Figure, legend: list[Any], left: float, right: float) -> None:
        """Put everything around the panels, which stay `left` and `right` inches inside."""
        width, height = figure.get_size_inches()
        figure.subplots_adjust(
            left=left / width,
            right=1 - right / width,
            top=1 - HEAD / height,
            bottom=self._foot_height / height,
        )
        title: dict[str, Any] = {"va": "top", "fontsize": 11, "fontweight": "bold"}
        figure.text(0.15 / width, 1 - 0.12 / height, self.heading, **title)
        figure.legend(
            handles=legend,
            loc="lower left",
            ncols=self.columns,
            bbox_to_anchor=(0.05 / width, self._legend_bottom / height),
            columnspacing=1.2,
            handletextpad=0.5,
        )
        foot: dict[str, Any] = {"va": "bottom", "fontsize": 7.5}
        figure.text(0.15 / width, 0.1 / height, "\n".join(self._lines), **foot)


def write_figure(figure: Figure, data: pd.DataFrame, stem: Path, title: str, caption: str) -> None:
    """Write `<stem>.png`, `.svg` and `.csv`, the numbers that the figure shows."""
    write_text(stem.with_name(f"{stem.name}.csv"), data.to_csv(index=False, lineterminator="\n"))
    metadata: dict[str, Any] = {"Title": title, "Description": caption}
    with atomic_path(stem.with_name(f"{stem.name}.png")) as temporary:
        figure.savefig(temporary, metadata=metadata)
    with atomic_path(stem.with_name(f"{stem.name}.svg")) as temporary:
        # Without a date: the same input gives the same bytes.
        figure.savefig(temporary, metadata=metadata | {"Date": None})
