"""Retained updates: the search of γ, what it writes, and what is served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import make_model

from diablo.analysis.retain import kept_update, model_layouts, retain, search
from diablo.io import read_json
from diablo.methods import RANDOM, load_for_inference
from diablo.scoring.answer_loss import held_out_records
from diablo.training import retained as job

ALL = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
PATTERNS = ["diagonal", *RANDOM.values()]


@pytest.fixture
def full(make_run, finetune):
    """A full fine-tuning that leaves six examples out."""
    run = make_run("full", method="full", held_out=6)
    finetune(run)
    return run


@pytest.fixture
def make_retained(make_run, full):
    """Builds a run that retains a part of it."""

    def build(name="retained", **changes):
        settings = {"full_adapter": str(full.folder / "adapter"), "modules": ALL, **changes}
        return make_run(name, method="retained", **settings)

    return build


def facts_of(run) -> dict:
    return read_json(run.folder / "adapter" / "provenance.json")


def served(run) -> dict:
    return load_for_inference(run.spec, run.folder / "adapter").state_dict()


def states(run):
    """W0 and W1, whole."""
    tuned = type(make_model()).from_pretrained(run.spec.full_adapter, dtype=torch.float32)
    return make_model().state_dict(), tuned.state_dict()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.slow
def test_served_is_the_definition_bit_for_bit(pattern, make_retained, finetune) -> None:
    run = make_retained(pattern=pattern)
    assert finetune(run) == []
    record = read_json(run.folder / "adapter" / "retained.json")
    start, tuned = states(run)
    model = make_model()
    layouts = model_layouts(model, ALL, pattern, 4, seed=run.spec.seed)
    expected = retain(model, start, tuned, layouts, record["gamma"]).state_dict()
    found = served(run)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    differing = sum(int((found[key] != start[key]).sum()) for key in start if "lm_head" not in key)
    entries = facts_of(run)["trainable_parameters"]
    assert entries == sum(start[f"{name}.weight"].numel() for name in layouts) // 4
    assert 0.95 * entries < differing <= entries


def test_the_search_is_recorded_and_looks_at_what_was_left_out(
    make_retained, finetune, full
) -> None:
    run = make_retained()
    finetune(run)
    facts = facts_of(run)
    record = facts["retained"]
    assert record == read_json(run.folder / "adapter" / "retained.json")
    assert [gamma for gamma, _ in record["tried"]][:2] == [1.0, 4.0]
    assert len(record["tried"]) == 4
    assert record["gamma"] == min(record["tried"], key=lambda pair: pair[1])[0]
    assert (record["held_out"], record["full_run"], record["num_blocks"]) == (6, "full", 4)
    assert facts["method"] == "retained"
    assert str(full.folder / "adapter" / "provenance.json") in facts["inputs"]
    assert facts_of(full)["examples"] == 22 - 6
    data, records = held_out_records(run.spec)
    assert data == Path(run.spec.data_path) / "train.jsonl"
    assert len(records) == 6
    assert records == held_out_records(full.spec)[1]


def test_all_of_the_update_at_one_is_the_fully_tuned_weights(make_retained, finetune) -> None:
    run = make_retained(num_blocks=1, gammas=[0.9, 1.0], refine=0)
    finetune(run)
    start, tuned = states(run)
    layouts = model_layouts(make_model(), ALL, "diagonal", 1)
    whole = retain(make_model(), start, tuned, layouts, 1.0).state_dict()
    for name in layouts:
        key = f"{name}.weight"
        torch.testing.assert_close(whole[key], tuned[key], rtol=1e-6, atol=1e-7)
    # What is recorded for 1 is the loss of the model with these weights.
    model = make_model()
    model.load_state_dict({k: tuned[k] if k[:-7] in layouts else v for k, v in start.items()})
    tokenizer = job.AutoTokenizer.from_pretrained(run.spec.model_path)
    from diablo.data.protocol import load_protocol

    protocol = load_protocol("commonsense", "paper")
    value, _ = job.task_losses(model.eval(), tokenizer, protocol, held_out_records(run.spec)[1])
    recorded = dict(map(tuple, read_json(run.folder / "adapter" / "retained.json")["tried"]))
    assert recorded[1.0] == pytest.approx(value, abs=1e-5)


def test_half_the_update_needs_twice_the_gamma(make_retained, finetune, full) -> None:
    gammas = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    one = make_retained("one", gammas=gammas)
    finetune(one)
    path = full.folder / "adapter" / "model.safetensors"
    tuned, start = load_file(path), make_model().state_dict()
    halved = {key: start[key] + (value - start[key]) / 2 for key, value in tuned.items()}
    save_file(halved, path, {"format": "pt"})
    two = make_retained("two", gammas=[2 * gamma for gamma in gammas])
    finetune(two)
    first, second = (read_json(run.folder / "adapter" / "retained.json") for run in (one, two))
    assert second["gamma"] == pytest.approx(2 * first["gamma"], rel=1e-5)
    for (_, before), (_, after) in zip(first["tried"], second["tried"], strict=True):
        assert after == pytest.approx(before, rel=1e-3)


def test_a_kill_leaves_nothing_and_the_next_run_is_the_same(
    make_retained, finetune, monkeypatch
) -> None:
    whole, killed = make_retained("whole"), make_retained("killed")
    finetune(whole)
    calls, losses = [], job.task_losses

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return losses(*arguments)

    monkeypatch.setattr(job, "task_losses", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(killed)
    assert [path.name for path in killed.folder.iterdir()] == ["spec.json"]
    monkeypatch.setattr(job, "task_losses", losses)
    finetune(killed)
    for name in ("adapter_config.json", "adapter_model.safetensors", "retained.json"):
        one, other = (run.folder / "adapter" / name for run in (whole, killed))
        assert one.read_bytes() == other.read_bytes(), name
    assert sorted(path.name for path in killed.folder.iterdir()) == [
        "adapter",
        "log.jsonl",
        "spec.json",
    ]


def test_a_full_run_that_is_missing_or_saw_the_examples_is_refused(
    make_retained, finetune, full
) -> None:
    with pytest.raises(ValueError, match=r"nowhere/adapter/provenance\.json: no such file"):
        finetune(make_retained("one", full_adapter="nowhere/adapter"))
    with pytest.raises(ValueError, match=r"full/spec\.json: held_out is 6, but run .* needs 5"):
        finetune(make_retained("two", held_out=5))
    with pytest.raises(ValueError, match=r"full/spec\.json: seed is 3, but run .* needs 4"):
        finetune(make_retained("three", seed=4))
    other = full.folder.with_name("lora")
    shutil.copytree(full.folder, other)
    spec = json.loads((other / "spec.json").read_text()) | {"method": "lora"}
    (other / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=r"lora/spec\.json: method is 'lora', but .* needs 'full'"):
        finetune(make_retained("four", full_adapter=str(other / "adapter")))
    with pytest.raises(ValueError, match="'retained' needs 'gammas'"):
        finetune(make_retained("five", gammas=None))
    with pytest.raises(ValueError, match="'retained' looks at all layers"):
        finetune(make_retained("six", layers=[0]))


def test_search_finds_a_known_minimum_with_a_fixed_number_of_trials() -> None:
    tried = []

    def loss(gamma: float) -> float:
        tried.append(gamma)
        return (gamma - 3) ** 2

    found = search(loss, [1, 2, 4, 8], refine=2)
    # 2 and 4 are as good: the smaller. Then 1.41 and 2.83, then 2.38 and 3.36.
    assert tried == pytest.approx([1, 2, 4, 8, 1.41421, 2.82843, 2.37841, 3.36359], rel=1e-5)
    assert found.chosen == pytest.approx(2.82843)
    assert [gamma for gamma, _ in found.tried] == tried
    assert not found.at_edge


@pytest.mark.parametrize(("sign", "expected"), [(-1, 8 * 2**0.5), (1, 1 / 2**0.5)])
def test_search_goes_beyond_an_edge_and_says_so(sign, expected) -> None:
    found = search(lambda gamma: sign * gamma, [1, 2, 4, 8], refine=1)
    assert found.chosen == pytest.approx(expected, rel=1e-5)
    assert found.at_edge
    assert len(found.tried) == 6


def test_search_never_chooses_what_is_not_finite() -> None:
    found = search(lambda gamma: float("nan") if gamma < 4 else gamma, [1, 2, 4], refine=0)
    assert found.chosen == 4
    with pytest.raises(FloatingPointError, match="no finite loss with any of gamma = 1, 2"):
        search(lambda gamma: float("inf"), [1, 2], refine=0)


def test_kept_update_is_what_retaining_adds() -> None:
    start = make_model().state_dict()
    generator = torch.Generator().manual_seed(0)
    tuned = {k: v + torch.randn(v.shape, generator=generator) / 9 for k, v in start.items()}
    layouts = model_layouts(make_model(), ["q_proj"], "entries", 4, seed=1)
    model = retain(make_model(), start, tuned, layouts, 2.0)
    for name, update in kept_update(start, tuned, layouts).items():
        weight = model.get_submodule(name).weight.detach()
        layout = layouts[name]
        assert torch.equal(layout.read(weight), layout.read(start[f"{name}.weight"]) + 2.0 * update)
