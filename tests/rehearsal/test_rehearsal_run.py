"""The real Snakemake rehearses two experiments: every line of theirs runs, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

from workspace import REPOSITORY, Workspace

from diablo.io import read_json


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    return Workspace(tmp_path)


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose working directory is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder.resolve()):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow
def test_two_experiments_are_rehearsed(workspace: Workspace) -> None:
    asked = ("--cores", "2", "figure7", "table9", "--config", "scale=paper", "rehearse=true")
    workspace.run(*asked, CUDA_VISIBLE_DEVICES="")
    results = workspace.folder / "results" / "paper-rehearsal"
    for name in ("figure7", "table9"):
        for form in ("md", "html", "csv", "tex"):
            text = (results / "tables" / f"{name}.{form}").read_text()
            assert "rehearsal" in text, (name, form)
        assert (results / "figures" / f"{name}.png").is_file()
    table = pd.read_csv(results / "tables" / "figure7.csv")
    assert table["reproduced"].notna().any()
    logs = list(results.glob("runs/*/log.jsonl"))
    assert len(logs) == 6
    assert {len(log.read_text().splitlines()) for log in logs} == {2}
    made = [read_json(path) for path in results.glob("runs/*/generations/*.provenance.json")]
    assert {one["n"] for one in made} == {1}
    assert not processes_in(workspace.folder)
    again = workspace.run("-n", *asked, CUDA_VISIBLE_DEVICES="")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.slow
def test_a_rehearsal_is_planned_without_torch_and_starts_nothing(workspace: Workspace) -> None:
    (workspace.folder / "torch.py").write_text("raise ImportError('planning imported torch')")
    path = f"{workspace.folder}{os.pathsep}{REPOSITORY}"
    done = workspace.run(
        *("-n", "all", "--cores", "1", "--config", "scale=paper", "rehearse=true"), PYTHONPATH=path
    )
    jobs = dict(line.split()[:2] for line in done.stdout.splitlines() if line.count(" ") > 1)
    assert (jobs["rehearse_sources"], jobs["finetune_run"]) == ("1", "205")
    assert jobs["generate_suite"] == jobs["score_suite"]
    assert not (workspace.folder / "results").exists()
    assert not processes_in(workspace.folder)
