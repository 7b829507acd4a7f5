"""The sweep's bounds, the statements, and the files that the verb writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diablo.analysis.theorems import run
from diablo.analysis.theorems.summary import (
    merge_seeds,
    statements,
    summarise_least_squares,
    summarise_stationary,
)
from diablo.analysis.theorems.sweep import (
    Grid,
    LeastSquares,
    Map,
    sweep_least_squares,
    sweep_network,
    sweep_stationary,
)
from diablo.cli import main
from diablo.io import read_json

SMALL = Grid(
    least_squares=(
        LeastSquares(12, 12, 2),
        LeastSquares(12, 24, 3),
        LeastSquares(14, 14, 3),
        LeastSquares(12, 12, 3, target_rank=1),
    ),
    rows=16,
    maps=tuple(Map(8, 8, blocks) for blocks in (2, 4, 8)),
    width=6,
    network_rows=12,
    network_ranks=(3, 3),
    seeds=2,
    map_seeds=2,
    network_seeds=1,
)
#: What the paper's claim about parameters does not cover.
EXCEPTIONS = ("otherwise, with generic targets", "a rank below r")


@pytest.fixture(scope="module")
def gaps() -> pd.DataFrame:
    return sweep_least_squares(Grid())


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    return merge_seeds(sweep_stationary(SMALL))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theorems")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Grid", lambda: SMALL)
        assert main(["theorems", "--out", str(folder)]) == 0
    return folder


def test_bounds_of_theorem_1_over_the_whole_sweep(gaps: pd.DataFrame) -> None:
    reaches = gaps["reaches"]
    diablo = gaps["method"] == "diablo"
    assert (reaches[diablo] == (gaps["size"] * gaps["rank"] <= gaps["inputs"])[diablo]).all()
    assert set(zip(gaps["method"], reaches, strict=True)) == {
        (method, side) for method in ("diablo", "lora") for side in (True, False)
    }
    assert gaps.loc[reaches, "gap"].abs().max() <= 1e-10
    assert gaps.loc[~reaches, "gap"].min() >= 1e-3


def test_summary_of_least_squares_is_that_of_its_lines(gaps: pd.DataFrame) -> None:
    summary = summarise_least_squares(gaps)
    assert len(summary) == len(Grid().least_squares)
    assert (summary["blocks"] * summary["rank"] <= summary["inputs"]).all()
    generic = summary["target_rank"].isna()
    # The paper's counts: r m2 for DiaBlo where N = m1 / r, r (m1 + m2) for LoRA.
    exact = summary["blocks"] * summary["rank"] == summary["inputs"]
    assert (summary["params"] == summary["rank"] * summary["outputs"])[exact].all()
    total = summary["inputs"] + summary["outputs"]
    assert (summary["lora_params"] == summary["rank"] * total)[generic].all()
    assert summary["fewer"][exact & generic].all()
    # With as many parameters LoRA falls short just where it would need more of them.
    assert (summary["affordable_rank"] * total <= summary["params"]).all()
    assert ((summary["affordable_gap"] >= 1e-3) == summary["fewer"]).all()


def test_network_of_the_whole_sweep() -> None:
    network = sweep_network(Grid())
    inside = network["inside"]
    assert inside.any()
    assert not inside.all()
    assert network.loc[inside, "full_end"].max() <= 1e-7
    assert network.loc[~inside, "full_end"].min() >= 1e-3
    assert network["blocks_end"].max() <= 1e-7
    assert (network["ratio"] <= network["bound"]).all()


def test_summary_of_the_maps_counts_every_pair(cells: pd.DataFrame) -> None:
    summary = summarise_stationary(cells)
    assert (summary["pairs"] == 64).all()
    assert (summary["contradictions"] == 0).all()
    outside = summary["zero_outside"] + summary["counter_examples"]
    assert (summary["inside"] + outside == summary["pairs"]).all()
    assert (summary["certain"] == summary["pairs"]).all()
    assert summary["blocks_norm"].max() <= 1e-12
    assert summary["full_norm"].min() >= 1e-3


def test_statements_say_when_they_do_not_hold(gaps: pd.DataFrame, cells: pd.DataFrame) -> None:
    network = sweep_network(SMALL)
    sound = statements(gaps, cells, network)
    assert sound["holds"].sum() == len(sound) - len(EXCEPTIONS)
    for name, change in {
        "Theorem 1": {"gaps": gaps.assign(gap=gaps["gap"] + 1e-9)},
        "Theorem 2": {"cells": cells.assign(outcome="contradiction")},
        "Outside, wherever": {"cells": cells.assign(blocks_norm=1e-9)},
        "without rounding": {"cells": cells.assign(certain=False)},
        "Network, inside": {"network": network.assign(bound=network["ratio"] / 2)},
        "Network, stacked": {"network": network.assign(full_end=1e-9)},
    }.items():
        changed = statements(**{"gaps": gaps, "cells": cells, "network": network, **change})
        line = changed[changed["statement"].str.contains(name)]
        assert not line["holds"].any(), name


def test_merging_seeds_notices_that_they_differ() -> None:
    frame = sweep_stationary(SMALL)
    assert merge_seeds(frame)["certain"].all()
    frame.loc[0, "rank"] += 1
    assert list(np.flatnonzero(~merge_seeds(frame)["certain"])) == [0]


def test_tables_have_every_part(written: Path) -> None:
    tables = written / "tables"
    frame = pd.read_csv(tables / "theorems.csv")
    parts = ["statements", "least squares", "stationary points", "network"]
    assert list(frame["part"].unique()) == parts
    assert frame["part"].value_counts()["least squares"] == len(SMALL.least_squares)
    texts = {form: (tables / f"theorems.{form}").read_text() for form in ("md", "html", "tex")}
    for form, text in texts.items():
        assert "does not hold" in text, form
        assert "Theorem 2" in text, form
        assert "nan" not in text.lower(), form
    assert texts["tex"].count(r"\begin{table}") == len(parts)
    assert not {one for one in texts["tex"] if ord(one) > 255}
    assert "<script" not in texts["html"]
    assert "http" not in texts["html"]


def test_figure_has_its_numbers_beside_it(written: Path) -> None:
    stem = written / "figures" / "theorems"
    assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    svg = stem.with_suffix(".svg").read_text()
    for text in ("DiaBlo, m1 = 12, m2 = 12", "LoRA, m1 = 12", "N = 4, m1 = 8, m2 = 8", "r = 3"):
        assert text in svg
    frame = pd.read_csv(stem.with_suffix(".csv"), low_memory=False)
    maps = frame[frame["part"] == "stationary points"]
    assert len(maps) == 3 * 64
    assert set(maps["outcome"]) <= {"zero", "zero outside the condition", "counter-example"}
    assert (frame.loc[frame["part"] == "least squares", "seeds"] == 2).all()


def test_provenance_says_what_was_swept(written: Path) -> None:
    for folder in ("tables", "figures"):
        facts = read_json(written / folder / "theorems.provenance.json")
        assert facts["verb"] == "theorems"
        assert facts["grid"]["seeds"] == SMALL.seeds
        assert {"numpy", "scipy"} <= facts["packages"].keys()


@pytest.mark.slow
def test_the_verb_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    code = (
        "import sys; from diablo.cli import main; from diablo.analysis.theorems import run;"
        "import diablo.analysis.theorems.sweep as sweep;"
        "small = sweep.Grid((sweep.LeastSquares(8, 8, 2), sweep.LeastSquares(8, 8, 2, 1)), 12,"
        " (sweep.Map(4, 4, 2),), 4, 12, (3, 3), 1, 1, 1); run.Grid = lambda: small;"
        f"sys.exit(main(['theorems', '--out', {str(tmp_path / 'out')!r}]))"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
    assert (tmp_path / "out" / "tables" / "theorems.csv").is_file()


@pytest.mark.slow
def test_every_statement_holds_over_the_whole_sweep(tmp_path: Path) -> None:
    verdicts = run.theorems(tmp_path)
    broken = verdicts.loc[~verdicts["holds"], "statement"]
    assert len(broken) == len(EXCEPTIONS)
    for statement, words in zip(broken, EXCEPTIONS, strict=True):
        assert words in statement
    frame = pd.read_csv(tmp_path / "tables" / "theorems.csv")
    assert (frame["contradictions"].dropna() == 0).all()
