"""Recorded plans of before there were parts: read, and rendered with the numbers that were recorded.

Scores of single examples are not kept, but the recorded shares say how many of them were right, which is
all that accuracies and their intervals depend on.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from table_builder import Builder

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.render import tidy, to_markdown
from diablo.tables.table import Table

DEMO_GPU = Path(__file__).resolve().parents[2] / "results" / "reference" / "demo-gpu"
RECORDED = DEMO_GPU / "tables" / "table6"
#: What depends on which examples were right, or on the losses of each.
BY_EXAMPLE = (
    "difference_to_reference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "significant",
)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The table made again."""
    build = Builder(tmp_path_factory.mktemp("recorded"))
    plan = read_json(f"{RECORDED}.plan.json")
    assert "parts" not in plan
    lines = pd.read_csv(f"{RECORDED}.csv")
    for row in (row for group in plan["groups"] for row in group["rows"]):
        row["runs"] = [_run(build, plan, run, lines) for run in row["runs"]]
    path = build.folder / "table6.plan.json"
    write_json(path, plan)
    return load_table(path)


def _run(build, plan: dict, run: dict, lines: pd.DataFrame) -> dict:
    shown = lines[lines["runs"] == run["run"]].set_index("column")
    outcomes = {}
    for task in plan["columns"]:
        line = shown.loc[[task]].iloc[0]
        right = round(line["reproduced"] * line["n"] / 100)
        outcomes[task] = [1] * right + [0] * int(line["n"] - right)
    available = int(line["available"])
    made = build.run(run["run"], outcomes=outcomes, columns=plan["columns"], available=available)
    trained = read_json(DEMO_GPU / "runs" / run["run"] / "provenance.json")
    write_json(Path(made["adapter"]) / "provenance.json", trained)
    for kind in ("scores", "losses"):
        about = {"suite": plan["suite"], "variant": plan["variant"]}
        write_json(made[kind], read_json(made[kind]) | about)
    return made


@pytest.mark.slow
def test_every_recorded_number_comes_again(rebuilt: Table, tmp_path: Path) -> None:
    before = pd.read_csv(f"{RECORDED}.csv")
    tidy(rebuilt).to_csv(tmp_path / "table6.csv", index=False)
    after = pd.read_csv(tmp_path / "table6.csv")
    assert set(before.columns) <= set(after.columns)
    scored = before["column"] != "loss"
    assert list(after["column"]) == list(before["column"])
    for column in before.columns.difference(BY_EXAMPLE):
        left, right = before.loc[scored, column], after.loc[scored, column]
        pd.testing.assert_series_equal(left, right, check_dtype=False, obj=column)
    accuracies = after[scored & after["reproduced"].notna()]
    assert set(accuracies["metric"]) == {"acc", "mean"}
    assert set(accuracies["unit"]) == {"%"}


def test_the_page_says_what_it_said(rebuilt: Table) -> None:
    """Everything up to the first table, and every line of reported numbers and differences."""
    before, after = Path(f"{RECORDED}.md").read_text(encoding="utf-8"), to_markdown(rebuilt)
    head, _, _ = before.partition("| Method |")
    # Losses of the made-up runs are all of one size, which the legend remarks on.
    assert [line for line in head.splitlines() if "percentile" not in line] == [
        line for line in after.partition("| Method |")[0].splitlines() if "percentile" not in line
    ]
    for text in ("| paper (", "|  | here minus paper", "## ", "| Method | Numbers"):
        lines = [line for line in before.splitlines() if text in line]
        assert lines
        assert lines == [line for line in after.splitlines() if text in line]
