"""Estimates of whole experiments: counts of the plan, refusals, names, limits, the command line."""

from __future__ import annotations

import json

import pytest

from diablo.cli import main
from diablo.config import Config, Filters, Limits
from diablo.estimate import estimate
from diablo.planning import resolve

PAPER = Config(scale="paper", device="gpu")
ADAPTERS = PAPER.model_copy(update={"filters": Filters(skip=["full"])})


@pytest.fixture(scope="module")
def table1() -> dict:
    return estimate(["table1"], "h100", PAPER)


def test_jobs_are_those_of_the_plan() -> None:
    plan = resolve(ADAPTERS)
    found = estimate(["table1"], "h100", ADAPTERS)
    assert not found["does_not_fit"]
    (one,) = found["targets"]
    runs = plan.runs_of("table1")
    rules = {rule: cost["jobs"] for rule, cost in one["rules"].items()}
    assert one["runs"] == len(runs) == 25
    sources = len(plan.models_of("table1")) + len(plan.datasets_of("table1"))
    assert rules == {
        "download": sources,
        "quantize": 0,
        "finetune": len(runs),
        "generate": len(runs),
        "measure": len(runs),
        "score": len(runs),
    }


def test_all_experiments_have_each_run_of_the_plan_once() -> None:
    config = Config(device="gpu")
    plan, found = resolve(config), estimate([], "h200", config)
    assert [one["name"] for one in found["targets"]] == list(plan.tables)
    assert not found["does_not_fit"]
    assert found["total"]["runs"] == len(plan.runs)
    assert found["total"]["rules"]["finetune"]["jobs"] == len(plan.runs)
    assert found["total"]["rules"]["quantize"]["jobs"] == len(plan.quantized)


def test_shared_runs_are_counted_once() -> None:
    """Figure 2 is made of the runs of Tables 1, 2 and 4."""
    names = ["table1", "table2", "table4"]
    alone, more = (estimate(some, "h200", ADAPTERS) for some in (names, [*names, "figure2"]))
    assert more["total"]["gpu_hours"] == pytest.approx(alone["total"]["gpu_hours"])
    last = more["targets"][-1]
    assert last["name"] == "figure2"
    assert last["gpu_hours"] == 0
    assert last["shared_runs"] == last["runs"] == 17
    sums = sum(one["gpu_hours"] for one in more["targets"])
    assert more["total"]["gpu_hours"] == pytest.approx(sums)


def test_runs_that_others_wait_for_are_counted() -> None:
    """Table 5's retained updates are parts of a full fine-tuning: without it none of them is made."""
    found = estimate(["table5"], "h200", PAPER)
    assert [".full." in one["run"] for one in found["does_not_fit"]] == [True]
    assert len(found["wait_for_them"]) == 15
    assert found["targets"][0]["left_out_runs"] == 16


def test_full_fine_tuning_of_8b_is_refused_with_advice(table1: dict) -> None:
    full = [one for one in table1["does_not_fit"] if one["run"].startswith("llama3-8b")]
    assert len(table1["does_not_fit"]) == 3
    assert all(".full." in one["run"] for one in table1["does_not_fit"])
    (one,) = full
    assert one["need_gb"] > 18 * 8.03
    for words in (
        "optimizer states 64.2",
        "no smaller micro batch",
        "no single bigger GPU",
        "an adapter instead of full fine-tuning (DiaBlo N = 64",
    ):
        assert words in one["text"]


def test_what_would_help_is_said() -> None:
    """Table 7's 32 examples of up to 1,024 tokens: a smaller micro batch, checkpointing, a bigger card."""
    found = estimate(["table7"], "a100-80", PAPER)
    texts = {one["run"].split(".")[2]: one["text"] for one in found["does_not_fit"]}
    assert "micro_batch_size: 16 instead of 32" in texts["diablo-n320"]
    assert "gradient_checkpointing: true" in texts["diablo-n320"]
    assert "a bigger GPU (h200)" in texts["diablo-n320"]


def test_a_model_that_cannot_be_served_is_refused() -> None:
    config = PAPER.model_copy(update={"filters": Filters(only=["llama-13b", "zero-shot"])})
    (one,) = estimate(["table1"], "rtx4090", config)["does_not_fit"]
    assert one["rule"] == "generate"
    assert "a100-40" in one["text"]


@pytest.mark.parametrize("method", ["lora", "diablo"])
def test_adapters_fit_80_gb(method: str, table1: dict) -> None:
    assert not any(f".{method}-" in one["run"] for one in table1["does_not_fit"])


@pytest.mark.parametrize("key", ["train", "test_per_task", "steps"])
@pytest.mark.slow
def test_larger_limits_cost_more(key: str) -> None:
    hours = []
    # Table 5 holds 256 training examples out, so that smaller limits of `train` are refused.
    for value in (512, 1024, 4096, 10_000_000):
        config = ADAPTERS.model_copy(update={"limits": Limits(**{key: value})})
        hours.append(estimate(["table1"], "h100", config)["total"]["gpu_hours"])
    assert hours == sorted(hours)
    assert hours[0] < hours[-1]


def test_ranges_hold_the_estimate_and_say_why(table1: dict) -> None:
    total = table1["total"]
    assert total["gpu_hours_low"] < total["gpu_hours"] < total["gpu_hours_high"]
    assert table1["unmeasured_card"]["why"]
    assert all(table1["ranges"].values())
    used = {rule for rule, cost in total["rules"].items() if cost["jobs"]}
    assert set(table1["rests_on"]) == used
    assert estimate(["table9"], "h200", PAPER)["unmeasured_card"] is None


def test_the_command_prints_the_table_and_then_refuses(capsys) -> None:
    assert main(["estimate", "table1", "--scale", "paper", "--gpu", "h100"]) == 2
    out, err = capsys.readouterr()
    assert "What the numbers rest on" in out
    assert "not measured" in out
    assert err.count(".full.") == 3
    assert "--skip METHOD" in err
    arguments = ["--scale", "paper", "--gpu", "h100", "--skip", "full"]
    assert main(["estimate", "table1", *arguments]) == 0


def test_the_command_as_json_with_a_config(tmp_path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("scale: paper\nlimits: {train: 64}\nfilters: {only: [llama2-7b]}\n")
    common = ["estimate", "table1", "--config", str(config), "--skip", "full", "--json"]
    assert main(common) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["scale"] == "paper"
    assert first["targets"][0]["runs"] == 10
    assert main([*common, "--limits", "{test_per_task: 10}"]) == 0
    second = json.loads(capsys.readouterr().out)
    rules = [one["total"]["rules"] for one in (first, second)]
    assert rules[0]["finetune"] == rules[1]["finetune"]
    assert rules[1]["generate"]["gpu_hours"] < rules[0]["generate"]["gpu_hours"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel1"], "did you mean 'table1'"),
        (["table1", "--gpu", "h10"], "did you mean 'h100'"),
        (["table1", "--limits", "{trian: 3}"], "did you mean 'train'"),
        (["table1", "--skip", "lorra"], "did you mean 'lora'"),
    ],
)
def test_unknown_names_are_refused(arguments: list[str], message: str, capsys) -> None:
    assert main(["estimate", *arguments]) == 2
    assert message in capsys.readouterr().err
