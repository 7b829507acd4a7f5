"""The verb `aggregate`: a plan in, a table and its figures out."""

from __future__ import annotations

from pathlib import Path

from diablo.io import sha256_file, write_text
from diablo.provenance import Provenance
from diablo.tables import words
from diablo.tables.collect import load_table
from diablo.tables.figure import draw
from diablo.tables.render import WRITERS
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Table


def aggregate(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Build the table and the figures of an experiment from the scores that its plan names.

    For a plan `<results>/tables/<name>.plan.json` this writes `<results>/tables/<name>.csv`, `.md`,
    `.html` and `.tex`, `<results>/figures/<name>.png`, `.svg` and `.csv` (the averages), and
    `<results>/figures/<name>-tasks.*` (each task), with a `.provenance.json` in both folders. All
    of them show the same numbers: the bootstrap is drawn once.

    Args:
        plan_path: the resolved experiment; the paths in it are relative to the working directory.
        resamples: bootstrap resamples per estimate.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a score file or its provenance is missing or does not fit the plan; the
            message names the file. Nothing is written then.
    """
    provenance = Provenance("aggregate", [plan_path], seed=seed)
    table = load_table(plan_path, resamples, seed)
    tables = Path(plan_path).parent
    figures = tables.parent / "figures"
    name = table.plan["name"]
    captions = draw(table, figures)
    for suffix, render in WRITERS.items():
        write_text(tables / f"{name}{suffix}", render(table))
    provenance.add(
        inputs={str(path): sha256_file(path) for path in table.inputs},
        resamples=resamples,
        stand_ins=table.plan["stand_ins"],
        rows=[
            {
                "row": words.row_name(table, group, row),
                "status": row.status,
                "runs": [run.name for run in row.runs],
            }
            for group, row in table.rows
        ],
    )
    provenance.write(tables / f"{name}.provenance.json")
    provenance.add(captions=captions)
    provenance.write(figures / f"{name}.provenance.json")
    run = sum(bool(row.runs) for _, row in table.rows)
    print(f"{table.heading}: {run} of {len(table.rows)} rows have numbers; {tables / name}.html")
    return table
