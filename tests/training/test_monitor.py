"""The full weights' gradients beside the training: against autograd, without a trace, after a kill."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from tiny_run import METHOD_SETTINGS, SETTINGS, make_model

from diablo.io import read_jsonl
from diablo.methods import METHODS
from diablo.training.examples import collate
from diablo.training.loss import summed_loss
from diablo.training.monitor import (
    GradientMonitor,
    adapted_layers,
    collected_gradients,
    parts_of,
    resume_gradients,
)
from diablo.training.trainer import StepTrainer


def examples(count=7):
    torch.manual_seed(5)
    made = []
    for index in range(count):
        ids = torch.randint(3, 200, (4 + index,))
        labels = torch.where(torch.arange(len(ids)) < 2, -100, ids)
        made.append({"input_ids": ids, "labels": labels})
    return made


def diablo_model(blocks=4, dtype=torch.float64, modules=("q_proj", "k_proj", "down_proj")):
    spec = SimpleNamespace(**SETTINGS | METHOD_SETTINGS["diablo"])
    spec.num_blocks, spec.modules, spec.method = blocks, list(modules), "diablo"
    model = METHODS["diablo"].prepare(make_model().to(dtype), spec)
    for name, parameter in model.named_parameters():
        if "diablo_blocks" in name:
            parameter.data = torch.randn_like(parameter, dtype=dtype) * 0.05
    return model


def merged_twin(model):
    """A plain model with the weights W0 + D, all of which have gradients."""
    twin = make_model().double()
    for name, layer in adapted_layers(model).items():
        plain = twin.get_submodule(name)
        with torch.no_grad():
            plain.weight += layer.get_delta_weight("default").double()
    return twin.requires_grad_(True)


# N = 4 divides all widths; of 5 blocks the last one is cut.
@pytest.mark.parametrize("blocks", [4, 5])
def test_the_full_gradient_is_autograds_of_the_unfrozen_weights(blocks) -> None:
    model = diablo_model(blocks)
    twin = merged_twin(model)
    batch = collate(examples(), 3, 0)
    layers = adapted_layers(model)
    assert len(layers) == 6
    with collected_gradients(layers) as sums:
        for micro in batch["micro_batches"]:
            for one in (model, twin):
                loss = summed_loss(one, micro["positions"], micro["targets"], micro["inputs"])
                (loss / batch["targets"]).backward()
    for name, layer in layers.items():
        torch.testing.assert_close(
            sums[name], twin.get_submodule(name).weight.grad.t(), rtol=1e-10, atol=1e-12
        )
        # The blocks' own gradient is the diagonal part of it.
        part = layer.layouts["default"].read(sums[name].t())
        torch.testing.assert_close(
            part, layer.diablo_blocks["default"].grad, rtol=1e-10, atol=1e-12
        )
    assert not any(layer._forward_hooks for layer in layers.values())


def test_a_line_has_the_norms_and_touches_no_gradient(tmp_path) -> None:
    model = diablo_model(5)
    twin, given = merged_twin(model), examples()
    batch = collate(given, 2, 0)
    for micro in batch["micro_batches"]:
        loss = summed_loss(twin, micro["positions"], micro["targets"], micro["inputs"])
        (loss / batch["targets"]).backward()
    spec = SimpleNamespace(run="tiny", seed=0, gradient_examples=100, batch_size=4)
    monitor = GradientMonitor(tmp_path / "g", spec, given, lambda e: collate(e, 2, 0), dict)
    model.train()
    monitor.on_train_begin(
        SimpleNamespace(fp16=False), SimpleNamespace(global_step=0), None, model=model
    )
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    (line,) = read_jsonl(tmp_path / "g")
    assert (line["epoch"], line["step"], line["examples"]) == (0, 0, 7)
    assert line["targets"] == batch["targets"]
    for name, layer in adapted_layers(model).items():
        grad, one = twin.get_submodule(name).weight.grad, line["modules"][name]
        layout = layer.layouts["default"]
        assert one["full"] == pytest.approx(grad.norm().item())
        assert one["blocks"] == pytest.approx(layout.read(grad).norm().item())
        assert one["full_entries"] == grad.numel()
        assert one["blocks_entries"] == (layout.read(torch.ones_like(grad)) != 0).sum()


def test_layers_wait_where_memory_asks(tmp_path, monkeypatch) -> None:
    model, given = diablo_model(), examples()
    layers = adapted_layers(model)
    names = list(layers)
    assert parts_of(layers, 1 << 30) == [names]
    assert parts_of(layers, 1) == [[name] for name in names]
    spec = SimpleNamespace(run="tiny", seed=0, gradient_examples=5, batch_size=4)
    lines = []
    for budget in (1 << 30, 9000):
        monkeypatch.setattr("diablo.training.monitor.SUMS_BYTES", {"cpu": budget})
        path = tmp_path / str(budget)
        monitor = GradientMonitor(path, spec, given, lambda e: collate(e, 2, 0), dict)
        monitor._measure(model, 4, fp16=False)
        lines.append(path.read_text())
    assert lines[0] == lines[1]
    assert json.loads(lines[0])["examples"] == 5


def files(run):
    return {
        path.name: path.read_bytes()
        for path in (run.folder / "adapter").iterdir()
        if path.name != "provenance.json"
    }


def timeless(log):
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in log]


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.1}, {"gradient_checkpointing": True}])
@pytest.mark.slow
def test_training_is_what_it_is_without_monitoring(make_run, finetune, changes) -> None:
    plain = make_run("plain", method="diablo", **changes)
    watched = make_run("watched", method="diablo", gradient_examples=9, **changes)
    expected, log = finetune(plain), finetune(watched)
    assert timeless(log) == timeless(expected)
    assert files(watched) == files(plain)
    assert not (plain.folder / "gradients.jsonl").exists()
    lines = read_jsonl(watched.folder / "gradients.jsonl")
    # 22 examples in batches of 4: the last of an epoch's 6 steps has two.
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 0), (1, 6), (2, 12)]
    assert {line["examples"] for line in lines} == {9}
    assert lines[2]["loss"] < lines[0]["loss"]
    assert len(lines[0]["modules"]) == 6


@pytest.mark.parametrize(("packing", "precision"), [("none", "fp32"), ("packing", "bf16")])
@pytest.mark.slow
def test_any_form_of_batch_and_type(make_run, finetune, packing, precision) -> None:
    run = make_run(method="diablo", gradient_examples=22, precision=precision)
    finetune(run, acceleration=packing)
    exact = make_run("exact", method="diablo", gradient_examples=22)
    finetune(exact)
    first, other = (read_jsonl(r.folder / "gradients.jsonl")[0] for r in (run, exact))
    for name, one in first["modules"].items():
        assert one["full"] == pytest.approx(other["modules"][name]["full"], rel=0.05)


# Steps 6 and 12 end epochs; checkpoints at 3, 6 and 9.
@pytest.mark.parametrize(
    ("stop", "resumed"),
    [
        (5, 3),
        *[pytest.param(*it, marks=pytest.mark.slow) for it in [(2, 0), (7, 6), (8, 6), (12, 9)]],
    ],
)
def test_resumes_without_a_double_line(make_run, finetune, monkeypatch, stop, resumed) -> None:
    class Stop(Exception):
        pass

    whole = make_run("whole", method="diablo", gradient_examples=9)
    stopped = make_run("stopped", method="diablo", gradient_examples=9)
    finetune(whole)
    original = StepTrainer.training_step

    def training_step(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        if self.state.global_step + 1 == stop:
            raise Stop
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", training_step)
        with pytest.raises(Stop):
            finetune(stopped, save_steps=3)
    assert not (stopped.folder / "gradients.jsonl").exists()
    # The kill came in the midst of a line.
    with (stopped.work / "gradients.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    finetune(stopped, save_steps=3)
    texts = [(run.folder / "gradients.jsonl").read_text() for run in (stopped, whole)]
    assert texts[0] == texts[1]
    facts = json.loads((stopped.folder / "adapter" / "provenance.json").read_text())
    assert facts["resumed_from_step"] == resumed
    assert files(stopped) == files(whole)


def test_a_checkpoint_without_its_gradients_is_not_used(tmp_path) -> None:
    spec = SimpleNamespace(gradient_examples=3, batch_size=4)
    path = tmp_path / "gradients.jsonl"
    path.write_text('{"step": 0}\n{"step": 3}\n{"step": 6}\n')
    assert resume_gradients(tmp_path, spec, 10, 5)
    assert path.read_text() == '{"step": 0}\n{"step": 3}\n'
    assert not resume_gradients(tmp_path, spec, 10, 7)
    assert path.read_text() == ""
    assert resume_gradients(tmp_path, SimpleNamespace(), 10, 7)


def test_a_model_without_blocks_is_refused(make_run, finetune) -> None:
    run = make_run(method="lora", gradient_examples=3)
    with pytest.raises(ValueError, match="run tiny: no layer has blocks"):
        finetune(run)
