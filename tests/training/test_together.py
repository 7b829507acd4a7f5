"""Two processes on the CPU (gloo) train as one does: same examples in the same steps, same update."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from diablo import DiabloConfig
from diablo.io import read_json, read_jsonl
from diablo.launch import launch
from diablo.training import finetune, sharding, together
from diablo.tuner.layer import DiabloLinear

TWO_OR_NONE = pytest.mark.skipif(
    torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none"
)

#: What is trained, beside METHOD_SETTINGS: by a name, the method and its settings.
#: 22 examples in batches of 4: the last step of an epoch has 2.
RUNS = {
    "diablo": {"method": "diablo"},
    "diablo-adapter": {"method": "diablo", "form": "adapter"},
    "diablo-padded": {"method": "diablo", "acceleration": "none", "micro_batch_size": 1},
    "lora": {"method": "lora", "dropout": 0.0},
    "pissa": {"method": "pissa"},
    "smt": {"method": "smt"},
    "full": {"method": "full", "lr": 1e-3},
    # One example in an epoch's last step: the second process has none.
    "odd": {"method": "diablo", "train_limit": 21, "gradient_examples": 8},
}
#: With sharded weights: DiaBlo takes its adapter form by itself.
SHARDED = {
    "diablo": {"method": "diablo"},
    "lora": {"method": "lora", "dropout": 0.0},
    "dora": {"method": "dora", "dropout": 0.0},
    "lori-d": {"method": "lori-d"},
    "random-entries": {"method": "random-entries"},
    "odd": {"method": "diablo", "train_limit": 21},
}


def shard_and_look(shard, model, device):
    """Each process keeps half of every layer's frozen weights, all of what trains, and no layer in place."""
    shard(model, device)
    for name, parameter in model.named_parameters():
        if ".layers." in name and "default" not in name:
            assert 2 * parameter.to_local().numel() == parameter.numel()
        else:
            assert not isinstance(parameter, DTensor)
    forms = [m.implementation["default"] for m in model.modules() if isinstance(m, DiabloLinear)]
    assert set(forms) <= {"adapter"}


def train_all(jobs, protocol):
    """All runs one after the other, in each of the processes that were started once."""
    for run, sharded in jobs:
        spec = SimpleNamespace(**vars(run.spec))
        form, acceleration = vars(spec).pop("form", "auto"), vars(spec).pop("acceleration", "auto")
        config = partial(DiabloConfig, implementation=form)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("diablo.methods.diablo_blocks.DiabloConfig", config)
            patch.setattr("diablo.training.sharding.shard", partial(shard_and_look, sharding.shard))
            finetune(spec, run.folder, run.work, protocol, 1, None, acceleration, sharded)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory, protocol):
    """(name, "one" | "two" | "sharded") -> the run that so many processes trained."""
    from tiny_run import METHOD_SETTINGS, SETTINGS

    root, runs = tmp_path_factory.mktemp("together"), {}

    def add(name, how, changes):
        settings = {**SETTINGS, **METHOD_SETTINGS[changes["method"]], **changes}
        settings |= {"model_path": str(tiny / "model"), "data_path": str(tiny / "data")}
        folder = root / how / name
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps(settings))
        spec = SimpleNamespace(**settings)
        runs[name, how] = SimpleNamespace(spec=spec, folder=folder, work=folder / "work")
        return runs[name, how]

    every = RUNS | {f"sharded-{name}": changes for name, changes in SHARDED.items()}
    train_all([(add(name, "one", changes), False) for name, changes in every.items()], protocol)
    several = [(add(name, "two", changes), False) for name, changes in RUNS.items()]
    several += [(add(f"sharded-{name}", "two", changes), True) for name, changes in SHARDED.items()]
    launch(2, train_all, several, protocol)
    return runs


def weights(run):
    (file,) = (run.folder / "adapter").glob("*model.safetensors")
    return load_file(file)


@pytest.mark.slow
@TWO_OR_NONE
@pytest.mark.parametrize("name", [*RUNS, *(f"sharded-{name}" for name in SHARDED)])
def test_two_processes_train_as_one(name, trained):
    one, two = trained[name, "one"], trained[name, "two"]
    # Learning rate 1e-2 for a dozen steps: weights move by up to 0.1.
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-3, atol=1e-5)
    logs = [read_jsonl(run.folder / "log.jsonl") for run in (one, two)]
    for alone, line in zip(*logs, strict=True):
        for key in ("step", "epoch", "lr", "tokens", "targets", "examples"):
            assert line[key] == alone[key]
        assert line["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert line["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)
    facts = read_json(two.folder / "adapter" / "provenance.json")
    assert facts["parallel"]["processes"] == 2
    assert facts["parallel"]["sharded"] == name.startswith("sharded-")
    assert facts["parallel"]["micro_batch_size"] == min(2, one.spec.micro_batch_size)
    assert not two.work.exists()


@pytest.mark.slow
@TWO_OR_NONE
def test_monitored_gradients_are_those_of_one_process(trained):
    one, two = (
        read_jsonl(trained["odd", how].folder / "gradients.jsonl") for how in ("one", "two")
    )
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for alone, line in zip(one, two, strict=True):
        assert line["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        for name, norms in alone["modules"].items():
            assert line["modules"][name] == pytest.approx(norms, rel=1e-3)


@pytest.mark.slow
@TWO_OR_NONE
def test_a_batch_that_cannot_be_dealt_out_is_refused(make_run, protocol):
    run = make_run(batch_size=5, micro_batch_size=5)
    with pytest.raises(
        ValueError, match=r"run tiny: batch_size = 5 cannot be dealt out.* gpus = 2"
    ):
        launch(2, train_all, [(run, False)], protocol)
    assert not (run.folder / "adapter").exists()


#: One run in two processes: spec file, work folder, steps between checkpoints.
SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from diablo.data.protocol import load_protocol
from diablo.io import read_json
from diablo.launch import launch
from diablo.training import finetune
if __name__ == "__main__":
    spec = Path(sys.argv[1])
    options = (spec.parent, sys.argv[2], load_protocol("commonsense", "paper"), 1, 4)
    launch(2, finetune, SimpleNamespace(**read_json(spec)), *options)
"""


def start(run, script):
    return subprocess.Popen(
        [sys.executable, str(script), str(run.folder / "spec.json"), str(run.work)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )


def children(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [Path("/proc", child, "cmdline") for child in listed]


def runs_still(cmdline):
    try:
        return bool(cmdline.read_bytes())  # empty for one that only waits to be collected
    except OSError:
        return False


@pytest.mark.slow
@TWO_OR_NONE
def test_kill_dash_9_ends_all_processes_and_goes_on_to_the_same_result(
    make_run, protocol, tmp_path
):
    # With dropout: random numbers of both processes are those of the step, whoever started it.
    settings = {"method": "lora", "dropout": 0.1, "epochs": 6.0}
    whole, killed = make_run("whole", **settings), make_run("killed", **settings)
    launch(2, finetune, whole.spec, whole.folder, whole.work, protocol, 1)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = start(killed, script)
    while not list(killed.work.glob("checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.01)  # polls; nothing depends on how long
    workers = children(process)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(runs_still(worker) for worker in workers):
        time.sleep(0.01)
    assert not (killed.folder / "adapter").exists()
    assert start(killed, script).wait() == 0
    facts = read_json(killed.folder / "adapter" / "provenance.json")
    assert facts["resumed_from_step"] >= 4
    log = read_jsonl(killed.folder / "log.jsonl")
    assert [line["step"] for line in log] == list(range(1, 37))
    expected, found = weights(whole), weights(killed)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("full", {}, "'full' trains the weights themselves"),
        ("smt", {"calibration": 8}, "'smt' looks at all weights' gradients"),
        ("diablo", {"gradient_examples": 4}, "`gradient_examples`"),
        ("lora", {"quantized": "tiny.nf4"}, "quantised"),
        ("lori-s", {"mask_adapter": "x"}, "its mask"),
    ],
)
def test_what_does_not_go_with_sharded_weights_is_refused_by_name(
    method, changes, words, monkeypatch
):
    monkeypatch.setattr(together, "processes", lambda: 2)
    spec = {"run": "r", "method": method, "calibration": None, "mask_adapter": None, **changes}
    with pytest.raises(ValueError, match=f"run r: its weights are to be sharded.*{words}"):
        sharding.check(SimpleNamespace(**spec), "model" if method == "full" else "adapter")


def test_one_process_has_nothing_to_shard(make_run, finetune):
    with pytest.raises(ValueError, match="run tiny: weights are sharded over several GPUs"):
        finetune(make_run(), sharded=True)


def test_each_process_and_step_has_random_numbers_of_its_own_whatever_the_seed(monkeypatch):
    monkeypatch.setattr(together, "processes", lambda: 2)
    seeds = []
    for rank in (0, 1):
        monkeypatch.setattr(together, "rank", lambda rank=rank: rank)
        for seed in (0, 1, 20240101, 2**63):
            for step in (0, 1):
                together.seed_step(seed, step)
                seeds.append(torch.initial_seed())
    assert len(set(seeds)) == len(seeds)
    together.seed_step(2**63, 1)
    assert torch.initial_seed() == seeds[-1]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("batches", [1, 2, 5, 8])
def test_every_micro_batch_counts_once_and_all_do_as_many_passes(count, batches, monkeypatch):
    monkeypatch.setattr(together, "processes", lambda: count)
    parts = []
    for rank in range(count):
        monkeypatch.setattr(together, "rank", lambda rank=rank: rank)
        parts.append(together.part(range(batches)))
    assert sorted(batch for part in parts for batch, counts in part if counts) == list(
        range(batches)
    )
    assert {len(part) for part in parts} == {-(-batches // count)}


@pytest.mark.parametrize(
    ("batch", "micro", "count", "expected"),
    [(16, 16, 1, 16), (16, 16, 2, 8), (16, 4, 2, 4), (12, 4, 2, 3), (32, 5, 4, 4), (5, 3, 1, 3)],
)
def test_micro_batches_fill_every_process_alike(batch, micro, count, expected, monkeypatch):
    monkeypatch.setattr(together, "processes", lambda: count)
    spec = SimpleNamespace(run="r", batch_size=batch, micro_batch_size=micro)
    assert together.micro_batch_size(spec) == expected
    if count > 1:
        passes = batch // (expected * count)
        assert passes * expected * count == batch
