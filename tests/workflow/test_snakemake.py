"""The real Snakemake: plans, refusals, a whole chain on a tiny model, and kill -9 in its midst."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from workspace import REPOSITORY, Workspace

from diablo.config import Config
from diablo.planning import resolve

SMALL = (
    "limits={train: 24, test_per_task: 2, steps: 6}",
    "filters={only: [zero-shot, diablo-n64], skip: []}",
)


#: Jobs of Tables 1, 3 and 6 to 10 together. Runs of Table 9 are not scored, nor are those of Table 7, which
#: would need a judge.
JOBS = {
    "demo": {"finetune_run": 67, "generate_suite": 59, "score_suite": 59, "measure_loss": 65},
    "mini": {"finetune_run": 67, "generate_suite": 59, "score_suite": 59, "measure_loss": 65},
    "paper": {"finetune_run": 105, "generate_suite": 99, "score_suite": 99, "measure_loss": 105},
}


@pytest.mark.slow
@pytest.mark.parametrize("scale", JOBS)
def test_plans_offline_at_every_scale(workspace: Workspace, scale: str) -> None:
    tables = ("table1", "table3", "table6", "table7", "table8", "table9", "table10")
    done = workspace.run("-n", *tables, "--cores", "1", "--config", f"scale={scale}", "device=cpu")
    jobs = dict(line.split()[:2] for line in done.stdout.splitlines() if line.count(" ") > 1)
    assert {rule: int(jobs[rule]) for rule in JOBS[scale]} == JOBS[scale]
    assert not list((workspace.folder / "results").glob("**/*")) or not done.stderr


@pytest.mark.slow
def test_speed_is_planned_alone(workspace: Workspace) -> None:
    done = workspace.run("-n", "speed", "--cores", "1")
    assert "measure_speed" in done.stdout
    assert "render_speed" in done.stdout
    assert "finetune_run" not in done.stdout


@pytest.mark.slow
def test_theorems_are_planned_alone_and_without_torch(workspace: Workspace) -> None:
    (workspace.folder / "torch.py").write_text("raise ImportError('planning imported torch')")
    done = workspace.run(
        "-n", "theorems", "--cores", "1", PYTHONPATH=f"{workspace.folder}{os.pathsep}{REPOSITORY}"
    )
    words = [line.split() for line in done.stdout.splitlines()]
    jobs = {line[0] for line in words if line[1:] == ["1"] and line[0] != "jobid:"}
    assert jobs == {"test_theorems", "theorems"}


@pytest.mark.slow
def test_all_has_what_no_experiment_declares(workspace: Workspace) -> None:
    planned = workspace.run("-n", "all", "--cores", "1").stdout
    for rule in ("test_theorems", "draw_schematic", "aggregate_figure2", "audit_paper"):
        assert f"rule {rule}:" in planned


@pytest.mark.slow
def test_the_audit_runs_alone(workspace: Workspace) -> None:
    done = workspace.run("audit", "--cores", "1")
    assert re.search(r"averages: \d+ agrees, 1 disagrees", done.stdout + done.stderr)
    tables = workspace.folder / "results" / "demo" / "tables"
    assert {path.name for path in tables.iterdir()} == {
        f"audit.{form}" for form in ("csv", "md", "html", "tex", "provenance.json")
    }
    serving = workspace.run("-n", "serving", "--cores", "1").stdout
    assert "rule check_serving" in serving
    assert "rule audit_paper" not in serving


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (["scael=demo"], "did you mean 'scale'"),
        (["scale=dmo"], "did you mean 'demo'"),
        (["limits={trian: 3}"], "did you mean 'train'"),
        (["filters={only: [loar]}"], "did you mean 'lora'"),
        (["epochs=many"], "epochs = 'many'"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_refused_before_the_dag(workspace: Workspace, config, words) -> None:
    done = workspace.run("-n", "table1", "--cores", "1", "--config", *config, check=False)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_whole_chain_and_then_nothing_to_do(tiny_workspace: Workspace) -> None:
    arguments = ("--cores", "2", "table1", "--config", *SMALL)
    tiny_workspace.run(*arguments)
    tables = tiny_workspace.folder / "results" / "demo" / "tables"
    figures = tiny_workspace.folder / "results" / "demo" / "figures"
    for form in ("csv", "md", "html", "tex"):
        assert (tables / f"table1.{form}").stat().st_size > 500
    for form in ("png", "svg", "csv"):
        assert (figures / f"table1.{form}").stat().st_size > 500
    text = (tables / "table1.md").read_text()
    assert "stands in for" in text
    assert "not run: filtered" in text
    again = tiny_workspace.run(*arguments)
    assert "Nothing to be done" in again.stdout + again.stderr
    # Another cap on the test set scores again, but trains nothing.
    other = ("--config", SMALL[0].replace("test_per_task: 2", "test_per_task: 3"), SMALL[1])
    plan = tiny_workspace.run("-n", "--cores", "2", "table1", *other).stdout
    assert "generate_suite" in plan
    assert "finetune_run" not in plan
    # The report is one file without an external request in its own data.
    report = tiny_workspace.folder / "report.html"
    tiny_workspace.run("--cores", "1", "--report", str(report), "table1", "--config", *SMALL)
    assert report.stat().st_size > 10_000


def _diablo_run() -> str:
    config = Config(
        limits={"train": 160, "test_per_task": 1, "steps": 40}, filters={"only": ["diablo-n64"]}
    )
    (run,) = resolve(config).runs_of("table1")
    return run


def _processes(word: str, folder: Path) -> list[int]:
    """Processes at work in `folder` (not in another test's) whose command line has `word`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if word in command and (entry.parent / "cwd").resolve() == folder.resolve():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["job", "snakemake"])
def test_kill_dash_9_goes_on_to_the_same_result(tiny_workspace: Workspace, victim: str) -> None:
    run = _diablo_run()
    base = tiny_workspace.folder / "results" / "demo" / "runs" / run
    work = tiny_workspace.folder / "results" / "demo" / ".work" / run / "finetune"
    target = f"results/demo/runs/{run}/adapter/provenance.json"
    arguments = (
        "--cores", "1", target, "--config",
        "limits={train: 160, test_per_task: 1, steps: 40}", "filters={only: [diablo-n64], skip: []}",
    )  # fmt: skip

    started = subprocess.Popen(
        tiny_workspace.command(*arguments),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DIABLO_CHECKPOINT_SECONDS": "0"},
    )
    while not list(work.glob("checkpoint-*")):
        assert started.poll() is None, "the run ended before it wrote a checkpoint"
        time.sleep(0.005)
    if victim == "snakemake":
        os.killpg(started.pid, signal.SIGKILL)
    else:
        for process in _processes(f"finetune results/demo/runs/{run}", tiny_workspace.folder):
            os.kill(process, signal.SIGKILL)
    assert started.wait() != 0
    assert not (base / "adapter" / "provenance.json").exists()
    if victim == "snakemake":
        tiny_workspace.run("--unlock", *arguments)

    tiny_workspace.run(*arguments)
    resumed = (base / "adapter" / "adapter_model.safetensors").read_bytes()
    log = [json.loads(line)["step"] for line in (base / "log.jsonl").read_text().splitlines()]
    assert json.loads((base / "adapter" / "provenance.json").read_text())["resumed_from_step"] > 0
    assert log == list(range(1, 41))
    assert not work.exists()

    shutil.rmtree(base)
    tiny_workspace.run(*arguments)
    assert (base / "adapter" / "adapter_model.safetensors").read_bytes() == resumed
