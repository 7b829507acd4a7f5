"""What docs/add-a-method.md and docs/add-a-data-set.md show works as it stands there."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from documented import apply, copy_of_repository
from own_cases import comparison, edit, tiny_model
from workspace import REPOSITORY, Workspace

from diablo.io import read_json


def scored(table: Path, column: str) -> list[tuple[str, str]]:
    """(method, number of examples) of each row of a table that was run."""
    with table.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["column"] == column and row["n"]]
    return [(row["method"], row["n"]) for row in rows]


@pytest.mark.slow
def test_the_documented_method_passes_all_methods_tests_and_trains(
    workspace: Workspace, tmp_path: Path
) -> None:
    copy = copy_of_repository(tmp_path / "copy")
    (row,) = apply("add-a-method.md", copy)
    (command,) = re.findall(
        r"^python -m (pytest .*)$", (REPOSITORY / "docs/add-a-method.md").read_text(), re.M
    )
    tests = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    assert int(re.search(r"(\d+) passed", tests.stdout)[1]) >= 9

    own = comparison(tmp_path / "mine")
    tiny_model(own.parent / "model")
    edit(own, lambda value: value["groups"][0].update(rows=yaml.safe_load(row)))
    edit(own, lambda value: value.pop("tune"))
    workspace = replace(workspace, repository=copy)
    workspace.run("--cores", "1", "my_table", "--config", f"experiments={own}", "limits={steps: 2}")
    results = tmp_path / "results" / "demo"
    assert scored(results / "tables" / "my_table.csv", "sums") == [("rslora", "12")]
    (adapter,) = results.glob("runs/*/adapter/adapter_config.json")
    assert read_json(adapter)["use_rslora"]


@pytest.mark.slow
def test_the_documented_data_set_is_built_trained_on_and_scored(tiny_workspace: Workspace) -> None:
    copy = copy_of_repository(tiny_workspace.folder / "copy")
    assert apply("add-a-data-set.md", copy) == []
    workspace = replace(tiny_workspace, repository=copy)
    limits = "limits={train: 4, test_per_task: 3, steps: 2}"
    workspace.run("--cores", "1", "letters", "--config", limits)
    results = workspace.folder / "results" / "demo"
    assert scored(results / "tables" / "letters.csv", "letters") == [("lora", "3"), ("diablo", "3")]
    made = read_json(results / "data" / "letters" / "provenance.json")
    assert made["counts"]["test"]["letters"]["n"] == 50
