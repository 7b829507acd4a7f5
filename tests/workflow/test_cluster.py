"""The profiles of clusters: what a dry run of the paper scale asks for, and Table 1 through a real SLURM."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from loopback_slurm import loopback_slurm, missing
from workspace import REPOSITORY, Workspace

from diablo.config import Config, Filters, Limits
from diablo.estimate import estimate
from diablo.planning import resolve

PROFILES = REPOSITORY / "profiles"
RESOURCE = re.compile(r"(\w+)=(\d+)")


def requests(plan: str) -> dict[str, list[tuple[str, dict[str, int]]]]:
    """Of each rule in a dry run's text: its jobs' wildcards and resources."""
    found: dict[str, list[tuple[str, dict[str, int]]]] = {}
    for job in re.split(r"\n(?:local)?rule ", plan)[1:]:
        lines = dict(line.strip().split(": ", 1) for line in job.splitlines() if ": " in line)
        asked = {key: int(value) for key, value in RESOURCE.findall(lines["resources"])}
        found.setdefault(job.split(":")[0], []).append((lines.get("wildcards", ""), asked))
    return found


@pytest.mark.slow
def test_slurm_is_asked_by_the_size_of_the_model(workspace: Workspace) -> None:
    """At the paper scale, without SLURM, network or torch; against what `diablo estimate` says of each model."""
    (workspace.folder / "torch.py").write_text("raise ImportError('planning imported torch')")
    done = workspace.run(
        "-n", "table1", "table4", "--workflow-profile", str(PROFILES / "slurm"),
        "--config", "scale=paper", "device=gpu",
        PYTHONPATH=os.pathsep.join([str(workspace.folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
    )  # fmt: skip
    found = requests(done.stdout)
    catalog = resolve(Config(scale="paper", device="gpu")).catalog
    for rule in ("finetune_run", "generate_suite", "measure_loss", "quantize_model"):
        # Zero-shot trains nothing, so the job that says so has no GPU.
        untrained = [rule == "finetune_run" and ".zero-shot." in run for run, _ in found[rule]]
        assert [asked["gpu"] for _, asked in found[rule]] == [int(not none) for none in untrained]
        assert all(asked["nodes"] == 1 for _, asked in found[rule])
        assert all(asked["cpus_per_gpu"] == 8 for _, asked in found[rule])
        assert all(30 <= asked["runtime"] <= 14 * 24 * 60 for _, asked in found[rule])
    for rule in ("score_suite", "aggregate_table1", "check_overlap"):
        assert all(asked["runtime"] == 60 and "gpu" not in asked for _, asked in found[rule])
    for wildcards, asked in found["generate_suite"]:
        model = re.search(r"run=([^,]*?)\.(?=[a-z])", wildcards)
        size = catalog.model(model[1]).shapes.base_parameters
        assert 4 * size < asked["mem_mb"] * 1e6 < 4 * size + 4e9
        assert 2 * size < asked["gpu_mem_mb"] * 1e6 < 80e9
    # What does not fit a card is what the estimate refuses.
    refused = estimate(["table1", "table4"], "a100-80", Config(scale="paper", device="gpu"))
    too_large = {one["run"] for one in refused["does_not_fit"]}
    assert too_large == {
        wildcards.removeprefix("run=")
        for wildcards, asked in found["finetune_run"]
        if asked["gpu_mem_mb"] > 80_000 * 0.95
    }
    # Hours of all jobs cover the high end of the estimate.
    minutes = sum(asked["runtime"] for _, asked in found["finetune_run"])
    assert minutes / 60 >= refused["total"]["rules"]["finetune"]["gpu_hours_high"]


def test_jobs_have_the_threads_that_they_ask_for_beside_a_gpu() -> None:
    """The processes are told `--threads {threads}`: otherwise seven of eight CPUs lie idle."""
    slurm, kubernetes = (
        yaml.safe_load((PROFILES / name / "config.yaml").read_text())
        for name in ("slurm", "kubernetes")
    )
    assert slurm["set-threads"] == kubernetes["set-threads"]
    (cpus,) = [one for one in slurm["default-resources"] if one.startswith("cpus_per_gpu=")]
    assert {one.split("=")[1] for one in slurm["set-threads"]} == {cpus.split("=")[1]}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_kubernetes") is None,
    reason="needs pip install '.[kubernetes]'",
)
def test_the_kubernetes_profile_plans_the_paper_scale(workspace: Workspace) -> None:
    path = [str(PROFILES / "kubernetes"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = workspace.run(
        "-n", "table1", "--workflow-profile", str(PROFILES / "kubernetes"),
        "--config", "scale=paper", "device=gpu", PYTHONPATH=os.pathsep.join(path),
    )  # fmt: skip
    found = requests(done.stdout)
    assert {asked["gpu"] for _, asked in found["finetune_run"]} == {0, 1}
    assert {asked["scale"] for _, asked in found["score_suite"]} == {0}
    assert max(asked["mem_mb"] for _, asked in found["generate_suite"]) > 50_000


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    if lacking := missing():
        pytest.skip(f"needs {', '.join(lacking)} (make test-system)")
    with loopback_slurm(tmp_path / "slurm") as env:
        yield env


def slurm_jobs(env: dict[str, str], comment: str) -> list[dict[str, str]]:
    """SLURM's own record of the jobs with this comment, the first one first."""
    command = ["scontrol", "show", "job", "--oneliner"]
    text = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines()]
    return [job for job in jobs if job.get("Comment") == comment]


def wait_for(condition: Callable[[], object], running: subprocess.Popen) -> None:
    """Wait until a condition holds; fails if the process ends before it, or after ten minutes."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        try:
            running.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail("Snakemake ended before the condition held")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("end", ["cancelled", "pre-empted"])
def test_table1_through_slurm_with_a_job_that_is(
    end: str, tiny_workspace: Workspace, slurm: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """The project's own profile; the fine-tuning goes on from its checkpoint, if it was cancelled with more time.

    The plan is for a GPU and the node has two, which are a count alone: the jobs compute on the CPU.
    """
    folder = tiny_workspace.folder
    limits, only = {"train": 160, "test_per_task": 1, "steps": 40}, ["zero-shot", "diablo-n64"]
    config = Config(device="gpu", epochs=8, limits=Limits(**limits), filters=Filters(only=only))
    run = next(name for name in resolve(config).runs_of("table1") if ".diablo-" in name)
    arguments = [
        "table1", "--workflow-profile", str(PROFILES / "slurm"),
        "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
        "--config", "device=gpu", "epochs=8", f"limits={json.dumps(limits)}", f"filters={json.dumps({'only': only})}",
    ]  # fmt: skip
    env = {**slurm, "HF_HUB_OFFLINE": "1", "DIABLO_CHECKPOINT_SECONDS": "0"}
    log = folder / "snakemake.out"
    with log.open("wb") as out:
        started = subprocess.Popen(
            tiny_workspace.command(*arguments), cwd=folder, stdout=out, stderr=out, env=env
        )
    request.addfinalizer(started.kill)
    work = folder / "results" / "demo" / ".work" / run / "finetune"
    wait_for(lambda: list(work.glob("checkpoint-*")), started)
    comment = f"rule_finetune_run_wildcards_{run}"
    (job,) = slurm_jobs(slurm, comment)
    urgent = ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true"]
    command = ["scancel", job["JobId"]] if end == "cancelled" else urgent
    subprocess.run(command, env=slurm, check=True)
    assert started.wait(timeout=1800) == 0, log.read_text()

    jobs = slurm_jobs(slurm, comment)
    assert jobs[-1]["JobState"] == "COMPLETED"
    kept = list((folder / "results" / "logs" / "slurm").rglob("*.log"))
    if end == "cancelled":
        assert [job["JobState"] for job in jobs] == ["CANCELLED", "COMPLETED"]
        assert [job["TimeLimit"] for job in jobs] == ["00:30:00", "01:00:00"]
        memory = [int(job["MinMemoryNode"].removesuffix("M")) for job in jobs]
        assert memory[1] == pytest.approx(1.5 * memory[0], abs=1)
        assert [path.stem for path in kept] == [jobs[0]["JobId"]]
    else:
        assert [job["Restarts"] for job in jobs] == ["1"]
        assert not kept
    assert {job["TresPerJob"] for job in jobs} == {"gres:gpu:1"}
    assert {job["CpusPerTres"] for job in jobs} == {"gres:gpu:8"}
    made = json.loads(
        (folder / "results" / "demo" / "runs" / run / "adapter" / "provenance.json").read_text()
    )
    assert made["resumed_from_step"] > 0
    tables = folder / "results" / "demo" / "tables"
    for form in ("csv", "md", "html", "tex"):
        assert (tables / f"table1.{form}").stat().st_size > 500

    again = subprocess.run(
        tiny_workspace.command(*arguments), cwd=folder, env=env, capture_output=True, text=True
    )
    assert "Nothing to be done" in again.stdout + again.stderr
