"""From an address in `workflow/claims.yaml` to the cells that it names, without guessing.

Sources of cells: the experiments of `workflow/experiments/`; `speed`, the recorded benchmarks (group
`<device>.<setting>`, row a form, columns `ms` and `gib`); and what the claims' `printed` names: experiments that
are not declared yet, and `paper`, numbers that are in no table here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from diablo.claims import counts
from diablo.claims.model import Claims
from diablo.data.naming import unknown
from diablo.experiments import WORKFLOW, Experiment, Group, Row, load_experiment
from diablo.io import read_json
from diablo.planning import experiment_names

SPEED, PAPER = "speed", "paper"
BENCHMARKS = WORKFLOW.parent / "benchmarks" / "results"


# Compared by identity: a row is a place in a table, whatever its numbers are.
@dataclass(frozen=True, eq=False)
class Line:
    """One row of a source, with the numbers that the paper prints in it.

    `number` is its place within its group, from 1 on; `model` and `row` are None but for declared
    experiments, `measured` is what a benchmark recorded.
    """

    source: str
    group: str
    group_label: str
    number: int
    names: tuple[str, ...]
    name: str
    printed: dict[str, float | None]
    columns: tuple[str, ...]
    model: Group | None = None
    row: Row | None = None
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell; `digits` are the decimals that the paper prints in it."""

    line: Line
    column: str
    digits: int

    @property
    def address(self) -> str:
        """The cell's own address, as messages and tables name it."""
        line = self.line
        return f"{line.source}/{line.group}/{line.names[0]}/{self.column}"

    @property
    def printed(self) -> float | None:
        """The number in the paper."""
        return self.line.printed.get(self.column)


class Addresses:
    """All cells that claims may name."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self._sources = list(dict.fromkeys(line.source for line in lines))

    def find(self, address: str) -> list[Cell]:
        """The cells that an address names, in the tables' order.

        Raises:
            ValueError: if a part of it names nothing (with the nearest name) or one row's name fits several.
        """
        parts = address.split("/")
        if len(parts) != 4:
            raise ValueError(f"{address}: an address is experiment/group/row/column")
        source, group, row, column = parts
        lines = _chosen(
            self.lines, source, lambda line: (line.source,), "experiment", address, self._sources
        )
        lines = _chosen(lines, group, lambda line: (line.group,), "group", address)
        lines = _rows(lines, row, address)
        found = [
            Cell(line, name, self._digits(line, name))
            for line in lines
            for name in line.columns
            if _fits((name,), column)
        ]
        columns = [name for line in lines for name in line.columns]
        for one in column.split(","):
            if not any(fnmatchcase(name, one) for name in columns):
                raise ValueError(unknown("column", one, set(columns), address))
        return found

    def one(self, address: str) -> Cell:
        """The one cell that an address names; ValueError if it names several."""
        found = self.find(address)
        if len(found) > 1:
            cells = ", ".join(cell.address for cell in found)
            raise ValueError(f"{address}: names {len(found)} cells where one is needed: {cells}")
        return found[0]

    def columns_of(self, line: Line) -> list[str]:
        """The columns that an average of a row is over; those with a printed number."""
        extra = ("avg", "loss", *counts.COLUMNS)
        return [name for name in line.columns if name not in extra and name in line.printed]

    def _digits(self, line: Line, column: str) -> int:
        """Decimals of a column: the most that any number in it has, as 82.80 is read as 82.8."""
        if column == "params" and line.row is not None:
            return counts.digits(line.row)
        values = [one.printed.get(column) for one in self.lines if one.source == line.source]
        return max((_decimals(value) for value in values if value is not None), default=0)


def _decimals(value: float) -> int:
    return len(f"{value:.10f}".rstrip("0").partition(".")[2])


def _fits(names: Iterable[str], part: str) -> bool:
    return any(fnmatchcase(name, one) for name in names for one in part.split(","))


def _chosen(lines, part, names, kind, address, valid=None) -> list[Line]:
    """The lines whose names fit a part of an address; each of its alternatives must fit some."""
    known = valid or [name for line in lines for name in names(line)]
    for one in part.split(","):
        if not any(fnmatchcase(name, one) for name in known):
            raise ValueError(unknown(kind, one, set(known), address))
    return [line for line in lines if _fits(names(line), part)]


def _rows(lines: list[Line], part: str, address: str) -> list[Line]:
    found: set[int] = set()
    for one in part.split(","):
        # A whole name first: rows of what is not declared yet may be named as they will be.
        places = [i for i, line in enumerate(lines) if _fits(line.names, one)]
        name, _, index = one.partition("#")
        name, _, setting = name.partition("@")
        if not places:
            places = [i for i, line in enumerate(lines) if _fits(line.names, name)]
            if not places:
                known = {name for line in lines for name in line.names}
                raise ValueError(unknown("row", name, known, address))
            places = [i for i in places if not setting or _has(lines[i], setting, address)]
            if not places:
                raise ValueError(f"{address}: no row {name} has {setting}")
        if index:
            if not index.isdigit() or not 1 <= int(index) <= len(places):
                raise ValueError(f"{address}: there is no {one}: {name} fits {len(places)} rows")
            places = [places[int(index) - 1]]
        groups = [(lines[i].source, lines[i].group) for i in places]
        if not set("*?[") & set(one) and len(set(groups)) < len(groups):
            rows = ", ".join(f"{one}#{k} ({lines[i].name})" for k, i in enumerate(places, 1))
            raise ValueError(f"{address}: {one} fits {len(places)} rows; name one of {rows}")
        found |= set(places)
    return [lines[i] for i in sorted(found)]


def _has(line: Line, setting: str, address: str) -> bool:
    """Whether a row has a setting such as `lr=4e-4` or `layers=1-4`."""
    key, _, wanted = setting.partition("=")
    if key not in Row.model_fields:
        raise ValueError(unknown("setting", key, Row.model_fields, address))
    value = getattr(line.row, key, None)
    if isinstance(value, float | int):
        try:
            return float(wanted) == value
        except ValueError:
            return wanted == "*"
    return value is not None and fnmatchcase(slug(str(value)), wanted)


def slug(label: str) -> str:
    """A label as addresses have it: `Llama2-7B, 4-bit` is `llama2-7b-4-bit`."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def load_addresses(
    claims: Claims,
    experiments: Sequence[Experiment] | None = None,
    benchmarks: Path = BENCHMARKS,
) -> Addresses:
    """All cells of the declared experiments, the benchmarks and the claims' printed numbers.

    Raises:
        ValueError: if a printed number contradicts the experiment that declares it by now.
    """
    if experiments is None:
        experiments = [load_experiment(name) for name in experiment_names()]
    declared = Addresses([line for one in experiments for line in _lines_of(one)])
    names = {experiment.name for experiment in experiments}
    rows: dict[tuple[str, str, str], dict[str, float | None]] = {}
    for address, value in claims.printed.items():
        source, group, row, column = (*address.split("/"), "", "", "")[:4]
        if source in names:
            if (known := declared.one(address).printed) != value:
                raise ValueError(
                    f"printed: {address} is {value:g} here, the experiment has {known}"
                )
        elif source != PAPER and not re.fullmatch(r"(table|figure)\d+", source):
            raise ValueError(unknown("experiment", source, [*names, PAPER], f"printed: {address}"))
        else:
            rows.setdefault((source, group, row), {})[column] = value
    groups = {source: {g for s, g, _ in rows if s == source} for source, *_ in rows}
    printed = []
    for i, ((source, group, row), values) in enumerate(rows.items(), start=1):
        name = f"{group} / {row}" if len(groups[source]) > 1 else row
        printed.append(Line(source, group, group, i, (row,), name, values, tuple(values)))
    return Addresses([*declared.lines, *printed, *_benchmarks(benchmarks)])


def _lines_of(experiment: Experiment) -> list[Line]:
    parts = experiment.parts.values()
    own = [*experiment.columns, *(key for part in parts for key in part.columns)]
    own += ["avg"] if experiment.average else []
    own += [*experiment.readings, *(key for part in parts for key in part.readings), "loss"]
    lines = []
    for group in experiment.groups:
        for number, row in enumerate(group.rows, start=1):
            size = row.num_blocks and f" N={row.num_blocks}"
            size = size or (row.rank and f" r={row.rank}") or ""
            names = tuple(dict.fromkeys((row.slug, slug(row.label))))
            alike = [one for one in group.rows if (one.slug, one.label) == (row.slug, row.label)]
            for key in ("layers", "modules", "lr"):
                if len({getattr(one, key) for one in alike}) > 1:
                    size += f" {key} {getattr(row, key)}"
            several = f"{group.label} / " if len(experiment.groups) > 1 else ""
            lines.append(
                Line(
                    experiment.name,
                    slug(group.label),
                    group.label,
                    number,
                    names,
                    f"{several}{row.label}{size}",
                    {**row.reported, "params": counts.printed_params(row)},
                    (*own, *counts.COLUMNS),
                    group,
                    row,
                )
            )
    return lines


def _benchmarks(folder: Path) -> list[Line]:
    lines = []
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        for setting, result in [
            *content.get("train_step", {}).items(),
            *content.get("nf4_memory", {}).items(),
        ]:
            for number, (form, measured) in enumerate(result["forms"].items(), start=1):
                if "median_ms" not in measured:
                    continue
                measured = {**measured, "device": result["measured_with"]["device"]}
                group = f"{path.stem}.{slug(setting)}"
                name = f"{setting}: {form}"
                columns = ("ms", "gib")
                lines.append(
                    Line(SPEED, group, setting, number, (form,), name, {}, columns, None, None, measured)
                )  # fmt: skip
    return lines
