"""What a table is made of: every format reads these, none computes a number of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diablo.tables.comparison import Comparison
from diablo.tables.estimates import Estimate, Measured
from diablo.tables.measures import Measure
from diablo.tables.ranking import Mark
from diablo.tables.runs import Run

#: What the reference of a group's comparisons was chosen by.
Choice = Literal["average", "columns", "parts", "loss"]


@dataclass
class Cell:
    """One row's number in one column, in the column's unit (differences of percentages in points).

    `digits` is how many decimals are printed, `shows_stderr` whether the standard error is printed too;
    `missing` says why a row that was run has no number here.
    """

    reported: float | None
    estimate: Estimate | None
    digits: int = 1
    reported_mark: Mark | None = None
    mark: Mark | None = None
    comparison: Comparison | None = None
    missing: str | None = None
    shows_stderr: bool = False

    @property
    def difference(self) -> float | None:
        """Reproduced minus reported, where both exist."""
        if self.reported is None or self.estimate is None:
            return None
        return self.estimate.value - self.reported


@dataclass
class Row:
    """One row of the paper's table and what was computed for it; `plan` is its entry in the plan.

    `parts` are the names of the experiment's parts; `is_reference`: the other rows of the group are
    compared with these runs.
    """

    plan: Mapping[str, Any]
    number: int
    runs: list[Run]
    measured: Measured | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    is_reference: bool = False
    parts: tuple[str, ...] = ("",)

    def of_part(self, part: str) -> list[Run]:
        """The runs of one part, a seed each."""
        return [run for run in self.runs if run.part == part]

    @property
    def seeds(self) -> int:
        """How many times the row was trained."""
        return max((len(self.of_part(part)) for part in self.parts), default=0)

    @property
    def is_diablo(self) -> bool:
        """Whether what trained, or was retained, are diagonal blocks."""
        return self.plan["method"] == "diablo" or self.plan.get("pattern") == "diagonal"

    @property
    def run_names(self) -> tuple[str, ...]:
        """The runs behind the row; rows with the same ones show the same numbers."""
        return tuple(run.name for run in self.runs)

    @property
    def learning_rates(self) -> list[float]:
        """The base learning rates of the runs, each once."""
        return sorted({run.learning_rate for run in self.runs if run.learning_rate is not None})

    @property
    def devices(self) -> list[str]:
        """What the runs were trained on, each device once."""
        return sorted({run.device for run in self.runs})

    @property
    def has_reported(self) -> bool:
        """Whether the paper has this row; a user's own experiment reports nothing."""
        return bool(self.plan["reported"])

    @property
    def name(self) -> str:
        """Method with its setting in the paper: `DiaBlo N=64`."""
        return f"{self.plan['label']} {self.setting}".strip()

    @property
    def setting(self) -> str:
        """N or r in the paper's row, and what else tells it from other rows: `N=64 lr 4e-4`."""
        size = _setting(self.plan["num_blocks"], self.plan["rank"])
        return " ".join(filter(None, [size, *self.plan.get("apart", {}).values()]))

    @property
    def setting_here(self) -> str | None:
        """N, r and layers that were really used, where the row was run with others than the paper's.

        Learning rates are no part of it: they stand with every row.
        """
        used, layers = self.plan["setting_used"], self.plan.get("layers")
        paper = [_setting(self.plan["num_blocks"], self.plan["rank"]), layers]
        here = [_setting(used["num_blocks"], used["rank"]), used.get("layers")]
        other = [mine for mine, theirs in zip(here, paper, strict=True) if mine and mine != theirs]
        return " ".join(other) if self.runs and other else None

    @property
    def origin(self) -> str:
        """Where the reported numbers come from, in words."""
        if self.plan["origin"] == "copied":
            return f"copied, {self.plan['source'] or 'source not stated'}"
        return {"retrained": "trained by the authors"}.get(self.plan["origin"], "origin not stated")

    @property
    def status(self) -> str:
        """`run`, `same run as ...`, `not run: ...` or which parts have no run."""
        if not self.runs:
            return f"not run: {self.plan['reason']}"
        if lost := [part for part in self.parts if not self.of_part(part)]:
            return f"run in part: not {', '.join(lost)}"
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
    """Rows that share one of the paper's models.

    `reference` is the best DiaBlo row by `chosen_by`, if one was run, and `comparisons` the number of
    rows that were compared with it in each column.
    """

    label: str
    model: str
    used_model: str
    used_title: str
    rows: list[Row]
    reference: Row | None = None
    chosen_by: Choice = "average"
    comparisons: int = 0

    @property
    def has_reported(self) -> bool:
        """Whether the paper has any row of the group."""
        return any(row.has_reported for row in self.rows)

    @property
    def compared(self) -> bool:
        """Whether any row has a comparison with the reference."""
        return any(cell.comparison for row in self.rows for cell in row.cells.values())

    @property
    def stand_in(self) -> bool:
        """Whether another model than the paper's was used."""
        return self.model != self.used_model


@dataclass
class Table:
    """A whole table.

    `plan` is the resolved experiment. `columns` has the labels of the columns, of `avg` (where the
    experiment has an average), of the readings and of `loss` (where answer losses were measured), and
    `measures` what each of them is (empty for other kinds of tables). `test_sizes` is the number of
    examples of each column before the cap, for `avg` and `loss` of all of them; what was not scored has
    none.
    """

    plan: Mapping[str, Any]
    columns: dict[str, str]
    groups: list[Group]
    test_sizes: dict[str, int]
    inputs: list[Path]
    measures: dict[str, Measure] = field(default_factory=dict)

    @property
    def has_reported(self) -> bool:
        """Whether the paper has any row of the table."""
        return any(group.has_reported for group in self.groups)

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

    def row_name(self, group: Group, row: Row) -> str:
        """A row's name, with its group where the table has several."""
        return f"{group.label} / {row.name}" if len(self.groups) > 1 else row.name

    def identity(self, group: Group, row: Row) -> dict[str, Any]:
        """What every CSV says of the row that a line is about, and of the models behind it."""
        return {
            "group": group.label,
            "paper_model": group.model,
            "used_model": group.used_model,
            "stand_in": bool(self.plan["stand_ins"]),
            "stand_ins": "; ".join(self.plan["stand_ins"]),
            "row": row.number,
            "id": row.plan["id"],
            "method": row.plan["method"],
            "label": row.plan["label"],
        }

    def paper_label(self, group: Group) -> str:
        """Head of the reported numbers."""
        return f"paper ({group.label})"

    def here_label(self, group: Group) -> str:
        """Head of the reproduced numbers, which says what stands in for what."""
        if group.stand_in:
            return f"here ({group.used_title}, stand-in)"
        if self.plan["stand_ins"]:
            return f"here ({group.used_title}, stand-in data)"
        same = ", same model" if group.has_reported else ""
        return f"here ({group.used_title}{same})"

    def examples(self, column: str) -> str:
        """Examples behind a column, `60 to 64 of 512`; empty if nothing was run."""
        cells = [row.cells[column] for _, row in self.rows]
        counts = sorted({cell.estimate.n for cell in cells if cell.estimate})
        if not counts:
            return ""
        several = "" if len(counts) == 1 else f" to {counts[-1]}"
        size = self.test_sizes.get(column)
        return f"{counts[0]}{several}" + ("" if size is None else f" of {size}")


def _setting(num_blocks: int | None, rank: int | None) -> str:
    if num_blocks is not None:
        return f"N={num_blocks}"
    return f"r={rank}" if rank is not None else ""
