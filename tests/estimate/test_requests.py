"""What jobs ask a scheduler for: by the size of the model, its precision and what trains."""

from __future__ import annotations

import pytest

from diablo.config import Config
from diablo.estimate.memory import GB
from diablo.estimate.requests import Requests, grown
from diablo.planning import Plan, resolve
from diablo.specs import RunSpec

LEAST = {"finetune": 2900, "generate": 2900, "measure": 2500, "check-serving": 4000, "ranks": 2900}


@pytest.fixture(scope="module")
def paper() -> Plan:
    return resolve(Config(scale="paper", device="gpu"))


@pytest.fixture(scope="module")
def asked(paper: Plan) -> Requests:
    return Requests.of(paper, "gpu")


def run_of(plan: Plan, **fields: object) -> RunSpec:
    return next(
        run
        for run in plan.runs.values()
        if all(getattr(run, key) == value for key, value in fields.items())
    )


def test_the_demo_on_a_cpu_asks_for_what_its_rules_need() -> None:
    """Two fine-tuning jobs at once in 6 GB."""
    plan = resolve(Config(device="cpu"))
    demo = Requests.of(plan, "cpu")
    for verb, least in LEAST.items():
        assert {demo.mem_mb(verb, run, least, 1) for run in plan.runs} == {least}
    assert {demo.mem_mb("quantize", name, 2900, 1) for name in plan.quantized} == {2900}
    assert {demo.gpu_mem_mb("finetune", run) for run in plan.runs} == {0}


def test_larger_models_ask_for_more(paper: Plan, asked: Requests) -> None:
    models = ["llama3.2-3b", "llama2-7b", "llama3-8b", "llama-13b"]
    runs = [run_of(paper, model=m, dataset="commonsense_170k", method="diablo").run for m in models]
    for verb in ("finetune", "generate", "measure"):
        memory = [asked.mem_mb(verb, run, LEAST[verb], 1) for run in runs]
        assert memory == sorted(set(memory))
        assert [asked.gpu_mem_mb(verb, run) > 0 for run in runs] == [True] * len(runs)
    size = paper.catalog.model("llama-13b").shapes.base_parameters
    # 16-bit weights, twice in the host's memory and once on the card.
    assert 4 * size < asked.mem_mb("generate", runs[-1], 2900, 1) * 1e6 < 4 * size + 4 * GB
    assert 2 * size < asked.gpu_mem_mb("generate", runs[-1]) * 1e6 < 2 * size + 2 * GB


def test_packed_weights_ask_for_less(paper: Plan, asked: Requests) -> None:
    runs = [run for run in paper.runs.values() if run.model == "llama2-7b" and run.quantized]
    packed = next(run.run for run in runs if ".nf4." in run.quantized)
    simulated = next(run.run for run in runs if ".magr4" in run.quantized)
    memory = [asked.mem_mb("finetune", run, 2900, 1) for run in (packed, simulated)]
    assert memory[0] < memory[1] / 2
    assert asked.gpu_mem_mb("finetune", packed) < asked.gpu_mem_mb("finetune", simulated)
    # What is served is dequantised.
    assert asked.gpu_mem_mb("generate", packed) == asked.gpu_mem_mb("generate", simulated)


def test_full_fine_tuning_asks_for_its_states(paper: Plan, asked: Requests) -> None:
    same = {"model": "llama2-7b", "dataset": "metamathqa"}
    full, some = (run_of(paper, method=method, **same).run for method in ("full", "diablo"))
    size = paper.catalog.model("llama2-7b").shapes.base_parameters
    assert asked.mem_mb("finetune", full, 2900, 1) * 1e6 > 18 * size
    assert asked.mem_mb("finetune", some, 2900, 1) * 1e6 < 5 * size
    assert asked.minutes("finetune", full, 1) > asked.minutes("finetune", some, 1)


def test_a_run_that_trains_nothing_asks_for_no_model(paper: Plan, asked: Requests) -> None:
    run = run_of(paper, method="zero-shot", model="llama-13b").run
    assert asked.mem_mb("finetune", run, 2900, 1) < 4000
    assert asked.gpu_mem_mb("finetune", run) == 0


def test_minutes_cover_the_estimate_and_grow_with_the_attempt(paper: Plan, asked: Requests) -> None:
    run = run_of(paper, model="llama-13b", dataset="commonsense_170k", method="diablo").run
    estimated = asked.costs.job("finetune", run).seconds / 60
    once = asked.minutes("finetune", run, 1)
    assert estimated < once < 3 * estimated
    assert [asked.minutes("finetune", run, n) for n in (2, 3)] == [2 * once, 3 * once]
    memory = asked.mem_mb("finetune", run, 2900, 1)
    assert asked.mem_mb("finetune", run, 2900, 3) == pytest.approx(2 * memory, abs=1)
    assert [grown(1500, attempt) for attempt in (1, 2, 3)] == [1500, 2250, 3000]
    # No job asks for so little that its start takes all of it.
    assert min(asked.minutes("measure", name, 1) for name in paper.runs) == 30
