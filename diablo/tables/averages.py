"""A table of averages that belong to other tables: each group of its plan is read as a table of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diablo.tables.collect import table_of
from diablo.tables.measures import complete_plan, read_plan
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Table


def load_averages(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Read a plan of kind `averages` and the scores of its rows: one table with the column `avg` alone.

    Its parts are the tables that the rows come from, each with its own limits and decoding.

    Args:
        plan_path: the paths in the plan are relative to the working directory.
        resamples: bootstrap resamples per estimate.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a score file or its provenance is missing or does not fit the plan; the
            message names the file.
    """
    plan = read_plan(plan_path)
    tables = [
        table_of(_alone(panel, group, Path(plan_path)), Path(plan_path), resamples, seed)
        for panel, group in zip(plan["panels"], plan["groups"], strict=True)
    ]
    parts: dict[str, dict[str, Any]] = {}
    for table in tables:
        for part in table.plan["parts"]:
            parts.setdefault(part["name"], part)
    whole = {
        **plan,
        "parts": list(parts.values()),
        "columns": {},
        "readings": {},
        "average": "AVG",
        "chart": None,
        "across": None,
    }
    groups = [group for table in tables for group in table.groups]
    for row in (row for group in groups for row in group.rows):
        row.cells = {"avg": row.cells["avg"]}
    inputs = list(dict.fromkeys(path for table in tables for path in table.inputs))
    measures = {"avg": tables[0].measures["avg"]}
    return Table(whole, {"avg": "AVG"}, groups, {}, inputs, measures)


def _alone(panel: dict[str, Any], group: dict[str, Any], path: Path) -> dict[str, Any]:
    """The plan of one panel: its table's with one group, whose runs are of a part named as the table."""
    name = panel["name"]
    rows = [
        {**row, "runs": [{**run, "part": name} for run in row["runs"]]} for row in group["rows"]
    ]
    parts = [{**part, "name": name} for part in panel["parts"]]
    return complete_plan({**panel, "parts": parts, "groups": [{**group, "rows": rows}]}, path)
