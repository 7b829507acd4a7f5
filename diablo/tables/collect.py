"""The table as data: reported and reproduced numbers side by side, every format reads this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.io import read_json
from diablo.tables.ranking import UNRANKED, Mark, marks
from diablo.tables.runs import Estimate, Run, estimate, read_run
from diablo.tables.statistics import RESAMPLES


@dataclass
class Cell:
    """One row's number in one column; all numbers in percent (differences in points)."""

    reported: float | None
    estimate: Estimate | None
    reported_mark: Mark | None = None
    mark: Mark | None = None

    @property
    def difference(self) -> float | None:
        """Reproduced minus reported, where both exist."""
        if self.reported is None or self.estimate is None:
            return None
        return self.estimate.value - self.reported


@dataclass
class Row:
    """One row of the paper's table and what was computed for it; `plan` is its entry in the plan."""

    plan: Mapping[str, Any]
    number: int
    runs: list[Run]
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Method with its setting in the paper: `DiaBlo N=64`."""
        return f"{self.plan['label']} {self.setting}".strip()

    @property
    def setting(self) -> str:
        """N or r in the paper's row."""
        return _setting(self.plan["num_blocks"], self.plan["rank"])

    @property
    def setting_here(self) -> str | None:
        """N or r that was really used, where the row was run with another one than the paper's."""
        used = self.plan["setting_used"]
        here = _setting(used["num_blocks"], used["rank"])
        return here if self.runs and here != self.setting else None

    @property
    def origin(self) -> str:
        """Where the reported numbers come from, in words."""
        if self.plan["origin"] == "copied":
            return f"copied, {self.plan['source'] or 'source not stated'}"
        return {"retrained": "trained by the authors"}.get(self.plan["origin"], "origin not stated")

    @property
    def status(self) -> str:
        """`run`, `same run as ...` or `not run: ...`."""
        if not self.runs:
            return f"not run: {self.plan['reason']}"
        same = self.plan["same_as"]
        return f"same run as {same}" if same else "run"

    @property
    def trained(self) -> int | None:
        """Trainable parameters, counted from the model that was trained."""
        return self.runs[0].provenance["trainable_parameters"] if self.runs else None

    @property
    def trained_percent(self) -> float | None:
        """Trainable parameters in percent of the base model that was really used."""
        if self.trained is None:
            return None
        return 100.0 * self.trained / self.runs[0].provenance["base_parameters"]


@dataclass
class Group:
    """Rows that share one of the paper's models."""

    label: str
    model: str
    used_model: str
    used_title: str
    rows: list[Row]

    @property
    def stand_in(self) -> bool:
        """Whether another model than the paper's was used."""
        return self.model != self.used_model


@dataclass
class Table:
    """A whole table; `plan` is the resolved experiment, `columns` holds `avg` last."""

    plan: Mapping[str, Any]
    columns: dict[str, str]
    groups: list[Group]
    inputs: list[Path]

    @property
    def rows(self) -> list[tuple[Group, Row]]:
        """All rows with their groups, in the paper's order."""
        return [(group, row) for group in self.groups for row in group.rows]

    @property
    def heading(self) -> str:
        """The title, with the number that the paper gives it: `Table 1: ...`."""
        numbered = re.fullmatch(r"(table|figure)(\d+)", self.plan["name"])
        if not numbered:
            return str(self.plan["title"])
        return f"{numbered[1].capitalize()} {numbered[2]}: {self.plan['title']}"

    def paper_label(self, group: Group) -> str:
        """Head of the reported numbers."""
        return f"paper ({group.label})"

    def here_label(self, group: Group) -> str:
        """Head of the reproduced numbers, which says what stands in for what."""
        if group.stand_in:
            return f"here ({group.used_title}, stand-in)"
        what = "stand-in data" if self.plan["stand_ins"] else "same model"
        return f"here ({group.used_title}, {what})"

    def examples(self, column: str) -> str:
        """Number of examples behind a column, as `64` or `60 to 64`; empty if nothing was run."""
        cells = [row.cells[column] for _, row in self.rows]
        counts = sorted({cell.estimate.n for cell in cells if cell.estimate})
        if not counts:
            return ""
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def load_table(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Read a plan and the scores it names.

    Args:
        plan_path: `results/<scale>/tables/<experiment>.plan.json`; the paths in it are relative to
            the working directory.
        resamples: bootstrap resamples per estimate.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a score file or its provenance is missing or does not fit the plan; the
            message names the file.
    """
    plan = read_json(plan_path)
    columns = dict(plan["columns"])
    if plan["average"]:
        columns["avg"] = plan["average"]
    inputs = [Path(plan_path)]
    groups = []
    for entry in plan["groups"]:
        rows = [_row(plan, row, number) for number, row in enumerate(entry["rows"], start=1)]
        for row in rows:
            _fill(row, plan, columns, resamples, seed)
            inputs += [path for run in row.runs for path in _files(run, row)]
        _rank(rows, columns)
        title = entry.get("used_model_title", entry["used_model"])
        groups.append(Group(entry["label"], entry["model"], entry["used_model"], title, rows))
    return Table(plan, columns, groups, list(dict.fromkeys(inputs)))


def _row(plan: Mapping[str, Any], entry: Mapping[str, Any], number: int) -> Row:
    """One row with its runs read; a row has either runs or a reason why it has none."""
    if bool(entry["runs"]) == bool(entry["reason"]):
        raise ValueError(
            f"{plan['name']}: row {entry['label']!r} must have either runs or a reason not to run, "
            f"it has {len(entry['runs'])} runs and reason {entry['reason']!r}"
        )
    runs = [read_run(run, plan, entry["method"]) for run in entry["runs"]]
    counts = {run.provenance["trainable_parameters"] for run in runs}
    if len(counts) > 1:
        raise ValueError(
            f"{plan['name']}: the seeds of row {entry['label']!r} trained different numbers of "
            f"parameters: {sorted(counts)} ({', '.join(run.name for run in runs)})"
        )
    return Row(entry, number, runs)


def _files(run: Run, row: Row) -> list[Path]:
    adapter = next(entry["adapter"] for entry in row.plan["runs"] if entry["run"] == run.name)
    return [run.scores, Path(adapter) / "provenance.json"]


def _fill(
    row: Row, plan: Mapping[str, Any], columns: Mapping[str, str], resamples: int, seed: int
) -> None:
    found = estimate(row.runs, list(plan["columns"]), resamples, seed) if row.runs else {}
    reported = row.plan["reported"]
    row.cells = {key: Cell(reported.get(key), found.get(key)) for key in columns}


def _rank(rows: list[Row], columns: Mapping[str, str]) -> None:
    ranked = [row for row in rows if row.plan["method"] not in UNRANKED]
    for key in columns:
        cells = {row.number: row.cells[key] for row in ranked}
        reported = {k: cell.reported for k, cell in cells.items() if cell.reported is not None}
        here = {k: cell.estimate.value for k, cell in cells.items() if cell.estimate is not None}
        for number, mark in marks(reported).items():
            cells[number].reported_mark = mark
        for number, mark in marks(here).items():
            cells[number].mark = mark


def _setting(num_blocks: int | None, rank: int | None) -> str:
    if num_blocks is not None:
        return f"N={num_blocks}"
    return f"r={rank}" if rank is not None else ""
