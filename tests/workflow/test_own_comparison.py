"""The documented comparison of a user's own, from the YAML in docs/ to its table, by real Snakemake."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from own_cases import comparison, edit, sums, tiny_model, write
from workspace import REPOSITORY, Workspace


def jobs(workspace: Workspace, *arguments: str) -> dict[str, int]:
    """How many jobs of each rule a dry run plans."""
    lines = workspace.run("-n", *arguments).stdout.split("Job stats:")[-1].splitlines()[3:]
    table = [line.split() for line in lines[: lines.index("")]] if "" in lines else []
    return {rule: int(count) for rule, count in table if rule != "total"}


@pytest.mark.slow
def test_from_yaml_to_table_and_then_nothing_to_do(tmp_path: Path) -> None:
    path = comparison(tmp_path / "my_comparison")
    tiny_model(path.parent / "model")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(REPOSITORY / "config.yaml", folder)
    workspace = Workspace(folder)
    own = "experiments=../my_comparison/my_table.yaml"
    arguments = ("--cores", "1", "my_table", "--config", own, "limits={steps: 3}")
    planned = jobs(workspace, *arguments)
    assert not (folder / "results").exists()
    # Two methods with two trials each, and nothing of the project's own tables.
    assert planned["finetune_run"] == 6
    assert planned["measure_held_out"] == 4
    assert planned["generate_suite"] == planned["score_suite"] == planned["measure_loss"] == 2

    workspace.run(*arguments)
    results = folder / "results" / "demo"
    with (results / "tables" / "my_table.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["column"] == "sums"]
    assert [(row["method"], row["protocol"], row["n"]) for row in rows] == [
        ("lora", "own", "12"),
        ("diablo", "own", "12"),
    ]
    for row, given in zip(rows, (1e-3, 2e-3), strict=True):
        # The rate that was used is the one of the trial with the least held-out loss.
        run = results / "runs" / row["runs"]
        made = json.loads((run / "adapter" / "provenance.json").read_text())
        tried = {trial["lr"]: trial["loss"] for trial in made["tuning"]["trials"]}
        assert sorted(tried) == pytest.approx([given / 2, given])
        assert (
            made["learning_rate"] == made["tuning"]["chosen"] == min(tried, key=tried.__getitem__)
        )
        assert made["tuning"]["held_out"] == 8
        scores = json.loads((run / "scores" / "my_table.json").read_text())["tasks"]["sums"]
        gold = [outcome["answer"] for outcome in scores["outcomes"]]
        assert gold == [str(record["answer"]) for record in sums(range(4, 6))]
        assert float(row["reproduced"]) == pytest.approx(100 * scores["value"])
    for form in ("md", "html", "tex"):
        text = (results / "tables" / f"my_table.{form}").read_text()
        assert "LoRA and DiaBlo on sums" in text
        assert "None of the paper" not in text

    again = workspace.run(*arguments)
    assert "Nothing to be done" in again.stdout + again.stderr
    # Another pattern trains nothing; other training data train everything.
    edit(path, lambda v: v["protocol"].update(pattern=r"(\d+)"))
    planned = jobs(workspace, *arguments)
    assert planned["score_suite"] == 2
    assert "finetune_run" not in planned
    write(path.parent / "train.jsonl", sums(range(3)))
    assert jobs(workspace, *arguments)["finetune_run"] == 6


@pytest.mark.slow
def test_a_mistake_and_leaked_questions_stop_it_before_any_training(tmp_path: Path) -> None:
    path = comparison(tmp_path / "mine")
    (tmp_path / "config.yaml").write_text("experiments: mine\n")
    workspace = Workspace(tmp_path)
    write(path.parent / "test.jsonl", sums(range(3, 5)))
    done = workspace.run("--cores", "1", "results/demo/data/sums/provenance.json", check=False)
    assert done.returncode != 0
    assert "6 of 12 test questions occur in the training file too" in done.stdout + done.stderr
    edit(path, lambda v: v["protocol"].update(promt="x"))
    done = workspace.run("-n", "my_table", "--cores", "1", check=False)
    assert done.returncode != 0
    assert "did you mean 'prompt'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
