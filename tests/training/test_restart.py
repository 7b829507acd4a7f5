"""A run that is stopped and started again ends as if it had never been stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import make_records

from diablo.io import read_jsonl, write_jsonl
from diablo.methods import METHODS
from diablo.rows import is_trained
from diablo.training.steplog import resume_log
from diablo.training.trainer import StepTrainer

TRAINED = [name for name in METHODS if is_trained(name)]
#: The others are slow tests.
QUICK = ("diablo", "lora")

#: One run in a process of its own: spec file, work folder, steps between checkpoints.
SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from diablo.data.protocol import load_protocol
from diablo.io import read_json
from diablo.training import finetune
spec, work, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings = SimpleNamespace(**read_json(spec))
finetune(settings, spec.parent, work, load_protocol("commonsense", "paper"), 1, steps)
"""


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


class Stop(Exception):
    """Stands for a kill, at a known step."""


@pytest.fixture
def stop_at(monkeypatch):
    """Lets training stop in the middle of a step."""

    def arrange(step):
        original = StepTrainer.training_step

        def training_step(self, *args, **kwargs):
            loss = original(self, *args, **kwargs)
            if self.state.global_step + 1 == step:
                raise Stop
            return loss

        monkeypatch.setattr(StepTrainer, "training_step", training_step)

    return arrange


def digests(run):
    """The artifact's files but for the provenance, which has times in it."""
    files = sorted((run.folder / "adapter").iterdir())
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "provenance.json"
    }


def timeless(log):
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in log]


# 12 steps of two epochs with checkpoints at 3, 6 (the end of an epoch) and 9.
@pytest.mark.parametrize(
    ("method", "step", "resumed"),
    [
        *[(method, 5, 3) for method in QUICK],
        *[slow(method, 5, 3) for method in TRAINED if method not in QUICK],
        slow("lora", 8, 6),
        slow("lora", 12, 9),
        slow("lora", 2, 0),
    ],
)
def test_same_result_as_without_a_stop(
    method, step, resumed, make_run, finetune, stop_at, monkeypatch
):
    whole, stopped = make_run("whole", method=method), make_run("stopped", method=method)
    # The run's own name is in no artifact.
    expected = finetune(whole, save_steps=3)
    with monkeypatch.context():
        stop_at(step)
        with pytest.raises(Stop):
            finetune(stopped, save_steps=3)
        monkeypatch.undo()
    assert not (stopped.folder / "adapter").exists()
    log = finetune(stopped, save_steps=3)
    facts = json.loads((stopped.folder / "adapter" / "provenance.json").read_text())
    assert facts["resumed_from_step"] == resumed
    assert timeless(log) == timeless(expected)
    assert digests(stopped) == digests(whole)
    assert not stopped.work.exists()


@pytest.fixture
def stopped(make_run, finetune, stop_at, monkeypatch):
    """A run that was stopped at step 5, after a checkpoint at step 3."""
    run = make_run("stopped")
    stop_at(5)
    with pytest.raises(Stop):
        finetune(run, save_steps=3)
    monkeypatch.undo()
    return run


def resumed_from(run):
    return json.loads((run.folder / "adapter" / "provenance.json").read_text())["resumed_from_step"]


@pytest.mark.slow
def test_half_written_checkpoint_is_ignored(stopped, finetune):
    partial = stopped.work / ".checkpoint-4.abc" / "checkpoint-4"
    partial.mkdir(parents=True)
    (partial / "trainable.safetensors").write_bytes(b"half")
    assert len(finetune(stopped)) == 12
    assert resumed_from(stopped) == 3


def test_only_the_last_checkpoint_is_kept(stopped):
    assert [path.name for path in stopped.work.glob("checkpoint-*")] == ["checkpoint-3"]


@pytest.mark.slow
def test_checkpoint_of_another_job_is_not_used(stopped, finetune, tmp_path, caplog):
    records = make_records(22)
    write_jsonl(tmp_path / "other" / "train.jsonl", records[::-1])
    stopped.spec.data_path = str(tmp_path / "other")
    finetune(stopped)
    assert resumed_from(stopped) == 0
    assert "left by another job" in caplog.text


@pytest.mark.slow
def test_checkpoint_without_its_log_is_not_used(stopped, finetune):
    (stopped.work / "log.jsonl").unlink()
    assert [line["step"] for line in finetune(stopped)] == list(range(1, 13))
    assert resumed_from(stopped) == 0


def test_log_is_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert resume_log(path, 2)
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]
    assert not resume_log(path, 4)
    assert path.read_text() == ""


def start(run, save_steps, **environment):
    command = [sys.executable, "-c", SCRIPT, str(run.folder / "spec.json"), str(run.work)]
    return subprocess.Popen(
        [*command, str(save_steps)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(make_run):
    runs = make_run("one", dropout=0.1), make_run("two", dropout=0.1)
    # Different hash seeds: nothing may depend on the order of a set.
    processes = [start(run, 100, PYTHONHASHSEED=str(seed)) for seed, run in enumerate(runs)]
    for process in processes:
        finish(process)
    assert digests(runs[0]) == digests(runs[1])
    logs = [timeless(read_jsonl(run.folder / "log.jsonl")) for run in runs]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_killed_run_ends_as_an_uninterrupted_one(make_run, finetune):
    # Long enough that the kill comes in the middle; the method with most to restore.
    whole = make_run("whole", method="milora", epochs=60.0)
    killed = make_run("killed", method="milora", epochs=60.0)
    finetune(whole)
    process = start(killed, 20)
    while not list(killed.work.glob("checkpoint-*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)  # polls; nothing depends on how long
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (killed.folder / "adapter").exists()
    finish(start(killed, 20))
    facts = json.loads((killed.folder / "adapter" / "provenance.json").read_text())
    assert facts["resumed_from_step"] >= 20
    log = read_jsonl(killed.folder / "log.jsonl")
    assert [line["step"] for line in log] == list(range(1, 361))
    assert timeless(log) == timeless(read_jsonl(whole.folder / "log.jsonl"))
    assert digests(killed) == digests(whole)
