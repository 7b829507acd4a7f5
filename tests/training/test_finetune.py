"""One run from spec to adapter: what comes out, and that every setting does what it says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import METHOD_SETTINGS, make_records

from diablo.io import write_jsonl
from diablo.methods import METHODS
from diablo.rows import is_trained

TRAINED = [name for name in METHODS if is_trained(name)]
#: The others are slow tests.
QUICK = ("diablo", "lora", "full")


def weights(run):
    (path,) = (run.folder / "adapter").glob("*.safetensors")
    return load_file(path)


def column(log, key):
    return [line[key] for line in log]


def test_every_method_has_settings_here():
    assert set(METHOD_SETTINGS) == set(METHODS)


@pytest.mark.parametrize(
    "method",
    [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in TRAINED],
)
def test_a_run_learns_and_says_what_it_did(method, make_run, finetune):
    run = make_run(method=method)
    log = finetune(run)
    assert column(log, "step") == list(range(1, 13))
    # 22 examples in batches of 4: the last of each epoch is smaller, and none is left out.
    assert column(log, "examples") == [4, 4, 4, 4, 4, 2] * 2
    assert log[-1]["epoch"] == 2.0
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert all(line["tokens_per_second"] > 0 and line["grad_norm"] > 0 for line in log)
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    assert facts["verb"] == "finetune"
    assert facts["method"] == method
    assert facts["seed"] == run.spec.seed
    assert len(facts["inputs"]) == 2
    assert (facts["examples"], facts["steps"], facts["dropped"], facts["truncated"]) == (
        22,
        12,
        0,
        0,
    )
    assert facts["tokens"] == sum(column(log, "tokens"))
    assert 0 < facts["step_seconds"] < facts["wall_seconds"]
    base = facts["base_parameters"]
    assert facts["trainable_parameters"] == base if method == "full" else base > 0
    assert not run.work.exists()


def test_what_lori_s_holds_at_zero_is_not_counted(make_run, finetune):
    run = make_run(method="lori-s", weight_decay=0.1)
    finetune(run)
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    # Of rank 2 x (32 + 16 + 32) outputs x 2 layers = 320 entries of B.
    assert facts["trainable_parameters"] == 32
    assert sum(int((t != 0).sum()) for k, t in weights(run).items() if "lora_B" in k) == 32


def test_zero_shot_trains_nothing(make_run, finetune):
    run = make_run(method="zero-shot")
    run.spec.data_path = run.spec.dataset = None
    assert finetune(run) == []
    assert [path.name for path in (run.folder / "adapter").iterdir()] == ["provenance.json"]
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    full = make_run("full", method="full", max_steps=1)
    finetune(full)
    trained = json.loads((full.folder / "adapter" / "provenance.json").read_text())
    assert facts["trainable_parameters"] == 0
    assert facts["base_parameters"] == trained["base_parameters"] == trained["trainable_parameters"]


@pytest.mark.parametrize("micro", [1, 3])
@pytest.mark.slow
def test_micro_batches_change_nothing(micro, make_run, finetune):
    whole = make_run("whole", method="diablo")
    split = make_run("split", method="diablo", micro_batch_size=micro)
    logs = finetune(whole), finetune(split)
    for key in ("loss", "grad_norm", "tokens", "targets", "lr"):
        assert column(logs[1], key) == pytest.approx(column(logs[0], key), rel=2e-4)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(split)[name], tensor, atol=1e-4, rtol=1e-3)


def test_gradient_checkpointing_changes_nothing(make_run, finetune):
    plain = finetune(make_run("plain", method="diablo"))
    checkpointed = finetune(make_run("checkpointed", method="diablo", gradient_checkpointing=True))
    assert column(checkpointed, "loss") == pytest.approx(column(plain, "loss"), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ("linear", lambda done: (12 - done) / 10),
        ("cosine", lambda done: 0.5 * (1 + math.cos(math.pi * (done - 2) / 10))),
        ("constant", lambda done: 1.0),
    ],
)
def test_schedule(schedule, factor, make_run, finetune):
    log = finetune(make_run(schedule=schedule, lr=1e-3))
    expected = [1e-3 * (done / 2 if done < 2 else factor(done)) for done in range(12)]
    assert column(log, "lr") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "warmup"), [({}, 3), ({"max_steps": 6}, 2), ({"train_limit": 8}, 1)]
)
def test_a_warmup_ratio_is_of_the_steps_that_are_done(settings, warmup, make_run, finetune):
    run = make_run(schedule="constant", lr=1e-3, warmup_steps=0, warmup_ratio=0.25, **settings)
    rates = column(finetune(run), "lr")
    assert rates == pytest.approx([1e-3 * min(1, done / warmup) for done in range(len(rates))])


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({"max_steps": 3}, 3), ({"max_steps": 99}, 12), ({"epochs": 0.5}, 3), ({"train_limit": 8}, 4)],
)
def test_how_long_it_trains(settings, steps, make_run, finetune):
    assert len(finetune(make_run(**settings))) == steps


def test_gradient_norm_is_from_before_clipping(make_run, finetune):
    free = finetune(make_run("free", max_grad_norm=1e9, max_steps=1))
    clipped = finetune(make_run("clipped", max_grad_norm=1e-3, max_steps=1))
    assert free[0]["grad_norm"] > 1e-3
    assert clipped[0]["grad_norm"] == pytest.approx(free[0]["grad_norm"])


def test_weight_decay_reaches_the_optimiser(make_run, finetune):
    light, heavy = (
        make_run("light", method="full"),
        make_run("heavy", method="full", weight_decay=1.0),
    )
    finetune(light), finetune(heavy)
    name = "model.layers.0.mlp.down_proj.weight"
    assert weights(heavy)[name].norm() < weights(light)[name].norm()


@pytest.mark.slow
def test_seed_sets_initialisation_order_and_dropout(make_run, finetune):
    for key, settings in {"order": {"method": "diablo"}, "all": {"method": "lora"}}.items():
        first = make_run(f"{key}-1", max_steps=2, **settings)
        other = make_run(f"{key}-2", max_steps=2, seed=4, **settings)
        assert column(finetune(first), "tokens") != column(finetune(other), "tokens")
        assert any(not torch.equal(t, weights(other)[n]) for n, t in weights(first).items())


def test_epochs_have_different_orders(make_run, finetune):
    tokens = column(finetune(make_run()), "tokens")
    assert sum(tokens[:6]) == sum(tokens[6:])
    assert tokens[:6] != tokens[6:]


@pytest.mark.parametrize("method", ["full", "lora", "diablo"])
@pytest.mark.parametrize(
    ("precision", "frozen"), [("fp32", "float32"), ("bf16", "bfloat16"), ("bf16-pure", "bfloat16")]
)
@pytest.mark.slow
def test_precision(method, precision, frozen, make_run, finetune):
    run = make_run(method=method, precision=precision, dropout=0.0)
    log = finetune(run)
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    if method == "full" and precision == "bf16":
        frozen = "float32"  # master weights
    autocast = "bf16" if precision == "bf16" else None
    assert facts["dtype"] == {"weights": frozen, "autocast": autocast}
    expected = torch.bfloat16 if precision == "bf16-pure" else torch.float32
    assert {tensor.dtype for tensor in weights(run).values()} == {expected}


def test_fp16_on_a_cpu_is_refused(make_run, finetune, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'fp16' needs a GPU.*precision: bf16"):
        finetune(make_run(precision="fp16"))


def test_not_finite_stops_the_run(make_run, finetune):
    run = make_run(method="full", lr=1e25, warmup_steps=0)
    message = r"is (nan|inf) at step \d+ with learning rate 9.17e\+24; last good checkpoint: \S*checkpoint-1"
    with pytest.raises(FloatingPointError, match=message):
        finetune(run, save_steps=1)
    assert not (run.folder / "adapter").exists()


def test_truncated_and_dropped_examples_are_counted(make_run, finetune, protocol, tmp_path):
    records = make_records(8)
    records[0]["instruction"] = "word " * 200
    run = make_run()
    run.spec.data_path = str(tmp_path / "long")
    write_jsonl(tmp_path / "long" / "train.jsonl", records)
    finetune(run)
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    assert (facts["examples"], facts["truncated"]) in ((7, 1), (8, 1))
    assert facts["examples"] + facts["dropped"] == 8


def test_unknown_method_is_named(make_run, finetune):
    run = make_run()
    run.spec.method = "lorra"
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        finetune(run)
