"""The verb `aggregate`: a plan in, a table and its figures out."""

from __future__ import annotations

from pathlib import Path

from diablo.io import read_json, sha256_file, write_text
from diablo.provenance import Provenance
from diablo.tables import gradient_formats, render
from diablo.tables.across_figure import draw_across
from diablo.tables.collect import load_table
from diablo.tables.curve import draw_curve
from diablo.tables.figure import draw
from diablo.tables.gradient_figure import draw_gradients
from diablo.tables.gradients import load_gradients
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Table


def aggregate(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Build the table and the figures of an experiment from the results that its plan names.

    For a plan `<results>/tables/<name>.plan.json` this writes `<results>/tables/<name>.csv`, `.md`,
    `.html` and `.tex`, and in `<results>/figures/`, each as `.png`, `.svg` and `.csv` with its data:

    - kind `accuracy`: `<name>` (the averages, if the experiment has them), `<name>-tasks` (each task)
      and, if the plan has them, `<name>-curve` (the average over one setting) and `<name>-across` (rows
      of one label over N);
    - kind `gradient-variance`: `<name>` (norms over the steps) and `<name>-variance`;

    with a `<name>.provenance.json` in both folders. All of them show the same numbers: the bootstrap
    is drawn once.

    Args:
        plan_path: the resolved experiment; the paths in it are relative to the working directory.
        resamples: bootstrap resamples per estimate.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if a result or its provenance is missing or does not fit the plan; the
            message names the file. Nothing is written then.
    """
    provenance = Provenance("aggregate", [plan_path], seed=seed)
    tables = Path(plan_path).parent
    figures = tables.parent / "figures"
    if read_json(plan_path)["kind"] == "gradient-variance":
        table = load_gradients(plan_path)
        provenance.add(every=table.plan["every"])
        captions, writers = draw_gradients(table, figures), gradient_formats.WRITERS
    else:
        table = load_table(plan_path, resamples, seed)
        provenance.add(resamples=resamples)
        captions, writers = draw(table, figures), render.WRITERS
        if table.plan["curve"]:
            captions |= draw_curve(table, figures)
        if table.plan["across"]:
            captions |= draw_across(table, figures)
    name = table.plan["name"]
    for suffix, write in writers.items():
        write_text(tables / f"{name}{suffix}", write(table))
    provenance.add(
        inputs={str(path): sha256_file(path) for path in table.inputs},
        stand_ins=table.plan["stand_ins"],
        rows=[
            {
                "row": table.row_name(group, row),
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
