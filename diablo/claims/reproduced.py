"""Margins of the reproduced numbers: the tables that exist at a scale, theorems, benchmarks and counts.

Nothing is computed that is not there: what was not run is missing, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from diablo.claims import counts
from diablo.claims.addresses import PAPER, SPEED, Cell
from diablo.claims.margins import Margin
from diablo.claims.paired import Joint, joint_draws
from diablo.claims.reading import ALPHA, Kind, Missing, Reading, total
from diablo.tables.statistics import RESAMPLES


@dataclass(frozen=True)
class Number:
    """A reproduced number with its own 95 % bounds, if it has any."""

    value: float
    kind: Kind
    low: float | None
    high: float | None
    evidence: str
    stand_ins: str = ""
    record: dict[str, Any] | None = None


#: Low, high, draws and evidence of a paired margin: bounds or draws.
Paired = tuple[float | None, float | None, np.ndarray | None, str]


class Table:
    """One experiment's table at this scale, and the runs behind it where they are here."""

    def __init__(self, folder: Path, name: str, resamples: int) -> None:
        self.path, self._plan = folder / f"{name}.csv", folder / f"{name}.plan.json"
        self._resamples = resamples
        frame = pd.read_csv(self.path, low_memory=False, keep_default_na=True)
        self._records: dict[tuple[str, int, str], dict[str, Any]] = {
            (record["group"], record["row"], record["column"]): {
                str(key): value for key, value in record.items()
            }
            for record in frame.to_dict("records")
        }

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The CSV's line of a cell; None where the table has no such column.

        Raises:
            ValueError: if the row is another one by now.
        """
        place = (cell.line.group_label, cell.line.number)
        record = self._records.get((*place, cell.column))
        if record is None:
            if not any(key[:2] == place for key in self._records):
                raise ValueError(f"{self.path}: has no row {place}; build the table again")
            return None
        assert cell.line.row is not None
        if record["label"] != cell.line.row.label:
            raise ValueError(
                f"{self.path}: row {place} is {record['label']!r}, the experiment says "
                f"{cell.line.row.label!r}; build the table again"
            )
        return record

    @cached_property
    def joint(self) -> Joint | None:
        """Draws in which all rows share their examples; None where the runs are not here.

        Raises:
            ValueError: if the runs say something else than the table.
        """
        joint = joint_draws(self._plan, self._resamples)
        for place, columns in (joint or {}).items():
            for column, (value, _) in columns.items():
                known = self._records.get((*place, column), {}).get("reproduced")
                if known is not None and not np.isclose(known, value, atol=1e-4, rtol=0):
                    raise ValueError(
                        f"{self.path}: {place} {column} is {known}, its runs say {value:.6f}; the table is "
                        "older than its runs: build it again"
                    )
        return joint


class Reproduced:
    """Margins of what was reproduced at one scale.

    Args:
        folder: `results/<scale>/tables`; tables that are not there were not run.
        resamples: bootstrap resamples.
    """

    def __init__(self, folder: Path, resamples: int = RESAMPLES) -> None:
        self.folder = folder
        self._resamples = resamples
        self._tables: dict[str, Table | None] = {}
        #: Files that a verdict came from.
        self.files: list[Path] = []

    def read(self, margin: Margin) -> Reading | Missing:
        """The margin with its bounds: paired over the same examples wherever that can be."""
        numbers = [self._number(cell) for _, cell in margin.terms]
        missing = [one for one in numbers if isinstance(one, Missing)]
        if missing:
            return missing[0]
        found = [one for one in numbers if isinstance(one, Number)]
        values = tuple(one.value for one in found)
        stand_ins = "; ".join(dict.fromkeys(one.stand_ins for one in found if one.stand_ins))
        if stand_ins and margin.absolute:
            return Missing("only stand-ins were run, which cannot test a number of the paper's")
        value = total(margin, values)
        paired = self._paired(margin, found)
        if paired is not None:
            return Reading(value, values, "sample", *paired, stand_ins)
        kinds = {one.kind for one in found}
        kind: Kind = next(each for each in ("point", "sample", "range", "exact") if each in kinds)
        texts = list(dict.fromkeys(one.evidence for one in found))
        if len(found) > 1 and "sample" in kinds:
            texts.append("unpaired, so wider than it need be")
        evidence = "; ".join(texts)
        if kind == "point":
            return Reading(value, values, kind, evidence=evidence, stand_ins=stand_ins)
        low = high = -margin.constant
        for (factor, _), one in zip(margin.terms, found, strict=True):
            assert one.low is not None
            assert one.high is not None
            low += min(factor * one.low, factor * one.high)
            high += max(factor * one.low, factor * one.high)
        low, high = round(low, 9), round(high, 9)
        return Reading(value, values, kind, low, high, None, evidence, stand_ins)

    def statement(self, words: str) -> tuple[bool, str] | Missing:
        """Whether a statement of the theorems' table holds, and what was found.

        Raises:
            ValueError: if the words are in no statement or in several.
        """
        path = self.folder / "theorems.csv"
        if not path.is_file():
            return Missing("not run: no theorems.csv")
        self._used(path)
        frame = pd.read_csv(path, low_memory=False)
        frame = frame[frame["part"] == "statements"]
        found = frame[[words in text for text in frame["statement"]]]
        if len(found) != 1:
            raise ValueError(
                f"{path}: {words!r} is in {len(found)} statements; valid: {'; '.join(frame['statement'])}"
            )
        line = found.iloc[0]
        # A column of verdicts among lines without one is read as text.
        return str(line["holds"]) == "True", f"{line['statement']}: {line['found']}"

    def _paired(self, margin: Margin, numbers: list[Number]) -> Paired | None:
        """(low, high, draws, evidence) over shared examples; None where there is no such thing."""
        cells = [cell for _, cell in margin.terms]
        if len(cells) < 2 or len({cell.line.source for cell in cells}) > 1:
            return None
        if any(one.kind != "sample" or one.record is None for one in numbers):
            return None
        texts = "; ".join(dict.fromkeys(one.evidence for one in numbers))
        table = self._tables[cells[0].line.source]
        assert table is not None
        joint = table.joint
        places = [(cell.line.group_label, cell.line.number) for cell in cells]
        if joint and all(
            cell.column in joint.get(place, {}) for cell, place in zip(cells, places, strict=True)
        ):
            draws = -margin.constant * np.ones(self._resamples)
            for (factor, cell), place in zip(margin.terms, places, strict=True):
                draws += factor * joint[place][cell.column][1]
            draws = np.round(draws, 9)
            return None, None, draws, f"paired bootstrap; {texts}"
        records = [one.record or {} for one in numbers]
        if [factor for factor, _ in margin.terms] == [1, -1] and len({g for g, _ in places}) == 1:
            first, second = records
            for sign, row, other in ((1, first, second), (-1, second, first)):
                ends = [row.get("difference_low"), row.get("difference_high")]
                known = [sign * float(end) for end in ends if end is not None and pd.notna(end)]
                if other.get("is_reference") is True and len(known) == 2:
                    low, high = (end - margin.constant for end in sorted(known))
                    return low, high, None, f"paired bootstrap of the table; {texts}"
        return None

    def _number(self, cell: Cell) -> Number | Missing:
        line = cell.line
        if line.source == SPEED:
            return _measured(cell)
        if line.source == PAPER:
            return Missing("not run: nothing here measures it")
        if line.row is None or line.model is None:
            return Missing(f"not declared yet: {line.source}", undeclared=True)
        if cell.column in counts.COLUMNS:
            value = counts.counted(line.model, line.row, cell.column)
            if value is None:
                return Missing(f"not run: {line.name} is not implemented here")
            return Number(value, "exact", value, value, "counted from the paper's model")
        table = self._table(line.source)
        if table is None:
            return Missing(f"not run: no {line.source}.csv")
        record = table.record(cell)
        if record is None:
            return Missing(f"not run: the table has no {cell.column}")
        if pd.isna(record["reproduced"]):
            status = str(record["status"])
            return Missing(status if status.startswith("not run") else f"not run: {status}")
        return _estimated(record)

    def _table(self, name: str) -> Table | None:
        if name not in self._tables:
            path = self.folder / f"{name}.csv"
            self._tables[name] = (
                Table(self.folder, name, self._resamples) if path.is_file() else None
            )
            if path.is_file():
                self._used(path)
        return self._tables[name]

    def _used(self, path: Path) -> None:
        if path not in self.files:
            self.files.append(path)


def _estimated(record: dict[str, Any]) -> Number:
    """A line of a table: with its interval over examples, or over seeds, or as a point alone."""
    value, seeds = float(record["reproduced"]), int(record["seeds"])
    stand_ins = "" if pd.isna(record["stand_ins"]) else str(record["stand_ins"])
    text = "one seed" if seeds == 1 else f"{seeds} seeds"
    if record["protocol"] != "paper":
        text += f", protocol {record['protocol']}"
    if "low" in record:
        evidence = f"over {int(record['n'])} test examples, {text}"
        return Number(value, "sample", record["low"], record["high"], evidence, stand_ins, record)
    if seeds == 1:
        return Number(value, "point", None, None, "one seed: no interval", stand_ins)
    half = float(student.ppf(1 - ALPHA / 2, seeds - 1)) * record["seed_sd"] / seeds**0.5
    evidence = f"t interval over {text}"
    return Number(value, "sample", value - half, value + half, evidence, stand_ins)


def _measured(cell: Cell) -> Number | Missing:
    """A recorded benchmark: milliseconds from the fastest to the slowest step, or peak memory."""
    measured = cell.line.measured
    device = measured["device"]
    if cell.column == "gib":
        if "peak_gib" not in measured:
            return Missing(f"not run: no peak memory on {device}")
        peak = measured["peak_gib"]
        return Number(peak, "exact", peak, peak, f"peak of the allocator on {device}")
    value = measured["median_ms"]
    if "min_ms" not in measured:
        return Number(value, "point", None, None, f"one median on {device}")
    evidence = f"median and whole range of {measured['n']} steps on {device}"
    return Number(value, "range", measured["min_ms"], measured["max_ms"], evidence)
