"""Run the sweep, and write the theorems' table and figure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from diablo.analysis.theorems.summary import (
    merge_seeds,
    statements,
    summarise_least_squares,
    summarise_network,
    summarise_stationary,
)
from diablo.analysis.theorems.sweep import (
    Grid,
    sweep_least_squares,
    sweep_network,
    sweep_stationary,
)
from diablo.io import write_text
from diablo.provenance import Provenance
from diablo.tables.sections import WRITERS
from diablo.tables.theorem_figure import draw_theorems
from diablo.tables.theorems import theorems_page


def theorems(out: str | Path, grid: Grid | None = None) -> pd.DataFrame:
    """Test both theorems and write what was found; return the statements with their verdicts.

    Args:
        out: folder that gets `tables/theorems.csv`, `.md`, `.html` and `.tex`, `figures/theorems.png`, `.svg`
            and `.csv`, and a `theorems.provenance.json` in both.
        grid: what is swept; by default everything, in well under a minute on one core.

    Raises:
        FloatingPointError: if rounding could decide a rank; names the singular values.
    """
    grid = grid or Grid()
    provenance = Provenance("theorems")
    gaps, cells = sweep_least_squares(grid), merge_seeds(sweep_stationary(grid))
    network = sweep_network(grid)
    verdicts = statements(gaps, cells, network)
    page = theorems_page(
        verdicts,
        summarise_least_squares(gaps),
        summarise_stationary(cells),
        summarise_network(network),
    )
    tables, figures = Path(out) / "tables", Path(out) / "figures"
    for suffix, write in WRITERS.items():
        write_text(tables / f"theorems{suffix}", write(page))
    draw_theorems(gaps, cells, network, figures / "theorems")
    provenance.add(grid=asdict(grid), dtype="float64")
    for folder in (tables, figures):
        provenance.write(folder / "theorems.provenance.json")
    for line in verdicts.itertuples():
        print(f"{'holds' if line.holds else 'does not hold'}: {line.statement} ({line.found})")
    return verdicts
