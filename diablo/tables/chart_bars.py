"""A chart over something that is no number: groups of bars with intervals, reported values as diamonds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diablo.tables.chart import Series, foot, series_of, size_of, used_value, value_text, values
from diablo.tables.frame import DIABLO, DIAMOND, EDGE, SOFT, Frame
from diablo.tables.render import number
from diablo.tables.table import Group, Row, Table

BARS, DOTS = 2.6, 1.7  # inches, of the panels of accuracies and losses
GAP = 0.5  # inches between panels, for their titles
LINE = 0.15  # inches, of a tick label
WIDTH = 0.8  # of all bars of a value together
WIDEST = 0.4  # of one bar
#: Looks of DiaBlo's series, and of others', in their order.
OURS: tuple[dict[str, Any], ...] = (
    {"facecolor": DIABLO, "hatch": None},
    {"facecolor": "#7db8dc", "hatch": "...."},
)
OTHERS: tuple[dict[str, Any], ...] = (
    {"facecolor": "#f0c98a", "hatch": "\\\\\\\\"},
    {"facecolor": "#fdf3e1", "hatch": "----"},
)
MARKERS = ("o", "s", "^", "v", "P", "X")
SPREAD: dict[str, Any] = {"color": SOFT, "lw": 6, "alpha": 0.45, "solid_capstyle": "butt"}
SMALL: dict[str, Any] = {
    "ha": "center",
    "va": "bottom",
    "fontsize": 8,
    "textcoords": "offset points",
}
LEFT_OUT: dict[str, Any] = {**SMALL, "rotation": 90, "color": SOFT, "fontstyle": "italic"}


def shown(table: Table, groups: Sequence[Group], x: str) -> list[str]:
    """What the marks are, for the caption."""
    marks = ["bars computed here with 95 % intervals"]
    return [*marks, "diamonds reported by the paper"] if table.has_reported else marks


def figure(table: Table, groups: Sequence[Group], x: str, key: str) -> Figure:
    """For each group accuracies from 0 on and, below, answer losses, turned over so that up is better."""
    drawn = [series_of(group, x) for group in groups]
    looks = _looks([one for series in drawn for one in series])
    names = [key, *(["loss"] if "loss" in table.columns else [])]
    heights = [BARS, DOTS][: len(names)] * len(groups)
    lines = 1 + max(len(series) for series in drawn)
    ticks = 0.3 + LINE * (lines + 1)
    gap = GAP if len(groups) == 1 else GAP + ticks
    entries = _legend(table, drawn, looks)
    frame = Frame(table.heading, foot(table, groups, x), ticks, len(entries), 4)
    figure = frame.canvas(sum(heights) + gap * (len(heights) - 1))
    axes = figure.subplots(
        len(heights),
        1,
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "hspace": gap * len(heights) / sum(heights)},
    )[:, 0]
    for index, (group, series) in enumerate(zip(groups, drawn, strict=True)):
        panels = axes[len(names) * index : len(names) * (index + 1)]
        _bars(panels[0], group, series, looks, x, key)
        panels[0].set_ylabel(f"{table.columns[key]}, %")
        paper = f"paper: {group.label}  |  " if group.has_reported else ""
        panels[0].set_title(f"{paper}{table.here_label(group)}")
        if "loss" in names:
            _dots(panels[1], group, series, looks, x)
            panels[1].set_ylabel("nats per token")
            panels[1].set_title("answer loss, lower upwards")
        for ax in panels:
            ax.tick_params(labelbottom=ax is panels[-1])
    axes[-1].set_xlabel(table.plan["chart"]["label"])
    frame.finish(figure, entries, left=0.8, right=0.3)
    return figure


def _looks(series: Sequence[Series]) -> dict[str, dict[str, Any]]:
    """A face and a marker for each series, by name: DiaBlo's blue, others' ochre."""
    found: dict[str, dict[str, Any]] = {}
    used = {True: 0, False: 0}
    for one in series:
        if one.name not in found:
            ours = next(iter(one.rows.values())).plan["method"] == "diablo"
            faces = OURS if ours else OTHERS
            marker = MARKERS[len(found) % len(MARKERS)]
            found[one.name] = {**faces[used[ours] % len(faces)], "marker": marker}
            used[ours] += 1
    return found


def _places(group: Group, series: Sequence[Series], x: str) -> list[tuple[float, Series, Row]]:
    """Where each row's bar stands: values one apart, the series side by side."""
    width = _width(series)
    return [
        (at + (number - (len(series) - 1) / 2) * width, one, one.rows[value])
        for at, value in enumerate(values(group, x))
        for number, one in enumerate(series)
        if value in one.rows
    ]


def _width(series: Sequence[Series]) -> float:
    return min(WIDEST, WIDTH / len(series))


def _bars(
    ax: Axes, group: Group, series: list[Series], looks: dict[str, Any], x: str, key: str
) -> None:
    """Bars from 0 on, with their numbers, and diamonds."""
    width = _width(series)
    tops = [1.0]
    for at, one, row in _places(group, series, x):
        cell, look = row.cells[key], looks[one.name]
        top = 0.0
        if (found := cell.estimate) is not None:
            face = {"facecolor": look["facecolor"], "hatch": look["hatch"], "edgecolor": SOFT}
            ax.bar(at, found.value, width=0.92 * width, linewidth=0.8, zorder=2, **face)
            _interval(ax, at, found)
            top = max(found.high, found.value + (found.seed_sd or 0.0))
            text = number(found.value, cell.digits)
            ax.annotate(text, (at, top), (0, 3), **SMALL)
        if cell.reported is not None:
            ax.plot(at, cell.reported, linestyle="none", zorder=4, clip_on=False, **DIAMOND)
        if found is None:
            ax.annotate(cell.missing or "not run", (at, 0), (0, 3), **LEFT_OUT)
        tops.append(max(top, cell.reported or 0.0))
    ax.set_ylim(0, min(1.15 * max(tops), max(100.0, 1.08 * max(tops))))
    _axis(ax, group, series, x)


def _dots(ax: Axes, group: Group, series: list[Series], looks: dict[str, Any], x: str) -> None:
    """Losses: dots, as their differences are small beside their distance from 0."""
    for at, one, row in _places(group, series, x):
        if (found := row.cells["loss"].estimate) is not None:
            _interval(ax, at, found)
            look = looks[one.name]
            dot = {"marker": look["marker"], "color": look["facecolor"], "markeredgecolor": EDGE}
            ax.plot(at, found.value, linestyle="none", markersize=6, zorder=4, **dot)
    ax.margins(y=0.15)
    ax.invert_yaxis()
    _axis(ax, group, series, x)


def _interval(ax: Axes, at: float, found: Any) -> None:
    """The interval, and in grey the spread over seeds."""
    reach = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
    ax.errorbar(at, found.value, yerr=reach, fmt="none", ecolor=EDGE, capsize=3, lw=1.2, zorder=3)
    if found.seed_sd is not None:
        ends = [found.value - found.seed_sd, found.value + found.seed_sd]
        ax.plot([at, at], ends, zorder=3, **SPREAD)


def _axis(ax: Axes, group: Group, series: Sequence[Series], x: str) -> None:
    places = values(group, x)
    ax.set_xticks(range(len(places)), [_tick(series, x, one) for one in places], fontsize=8)
    ax.set_xlim(-0.6, len(places) - 0.4)
    ax.grid(visible=False, axis="x")
    ax.grid(visible=True, axis="y")


def _tick(series: Sequence[Series], x: str, value: Any) -> str:
    """The value, what was used in its place, and how much each row trains."""
    rows = [one.rows[value] for one in series if value in one.rows]
    used = {used_value(row, x) for row in rows if row.runs} - {value}
    here = f" (here {', '.join(sorted(used))})" if used else ""
    return "\n".join([value_text(x, value) + here, *map(_size, rows)])


def _size(row: Row) -> str:
    """`LoRA r=25 (here r=3): 8,640 parameters`."""
    paper, used = size_of(row), size_of(row, used=True)
    here = f" (here {used})" if row.runs and used != paper else ""
    size = f"{row.plan['label']} {paper}".strip() + here
    return f"{size}: " + ("not run" if row.trained is None else f"{row.trained:,} parameters")


def _legend(
    table: Table, drawn: Sequence[list[Series]], looks: dict[str, dict[str, Any]]
) -> list[Any]:
    """A bar for each series, and the other kinds of marks."""
    rows = [row for series in drawn for one in series for row in one.rows.values()]
    stand_in = " (stand-in)" if table.plan["stand_ins"] else ""
    where = f", here{stand_in}" if table.has_reported else ""
    labels = {one.name: f"{one.label}{where}" for series in drawn for one in series}
    entries: list[Any] = []
    for name, label in labels.items():
        look = looks[name]
        face = {"facecolor": look["facecolor"], "hatch": look["hatch"], "edgecolor": SOFT}
        entries.append(Patch(label=label, **face))
    if any(row.seeds > 1 for row in rows):
        entries.append(Line2D([], [], label="± sd over seeds", **SPREAD))
    if any(row.has_reported for row in rows):
        entries.append(Line2D([], [], linestyle="none", label="reported, paper's model", **DIAMOND))
    return entries
