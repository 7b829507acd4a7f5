"""The claims' rule reads whatever tables there are, and trains nothing for it."""

from __future__ import annotations

import os
import shutil

import pytest
from workspace import REPOSITORY, Workspace

RECORDED = REPOSITORY / "results" / "reference" / "demo-gpu" / "tables"


def planned(workspace: Workspace, *targets: str, **env: str) -> set[str]:
    """Rules that Snakemake would run."""
    done = workspace.run("-n", *targets, "--cores", "1", **env)
    words = [line.split() for line in done.stdout.splitlines()]
    counted = {line[0] for line in words if len(line) == 2 and line[1].isdigit()}
    return counted - {"total", "jobid:"}


@pytest.mark.slow
def test_claims_run_alone_and_again_when_a_table_changes(workspace: Workspace) -> None:
    (workspace.folder / "torch.py").write_text("raise ImportError('claims imported torch')")
    path = {"PYTHONPATH": f"{workspace.folder}{os.pathsep}{REPOSITORY}"}
    tables = workspace.folder / "results" / "demo" / "tables"
    tables.mkdir(parents=True)
    shutil.copy(RECORDED / "table10.csv", tables)
    alone = {"judge_claims", "claims"}
    assert planned(workspace, "claims", **path) == alone
    workspace.run("claims", "--cores", "1", **path)
    text = (tables / "claims.csv").read_text(encoding="utf-8")
    assert "on stand-ins: SmolLM2-135M-Instruct" in text
    assert "not run,no table1.csv" in text
    assert planned(workspace, "claims", **path) == set()
    shutil.copy(RECORDED / "table1.csv", tables)
    assert planned(workspace, "claims", **path) == alone, "a new table; nothing is trained for it"


@pytest.mark.slow
def test_tables_that_the_same_call_builds_come_first(workspace: Workspace) -> None:
    done = workspace.run("-n", "table9", "claims", "--cores", "1")
    (block,) = [part for part in done.stdout.split("\n[") if "rule judge_claims" in part]
    inputs = next(line for line in block.splitlines() if line.strip().startswith("input:"))
    assert "tables/table9.csv" in inputs
    assert "tables/table1.csv" not in inputs
