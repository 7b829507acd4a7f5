"""The verb `aggregate`: a plan in, a table and its figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diablo.figures import chart_name, figure_names
from diablo.io import read_json, sha256_file, write_text
from diablo.provenance import Provenance
from diablo.tables import gradient_formats, gradient_norms, ranks, render
from diablo.tables.across_figure import draw_across
from diablo.tables.averages import load_averages
from diablo.tables.chart import draw_chart
from diablo.tables.collect import load_table
from diablo.tables.figure import draw
from diablo.tables.gradient_figure import draw_gradients
from diablo.tables.gradient_norm_figure import draw_gradient_norms
from diablo.tables.gradients import load_gradients
from diablo.tables.rank_figure import draw_ranks
from diablo.tables.statistics import RESAMPLES
from diablo.tables.table import Table

#: By kind of experiment: reader, figure, formats.
LOOKS_INTO_MODELS: dict[str, tuple[Callable, Callable, Mapping[str, Callable]]] = {
    "effective-rank": (ranks.load_ranks, draw_ranks, ranks.WRITERS),
    "gradient-norms": (
        gradient_norms.load_gradient_norms,
        draw_gradient_norms,
        gradient_norms.WRITERS,
    ),
}


def aggregate(plan_path: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> Table:
    """Build the table and the figures of an experiment from the results that its plan names.

    For a plan `<results>/tables/<name>.plan.json` this writes `<results>/tables/<name>.csv`, `.md`,
    `.html` and `.tex`, and in `<results>/figures/`, each as `.png`, `.svg` and `.csv` with its data:

    - kind `accuracy`: `<name>` (the averages, if the experiment has them), `<name>-tasks` (each task)
      and, if the plan has a `chart`, `<name>-curve` (the average over one setting); without averages the
      chart is `<name>`, alone; `<name>-across` if it has `across` (rows of one label over N);
    - kind `averages`: `<name>`;
    - kind `gradient-variance`: `<name>` (norms over the steps) and `<name>-variance`;
    - kinds `effective-rank` and `gradient-norms`: `<name>`;

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
    kind = read_json(plan_path)["kind"]
    if kind in LOOKS_INTO_MODELS:
        load, draw_kind, writers = LOOKS_INTO_MODELS[kind]
        table = load(plan_path)
        captions = draw_kind(table, figures)
    elif kind == "gradient-variance":
        table = load_gradients(plan_path)
        provenance.add(every=table.plan["every"])
        captions, writers = draw_gradients(table, figures), gradient_formats.WRITERS
    else:
        load = load_averages if kind == "averages" else load_table
        table = load(plan_path, resamples, seed)
        provenance.add(resamples=resamples)
        captions, writers = {}, render.WRITERS
        names = figure_names(table.plan)
        if table.plan["chart"]:
            captions |= draw_chart(table, figures / chart_name(table.plan))
        if table.plan["across"]:
            captions |= draw_across(table, figures)
        if not captions.keys() >= names.keys():
            captions = draw(table, figures) | captions
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
