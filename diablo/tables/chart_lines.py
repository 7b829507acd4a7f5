"""A chart over a number: a line a series, reproduced with intervals, reported as diamonds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diablo.tables.chart import Series, foot, series_of, used_value, value_text, values
from diablo.tables.frame import DIABLO, DIAMOND, EDGE, PAPER, SOFT, Frame
from diablo.tables.table import Group, Row, Table

PANEL = 2.3  # inches
BESIDE = 3.4  # inches, of panels side by side
GAP = 0.5  # inches between panels, for their titles
TICKS = 0.9  # inches, for tick labels of three lines
TICKS_BESIDE = 0.65  # inches, for tick labels of two lines
APART = 0.05  # of a doubling, between neighbouring series: intervals must not cover each other
REPORTED: dict[str, Any] = {**DIAMOND, "lw": 1.0, "ls": ":"}
HERE: dict[str, Any] = {
    "color": DIABLO,
    "marker": "o",
    "markeredgecolor": EDGE,
    "markersize": 5.5,
    "lw": 1.5,
}
#: Several series: from dark to light, with shapes and dashes of their own.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#440154", "marker": "o", "ls": "-"},
    {"color": "#3b528b", "marker": "s", "ls": "--"},
    {"color": "#21808d", "marker": "^", "ls": "-."},
    {"color": "#35a767", "marker": "v", "ls": (0, (5, 1))},
    {"color": "#8bcf3f", "marker": "P", "ls": (0, (3, 1, 1, 1))},
    {"color": "#e0c919", "marker": "X", "ls": ":"},
)
SPREAD: dict[str, Any] = {"color": DIABLO, "lw": 6, "alpha": 0.35, "solid_capstyle": "butt"}
#: Full fine-tuning: lines across the panel.
FULL_HERE: dict[str, Any] = {"color": SOFT, "lw": 1.2, "ls": "--"}
FULL_REPORTED: dict[str, Any] = {"color": PAPER, "lw": 1.2, "ls": "-."}


def shown(table: Table, groups: Sequence[Group], x: str) -> list[str]:
    """What the marks are, for the caption."""
    several = any(len(series_of(group, x)) > 1 for group in groups)
    marks = [
        "a line for each series, drawn a little apart" if several else "",
        "dots computed here with 95 % intervals",
        "diamonds reported by the paper" if table.has_reported else "",
        "lines across: full fine-tuning" if any(map(_full, groups)) else "",
    ]
    return [text for text in marks if text]


def figure(table: Table, groups: Sequence[Group], x: str, key: str) -> Figure:
    """The panels of each group: here, reported where another model or other data stand in, answer loss.

    One series has them below each other, with parameters under the axis; several have them side by side.
    The loss's scale is turned over, so that up is better in every panel.
    """
    drawn = [series_of(group, x) for group in groups]
    beside = any(len(series) > 1 for series in drawn)
    apart = bool(table.plan["stand_ins"]) and table.has_reported
    names = ["here", *(["paper"] if apart else []), *(["loss"] if "loss" in table.columns else [])]
    entries = _legend(table, groups, drawn)
    ticks = TICKS_BESIDE if beside else TICKS
    frame = Frame(table.heading, foot(table, groups, x), ticks, len(entries), 4 if beside else 5)
    height = BESIDE if beside else PANEL if apart else 1.4 * PANEL
    gap = GAP if len(groups) == 1 and not beside else GAP + ticks
    lines = len(groups) * (1 if beside else len(names))
    figure = frame.canvas(lines * height + (lines - 1) * gap)
    axes = figure.subplots(
        lines,
        len(names) if beside else 1,
        squeeze=False,
        gridspec_kw={"hspace": gap / height, "wspace": 0.2},
    ).ravel()
    for index, (group, series) in enumerate(zip(groups, drawn, strict=True)):
        panels = dict(zip(names, axes[len(names) * index :], strict=False))
        _group(table, group, series, panels, x, key)
        for ax in panels.values():
            ax.tick_params(labelbottom=beside or ax is axes[len(names) * (index + 1) - 1])
    label = table.plan["chart"]["label"]
    for ax in axes[-len(names) :] if beside else axes[-1:]:
        ax.set_xlabel(label if beside else f"{label}, with the trainable parameters below it")
    frame.finish(figure, entries, left=0.95 if not beside else 0.7, right=0.3)
    return figure


def _group(
    table: Table, group: Group, series: list[Series], panels: dict[str, Axes], x: str, key: str
) -> None:
    """All panels of one group."""
    here, full = panels["here"], _full(group)
    paper = panels.get("paper", here)
    for number, one in enumerate(series):
        look, shift = _look(number, len(series)), _shift(number, len(series))
        _here(here, one, look, shift, key)
        _reported(paper, one, look, key)
        if "loss" in panels:
            _here(panels["loss"], one, look, shift, "loss")
    for row in full:
        for name, each in (("here", key), ("loss", "loss")):
            if name in panels and (across := row.cells[each].estimate) is not None:
                panels[name].axhline(across.value, zorder=1, **FULL_HERE)
        if (reported := row.cells[key].reported) is not None:
            paper.axhline(reported, zorder=1, **FULL_REPORTED)
    ran = any(row.runs for one in series for row in one.rows.values())
    for name, ax in panels.items():
        _scale(ax, group, series, x)
        ax.set_ylabel("nats per token" if name == "loss" else f"{table.columns[key]}, %")
        if name != "paper" and not ran:
            place: dict[str, Any] = {"ha": "center", "va": "center", "color": SOFT}
            text = "no row was run"
            ax.text(0.5, 0.1, text, transform=ax.transAxes, fontstyle="italic", **place)
    if "loss" in panels:
        panels["loss"].set_title("answer loss, lower upwards")
        panels["loss"].invert_yaxis()
    if "paper" in panels:
        paper.set_title(f"reported ({group.label})")
    known = f"paper: {group.label}  |  " if group.has_reported and "paper" not in panels else ""
    here.set_title(f"{known}{table.here_label(group)}")


def _full(group: Group) -> list[Row]:
    return [row for row in group.rows if row.plan["method"] == "full"]


def _look(number: int, of: int) -> dict[str, Any]:
    return HERE if of == 1 else {**HERE, **LOOKS[number % len(LOOKS)]}


def _shift(number: int, of: int) -> float:
    """The factor by which a series is moved on the logarithmic axis."""
    return float(2 ** (APART * (number - (of - 1) / 2)))


def _here(ax: Axes, series: Series, look: dict[str, Any], shift: float, key: str) -> None:
    """The line of what was computed here, with intervals and the spread over seeds."""
    points = {x: row.cells[key].estimate for x, row in series.rows.items()}
    drawn = {x * shift: found for x, found in points.items() if found is not None}
    for x, found in drawn.items():
        # Equal examples make an interval of width zero, but for rounding.
        reach = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
        bar: dict[str, Any] = {"ecolor": EDGE if look is HERE else look["color"], "capsize": 3}
        ax.errorbar(x, found.value, yerr=reach, fmt="none", lw=1, zorder=2, **bar)
        if found.seed_sd is not None:
            ends = [found.value - found.seed_sd, found.value + found.seed_sd]
            ax.plot([x, x], ends, zorder=1, **_spread(look))
    ax.plot(list(drawn), [found.value for found in drawn.values()], zorder=3, **look)


def _spread(look: dict[str, Any]) -> dict[str, Any]:
    """The band of the seeds, narrower where several series stand side by side."""
    return SPREAD if look is HERE else {**SPREAD, "color": look["color"], "lw": 4}


def _reported(ax: Axes, series: Series, look: dict[str, Any], key: str) -> None:
    """The line of the reported numbers; of several, in the colour of the series."""
    numbers = {x: row.cells[key].reported for x, row in series.rows.items()}
    drawn = {x: value for x, value in numbers.items() if value is not None}
    if drawn:
        colour = {} if look is HERE else {"color": look["color"]}
        ax.plot(list(drawn), list(drawn.values()), zorder=4, **{**REPORTED, **colour})


def _scale(ax: Axes, group: Group, series: Sequence[Series], x: str) -> None:
    """A logarithmic axis with the paper's values and, under each, what was used (and what it costs)."""
    places = values(group, x)
    ax.set_xscale("log", base=2)
    ax.set_xticks(places, [_tick(series, x, value) for value in places], fontsize=8)
    ax.minorticks_off()
    ax.set_xlim(places[0] / 2**0.5, places[-1] * 2**0.5)
    ax.margins(y=0.12)
    ax.grid(axis="y")


def _tick(series: Sequence[Series], x: str, value: Any) -> str:
    """`128`, what was used in its place, and of a single series the parameters in the paper and here."""
    rows = [one.rows[value] for one in series if value in one.rows]
    used = {used_value(row, x) for row in rows if row.runs} - {value}
    here = ", ".join(value_text(x, one) for one in sorted(used))
    lines = [value_text(x, value)]
    if len(series) > 1:
        return "\n".join([*lines, f"here {here}"] if here else lines)
    if here:
        lines[0] += f" (here {here})"
    if rows[0].plan["params_reported"]:
        lines.append(f"paper {rows[0].plan['params_reported']}")
    if rows[0].trained is not None:
        lines.append(f"here {rows[0].trained:,}")
    return "\n".join(lines)


def _legend(table: Table, groups: Sequence[Group], drawn: Sequence[list[Series]]) -> list[Any]:
    """One entry for every kind of mark that the figure has."""
    rows = [row for series in drawn for one in series for row in one.rows.values()]
    full = [row for group in groups for row in _full(group)]
    entries: list[Any] = []
    several = any(len(series) > 1 for series in drawn)
    if several:
        labels = {
            one.name: (one.label, _look(number, len(series)))
            for series in drawn
            for number, one in enumerate(series)
        }
        entries += [Line2D([], [], label=label, **look) for label, look in labels.values()]
    elif any(row.runs for row in rows):
        entries.append(Line2D([], [], label="here, with 95 % intervals", **HERE))
    if any(row.seeds > 1 for row in rows):
        colour = {"color": SOFT} if several else {}
        entries.append(Line2D([], [], label="± sd over seeds", **{**SPREAD, **colour}))
    if any(row.runs for row in full):
        entries.append(Line2D([], [], label=f"{full[0].plan['label']}, here", **FULL_HERE))
    if any(row.has_reported for row in rows):
        entries.append(Line2D([], [], label="reported", **REPORTED))
    if any(row.has_reported for row in full):
        entries.append(Line2D([], [], label=f"{full[0].plan['label']}, reported", **FULL_REPORTED))
    return entries
