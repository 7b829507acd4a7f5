"""The loss on gold answers: against a plain forward pass, whatever shares its batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from generation_cases import TASKS, records
from scoring_cases import suite_of
from torch.nn.functional import log_softmax

from diablo.data.arithmetic import as_records
from diablo.data.protocol import load_protocol
from diablo.io import read_json, write_json, write_jsonl
from diablo.scoring.answer_loss import answer_losses, measure_held_out, measure_suite


def spec_of(model: Path, **fields) -> SimpleNamespace:
    values = {
        "run": "run", "method": "zero-shot", "model_path": str(model), "precision": "fp32",
        "suite": "commonsense", "variant": "paper", "protocol": None, "held_out": 0,
        "train_limit": None, "seed": 0,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **fields})


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "run" / "adapter" / "provenance.json", {})
    return tmp_path / "run"


def by_hand(model_path: Path, record: dict, suite: str = "commonsense") -> tuple[float, int]:
    """One example alone: the sum of the answer tokens' negative log-probabilities."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    protocol = load_protocol(suite, "paper")
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    prompt = tokenizer(protocol.prompt_for_evaluation(record))["input_ids"]
    answer = tokenizer(record["output"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
    logs = log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
    return -sum(logs[i, token].item() for i, token in enumerate(answer)), len(answer)


def test_each_example_is_what_a_pass_of_its_own_gives(tiny_model: Path, dataset: Path, run_folder: Path) -> None:  # fmt: skip
    losses = measure_suite(spec_of(tiny_model), suite_of(dataset), run_folder)
    assert losses == read_json(run_folder / "losses" / "commonsense.json")
    assert list(losses["tasks"]) == TASKS
    wanted = {(r["task"], r["id"]): by_hand(tiny_model, r) for r in records()}
    for task, entry in losses["tasks"].items():
        assert entry["n"] == len(entry["examples"]) == sum(t == task for t, _ in wanted)
        for example in entry["examples"]:
            nll, tokens = wanted[task, example["id"]]
            assert example["nll"] == pytest.approx(nll, rel=1e-4)
            assert example["tokens"] == tokens
        total = sum(wanted[task, e["id"]][0] for e in entry["examples"])
        assert entry["value"] == pytest.approx(total / entry["tokens"], rel=1e-4)
    assert losses["value"] == pytest.approx(
        sum(entry["value"] for entry in losses["tasks"].values()) / len(TASKS)
    )


def test_the_cap_of_the_suite_holds(tiny_model: Path, dataset: Path, run_folder: Path) -> None:
    losses = measure_suite(spec_of(tiny_model), suite_of(dataset, limit_per_task=1), run_folder)
    assert {entry["n"] for entry in losses["tasks"].values()} == {1}


def test_a_trial_is_judged_on_what_it_left_out(tiny_model: Path, tmp_path: Path, run_folder: Path) -> None:  # fmt: skip
    from diablo.training.examples import split

    write_jsonl(tmp_path / "data" / "train.jsonl", records())
    spec = spec_of(tiny_model, held_out=3, data_path=str(tmp_path / "data"), seed=5)
    losses = measure_held_out(spec, run_folder)
    measured = {(t, e["id"]) for t, entry in losses["tasks"].items() for e in entry["examples"]}
    _, left_out = split(records(), 3, 5)
    assert measured == {(r["task"], r["id"]) for r in left_out}


def test_a_run_that_held_nothing_out_says_so(tiny_model: Path, run_folder: Path) -> None:
    with pytest.raises(ValueError, match="held_out is 0"):
        measure_held_out(spec_of(tiny_model), run_folder)


def test_an_empty_answer_is_refused_by_name(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    record = records()[0] | {"output": ""}
    with pytest.raises(ValueError, match=record["id"]):
        answer_losses(model, AutoTokenizer.from_pretrained(tiny_model), load_protocol("commonsense", "paper"), [record])  # fmt: skip


def test_a_test_question_without_a_worked_answer_is_measured_on_the_answer_alone(
    tiny_model: Path, tmp_path: Path, run_folder: Path
) -> None:
    rows = as_records("gsm8k", [{"instruction": "How many?", "answer": "576"}])
    rows += as_records("aqua", [{"instruction": "Which? (A) 1 (B) 2", "answer": "B"}])
    assert [row["output"] for row in rows] == ["The answer is: 576", "The answer is: B"]
    write_jsonl(tmp_path / "test.jsonl", rows)
    suite = suite_of(tmp_path, suite="math10k", tasks=["gsm8k", "aqua"])
    losses = measure_suite(spec_of(tiny_model, suite="math10k"), suite, run_folder)
    for row in rows:
        nll, tokens = by_hand(tiny_model, row, "math10k")
        (example,) = losses["tasks"][row["task"]]["examples"]
        assert (example["nll"], example["tokens"]) == (pytest.approx(nll, rel=1e-4), tokens)
