"""Runs with several GPUs: what each holds, how long they take, what is refused, what their jobs ask for."""

from __future__ import annotations

import json

import pytest

from diablo.config import Config, Filters
from diablo.estimate import estimate
from diablo.estimate.cards import Cards
from diablo.estimate.facts import load_assumptions, load_gpus
from diablo.estimate.jobs import Costs
from diablo.estimate.memory import training_need
from diablo.estimate.rates import BENCHMARKS, Rates
from diablo.estimate.render import render
from diablo.estimate.requests import Requests
from diablo.planning import Plan, resolve
from diablo.specs import RunSpec

GIB = 2**30
PAPER = Config(scale="paper", device="gpu")
KNOWN, GPUS = load_assumptions(), load_gpus()
RECORDED = json.loads((BENCHMARKS / "nvidia-h200.json").read_text())["several_gpus"]
WHOLE, SHARDED = (
    RECORDED[f"llama3-8b batch 32 micro 16 bf16+fp32{how} GPUs"]
    for how in (" on 1, 2", " sharded on 1, 2, 4")
)


def planned(config: Config, count: int) -> Plan:
    """As if every row had `gpus: count`."""
    plan = resolve(config)
    plan.gpus = dict.fromkeys(plan.gpus, count)
    return plan


@pytest.fixture(scope="module")
def plans() -> dict[int, Plan]:
    return {count: planned(PAPER, count) for count in (1, 2, 4)}


@pytest.fixture
def on_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diablo.estimate.run.resolve", lambda config: planned(config, 2))


def name_of(plan: Plan, **fields: object) -> str:
    return next(
        run.run
        for run in plan.runs.values()
        if all(getattr(run, key) == value for key, value in fields.items())
    )


def costs(plan: Plan, card: str = "h200", backend: str = "auto") -> Costs:
    return Costs(plan, Rates.load(card, GPUS, plan.catalog), KNOWN, backend)


def measured(**changes: object) -> RunSpec:
    """The run of the benchmark that trained on two GPUs."""
    fields = {
        "run": "r", "scale": "paper", "model": "llama3-8b", "model_path": "m", "dataset": "d", "data_path": "d",
        "suite": "commonsense", "variant": "paper", "method": "diablo", "num_blocks": 64, "batch_size": 32,
        "micro_batch_size": 16, "modules": ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"],
        "precision": "bf16",
    }  # fmt: skip
    return RunSpec(**fields | changes)


def test_two_gpus_hold_half_of_a_large_micro_batch_each(on_two: None) -> None:
    """Table 7's 32 examples at a time do not fit an A100 80 GB, 16 do."""
    found = estimate(["table7"], "a100-80", PAPER)
    assert not any("diablo-n320" in one["run"] for one in found["does_not_fit"])
    assert found["gpus"] == 2
    assert "up to 2 NVIDIA A100 80 GB (SXM) a run" in render(found)


def test_the_speed_of_two_is_the_recorded_one(plans: dict[int, Plan]) -> None:
    assert KNOWN.together.whole == pytest.approx(WHOLE["gpus"]["2"]["speed_up"] / 2, abs=0.005)
    assert KNOWN.together.sharded == pytest.approx(SHARDED["gpus"]["2"]["speed_up"] / 2, abs=0.005)
    name = name_of(plans[1], model="llama-13b", method="lora", suite="commonsense")
    # An A100 40 GB has room for the 13B model's weights, but not for 60 % of it to be free.
    for card, recorded in (("h200", WHOLE), ("a100-40", SHARDED)):
        one, two = (costs(plans[count], card).job("finetune", name) for count in (1, 2))
        start = costs(plans[1])._start(
            2 * plans[1].catalog.model("llama-13b").shapes.base_parameters
        )
        speed_up = (one.seconds - start) / (two.seconds - start)
        assert speed_up == pytest.approx(recorded["gpus"]["2"]["speed_up"], abs=0.01)
        assert (one.gpus, two.gpus) == (1, 2)
        assert one.flops == two.flops
        assert any("2 GPUs a run" in note for note in two.rests_on)


def test_gpu_hours_are_those_of_all_gpus_that_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PAPER.model_copy(update={"filters": Filters(only=["llama3-8b", "lora"])})
    hours = {}
    for count in (1, 2):
        monkeypatch.setattr("diablo.estimate.run.resolve", lambda c, n=count: planned(c, n))
        rules = estimate(["table1"], "h200", config)["total"]["rules"]
        hours[count] = {rule: cost["gpu_hours"] for rule, cost in rules.items()}
    assert hours[2]["finetune"] == pytest.approx(
        hours[1]["finetune"] / KNOWN.together.whole, rel=0.03
    )
    # Work that two share as well as one does it, and the start, while which both are held.
    assert hours[1]["generate"] < hours[2]["generate"] < 2 * hours[1]["generate"]
    assert hours[2]["measure"] == hours[1]["measure"]


def test_memory_of_sharded_weights_is_an_upper_bound_of_the_recorded_peak() -> None:
    model, card = resolve(PAPER).catalog.model("llama3-8b"), GPUS.gpus["h200"]
    small = card.model_copy(update={"memory_gb": 26})
    whole, part = (
        training_need(measured(), model, None, KNOWN, Cards(gpu, 2)) for gpu in (card, small)
    )
    for need, recorded in ((whole, WHOLE), (part, SHARDED)):
        peak = recorded["gpus"]["2"]["peak_gib"]
        assert peak < need.total / GIB < 1.15 * peak
    assert whole.weights == 2 * model.shapes.base_parameters
    # Embeddings and head are whole on each.
    assert model.shapes.base_parameters < part.weights < 0.65 * whole.weights
    assert part.activations == whole.activations


@pytest.mark.parametrize(
    ("changes", "shards"),
    [
        ({}, True),
        ({"method": "full", "modules": []}, False),
        ({"quantized": "llama3-8b.nf4"}, False),
        ({"precision": "fp16"}, True),
    ],
)
def test_what_is_sharded_is_what_training_shards(changes: dict, shards: bool) -> None:
    model, card = resolve(PAPER).catalog.model("llama3-8b"), GPUS.gpus["rtx4090"]
    assert Cards(card, 2).shard(measured(**changes), model) is shards
    assert not Cards(card, 1).shard(measured(**changes), model)


def test_what_cannot_be_sharded_is_refused_before_anything_runs(on_two: None) -> None:
    config = PAPER.model_copy(update={"filters": Filters(only=["llama3-8b", "smt", "diablo"])})
    texts = [one["text"] for one in estimate(["table1"], "rtx4090", config)["does_not_fit"]]
    refused = [text for text in texts if ".smt" in text]
    assert refused
    for text in refused:
        assert "sharded over 2 GPUs, which does not go with it: method 'smt' looks at all" in text
        assert "a bigger GPU (a100-80" in text
    assert not any("does not go with it" in text for text in texts if ".diablo" in text)


def test_jobs_hold_the_gpus_that_they_compute_on(plans: dict[int, Plan]) -> None:
    plan = plans[4]
    asked = Requests.of(plan, "gpu")
    trained = name_of(plan, method="lora", model="llama2-7b")
    zero_shot = name_of(plan, method="zero-shot", model="llama2-7b")
    retained = name_of(plan, method="retained")
    # A retained update is searched by one process; zero-shot's fine-tuning loads no model at all.
    assert [asked.gpus("finetune", run) for run in (trained, retained, zero_shot)] == [4, 1, 0]
    # All three are served by vLLM; transformers, and so T5, generates on one.
    for rule in ("generate", "check-serving"):
        assert [asked.gpus(rule, run) for run in (trained, retained, zero_shot)] == [4, 4, 4]
        assert Requests.of(plan, "gpu", "transformers").gpus(rule, trained) == 1
    assert [asked.gpus(rule, trained) for rule in ("measure", "ranks")] == [1, 1]
    assert Requests.of(plan, "cpu").gpus("finetune", trained) == 0
    encoder_decoder = [
        r.run for r in plan.runs.values() if plan.catalog.model(r.model).kind == "seq2seq"
    ]
    for run in encoder_decoder:
        assert (asked.gpus("finetune", run), asked.gpus("generate", run)) == (4, 1)
    assert encoder_decoder


def test_processes_ask_for_memory_of_the_host_each_and_for_less_time(
    plans: dict[int, Plan],
) -> None:
    one, two = (Requests.of(plans[count], "gpu") for count in (1, 2))
    run = name_of(plans[1], method="lora", model="llama-13b", suite="commonsense")
    assert two.mem_mb("finetune", run, 2900, 1) == pytest.approx(
        2 * one.mem_mb("finetune", run, 2900, 1), abs=1
    )
    assert two.mem_mb("measure", run, 2900, 1) == one.mem_mb("measure", run, 2900, 1)
    assert two.minutes("finetune", run, 1) < one.minutes("finetune", run, 1)
    # Of one card: 16 examples a step are 8 on each.
    assert two.gpu_mem_mb("finetune", run) < one.gpu_mem_mb("finetune", run)
