"""Two turns: the second is asked after the first one's answer, and a killed job repeats neither."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from diablo.data.protocol import load_protocol
from diablo.generation import generate, turns
from diablo.generation import run as generation
from diablo.generation.prompts import suite_prompts
from diablo.generation.turns import generate_turns, second_prompts, second_task
from diablo.io import read_json, read_jsonl, write_jsonl

OPTIONS = {"backend": "transformers", "threads": 1}


@pytest.fixture
def conversations(tmp_path):
    """Three tests of MT-Bench's form, the second without a second turn."""
    records = [
        {
            "id": f"mtbench/{i}",
            "task": "mtbench",
            "category": "math",
            "instruction": f"What is {i} and {i}?",
            **({} if i == 1 else {"instruction2": f"And {i} more?"}),
            "output": str(2 * i),
            "answer": str(2 * i),
        }
        for i in range(3)
    ]
    write_jsonl(tmp_path / "data" / "test.jsonl", records)
    return tmp_path / "data"


@pytest.fixture
def suite(conversations, make_suite):
    fields = {"suite": "mtbench", "tasks": ["mtbench"], "data_path": str(conversations)}
    return make_suite(second_turn=True, **fields)


@pytest.fixture
def run_turns(make_run, suite, tmp_path):
    spec, folder = make_run(suite="mtbench")

    def run():
        path = tmp_path / "out.jsonl"
        generate_turns(spec, suite, folder, path, tmp_path / "work", **OPTIONS)
        return read_jsonl(path)

    return run


def test_the_second_turn_is_asked_after_the_first_ones_answer(
    run_turns, suite, make_run, tmp_path
) -> None:
    rows = run_turns()
    spec, folder = make_run(suite="mtbench")
    generate(spec, suite, folder, tmp_path / "one.jsonl", tmp_path / "other", **OPTIONS)
    assert rows[:3] == read_jsonl(tmp_path / "one.jsonl")
    assert [(row["task"], row["id"]) for row in rows[3:]] == [
        (second_task("mtbench"), "mtbench/0"),
        (second_task("mtbench"), "mtbench/2"),
    ]
    protocol = load_protocol("mtbench", "paper")
    for first, second in ((rows[0], rows[3]), (rows[2], rows[4])):
        record = next(p.record for p in suite_prompts(suite) if p.id == first["id"])
        answer = first["completions"][0]
        assert answer
        asked = protocol.prompt_for_second_turn(record, first["prompt"], answer)
        assert second["prompt"] == asked
        assert asked.startswith(first["prompt"] + answer.strip())
        assert record["instruction2"] in asked.removeprefix(first["prompt"])
        assert len(second["completions"]) == 1
    made = read_json(tmp_path / "out.provenance.json")
    assert (made["n"], made["second_turn"]["n"]) == (3, 2)
    assert not (tmp_path / "work").exists()


def test_what_the_model_is_given_is_what_is_stored(run_turns, tmp_path, tiny_model) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    row = run_turns()[3]
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    inputs = tokenizer(row["prompt"], return_tensors="pt")
    out = model.generate(inputs.input_ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
    new = out[0, inputs.input_ids.shape[1] :]
    assert row["completions"] == [tokenizer.decode(new, skip_special_tokens=True)]


def test_a_job_that_died_in_the_second_turn_does_not_repeat_the_first(
    run_turns, monkeypatch
) -> None:
    whole = run_turns()
    opened = []
    open_engine = generation.open_engine

    def counted(*arguments):
        opened.append(arguments)
        return open_engine(*arguments)

    def dies(*arguments, **options):
        if "prompts" in options:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(generation, "open_engine", counted)
    monkeypatch.setattr(turns, "generate", dies)
    with pytest.raises(KeyboardInterrupt):
        run_turns()
    assert len(opened) == 1
    monkeypatch.setattr(turns, "generate", generate)
    assert run_turns() == whole
    assert len(opened) == 2


def test_what_has_no_second_turn_is_told(suite, conversations, monkeypatch) -> None:
    rows = [{"task": "mtbench", "id": f"mtbench/{i}", "completions": ["so"]} for i in range(3)]
    assert len(second_prompts(suite, rows)) == 2
    with pytest.raises(ValueError, match="mtbench 'mtbench/2': the first turn was not generated"):
        second_prompts(suite, rows[:2])
    odd = replace(load_protocol("mtbench", "paper"), second_turn="\n{instruction2}")
    monkeypatch.setattr(turns, "protocol_of", lambda spec: odd)
    with pytest.raises(ValueError, match="`second_turn` must end as the prompt of a first turn"):
        second_prompts(suite, rows)
    monkeypatch.undo()
    path = conversations / "test.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [{k: v for k, v in r.items() if k != "instruction2"} for r in records])
    with pytest.raises(ValueError, match="no test has a second turn"):
        second_prompts(suite, rows)
