"""The demo's own data: functions with tests, refusals, instructions, sentences. Right, disjoint, the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from diablo.data import generated, made_safety
from diablo.data.catalog import load_catalog
from diablo.data.code_families import FAMILIES
from diablo.data.glue import LABELS
from diablo.data.overlap import key
from diablo.data.protocol import load_protocol
from diablo.data.source_kinds import PypiSource
from diablo.data.sources import fetch

GLUE = [f"glue_{task}_generated" for task in LABELS]
NAMES = ["code_generated", "safety_generated", "chat_generated", *GLUE]


def build(name: str, seed: int = 0, **options):
    dataset = load_catalog().dataset(name)
    made = [
        s.model_copy(update={"seed": seed}) if s.kind == "generated" else s for s in dataset.sources
    ]
    files = {s.name: fetch(s).path for s in made if isinstance(s, PypiSource)}
    small = {**dataset.options, "train": 400, **options}
    return generated.build(dataset.model_copy(update={"options": small, "sources": made}), files)[0]


@pytest.fixture(scope="module")
def splits():
    return {name: build(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_ids_differ_and_no_problem_is_in_both_splits(splits, name):
    records = splits[name]["train"] + splits[name]["test"]
    assert len({record["id"] for record in records}) == len(records)
    assert len({key(record) for record in records}) == len(records)
    assert len(splits[name]["train"]) == 400
    for record in records:
        assert record["output"]
        assert record["answer"]


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_makes_other_records(splits, name):
    other = build(name, seed=1)
    assert other["train"] != splits[name]["train"]
    if name != "safety_generated":  # its prompts are written by hand
        assert other["test"] != splits[name]["test"]


def test_the_same_seed_makes_the_same_records_in_any_process(splits):
    names = ["safety_generated", "chat_generated", *GLUE]
    script = (
        "import json, sys; from diablo.data import generated; from diablo.data.catalog import load_catalog\n"
        "for name in sys.argv[1:]:\n"
        "    dataset = load_catalog().dataset(name)\n"
        "    small = dataset.model_copy(update={'options': {**dataset.options, 'train': 400}})\n"
        "    print(json.dumps(generated.build(small, {})[0]))"
    )
    there = subprocess.run(
        [sys.executable, "-c", script, *names],
        env={**os.environ, "PYTHONHASHSEED": "5"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert [json.loads(line) for line in there.stdout.splitlines()] == [splits[n] for n in names]


def test_too_many_are_refused():
    with pytest.raises(
        ValueError, match=r"100000 rows are wanted, only .* different ones can be made"
    ):
        build("safety_generated", train=200_000)
    with pytest.raises(ValueError, match="unknown maker 'cod'; did you mean 'code'"):
        build("code_generated", maker="cod")


def passes(record: dict, body: str) -> bool:
    space: dict = {}
    try:
        exec(record["prompt"] + body + "\n" + record["test"], space)
        space["check"](space[record["entry_point"]])
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def functions(splits):
    return [r for r in splits["code_generated"]["test"] if r["task"] == "functions"]


def test_functions_pass_their_tests_and_empty_ones_do_not(functions):
    assert len(functions) == 60
    for record in functions:
        assert passes(record, record["answer"]), record
        argument = re.search(r"\((\w+)\)", record["prompt"])[1]
        for lazy in (
            "pass",
            f"return {argument}",
            "return 0",
            "return True",
            "return []",
            "return ''",
        ):
            assert not passes(record, f"\n    {lazy}"), (record, lazy)


def test_a_constant_that_is_off_by_one_fails(functions):
    tried = 0
    for record in functions:
        for number in re.finditer(r"(?<![\w])\d+", record["answer"]):
            if "% " in record["answer"] and number[0] == "0":
                continue  # what is left of a division
            near = str(int(number[0]) + 1)
            body = record["answer"][: number.start()] + near + record["answer"][number.end() :]
            assert not passes(record, body), (record, body)
            tried += 1
    assert tried > 40


def test_every_family_is_in_both_splits_and_says_its_constants(splits, functions):
    made = splits["code_generated"]["train"]
    for family in FAMILIES:
        pattern = re.sub(r"\\{.*?\\}", r"('\\w+'|\\w+)", re.escape(family.body))
        for records in (made, functions):
            assert any(re.search(f"    {pattern}$", r["output"]) for r in records), family.body
    for record in [*made, *functions]:
        body = record["output"].split("\n    ")[1]
        constants = re.findall(r"'(\w+)'|(?<![\w])(\d+)", body.replace("== 0", ""))
        for word, number in constants:
            assert (word or number) in re.findall(r"\w+", record["instruction"]), record


def test_functions_to_learn_from_are_whole_and_nothing_is_begun(splits):
    protocol = load_protocol("humaneval", "paper")
    for record in splits["code_generated"]["train"]:
        assert record["prompt"] == ""
        assert record["output"].startswith("def solve(")
        compile(record["output"], record["id"], "exec")
        assert all(stop not in record["output"] for stop in protocol.decoding.stop)
        assert record["output"].count("\n") == 1


def test_a_test_prompt_goes_on_where_training_would(splits, functions):
    protocol = load_protocol("humaneval", "paper")
    record = functions[0]
    whole = {**record, "output": record["prompt"] + record["output"], "prompt": ""}
    learnt = protocol.prompt_for_training(whole) + protocol.target(whole)
    assert learnt == protocol.prompt_for_evaluation(record) + protocol.target(record)


def test_twenty_problems_of_human_eval(splits):
    real = [r for r in splits["code_generated"]["test"] if r["task"] == "humaneval"]
    assert len(real) == 20
    assert all(r["id"].startswith("HumanEval/") for r in real)


def test_safety_has_two_dozen_of_each_and_half_refusals(splits):
    made = splits["safety_generated"]
    assert Counter(r["task"] for r in made["test"]) == {"hexphi": 24, "harmless": 24}
    assert Counter(r["answer"] for r in made["train"]) == {"refuse": 200, "comply": 200}
    for record in made["train"] + made["test"]:
        refuses = re.search(r"\b(can't|cannot|won't|sorry)\b", record["output"], re.I)
        assert bool(refuses) is (record["answer"] == "refuse"), record
        assert len(record["output"].split()) <= 20


def test_no_deed_of_a_harmful_test_is_in_training():
    taught = [deed for deeds in made_safety.HARMFUL.values() for deed in deeds]
    assert len(set(taught)) == len(taught) == 40
    for _, prompt in made_safety.HARMFUL_TESTS:
        assert not any(deed in prompt for deed in taught)
    harmless = {prompt for prompt, _ in made_safety.HARMLESS_TESTS}
    assert not any(deed in prompt for prompt in harmless for deed in made_safety.HARMLESS)
    # They look alike: most harmless tests have a verb that is harm elsewhere.
    verbs = "steal kill shoot break beat crack hide trick blow read cut cheat thief fake destroy"
    verbs += " fight lock sneak attack smash follow burn whip poach"
    alike = [p for p in harmless if set(verbs.split()) & set(re.findall(r"\w+", p))]
    assert len(alike) == 24


def test_chat_has_mt_bench_s_fields_and_one_right_answer(splits):
    test = splits["chat_generated"]["test"]
    questions = [r for r in test if r["task"] == "mtbench"]
    assert sorted(r["category"] for r in questions) == sorted(
        ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
    )
    for record in questions:
        assert record["reference"] == record["output"]
        assert record["reference2"] == record["output"].upper()
        assert record["instruction2"]
    assert Counter(r["task"] for r in test)["held_out"] == 64


def test_chat_answers_are_right_by_our_own_reckoning(splits):
    checked: Counter[str] = Counter()
    for record in splits["chat_generated"]["train"] + splits["chat_generated"]["test"]:
        asked, said = record["instruction"], record["output"]
        if found := re.fullmatch(r"What is (\d+) plus (\d+)\?", asked):
            assert said.endswith(f" is {int(found[1]) + int(found[2])}.")
            checked["math"] += 1
        elif asked.endswith("est?"):
            pairs = re.findall(r"(\w+) is \w+er than (\w+)", asked)
            (first,) = {a for a, _ in pairs} - {b for _, b in pairs}
            assert said.startswith(f"{first} is the ")
            checked["reasoning"] += 1
        elif asked.startswith("Put these years"):
            years = re.findall(r"\d{4}", asked)
            assert re.findall(r"\d{4}", said) == sorted(years)
            checked["humanities"] += 1
        elif asked.startswith("Find the"):
            answer = re.fullmatch(r"The \w+ is (\w+)\.", said)[1]
            assert re.search(rf"\b{answer}\b", asked)
            checked["extraction"] += 1
        elif found := re.fullmatch(r"How many legs have (\d+) (\w+) in all\?", asked):
            count, each = map(int, re.fullmatch(rf"{found[1]} {found[2]} have (\d+) legs, (\d) each\.", said).groups())  # fmt: skip
            assert count == int(found[1]) * each
            checked["stem"] += 1
    assert min(checked.values()) > 40
    assert len(checked) == 5


@pytest.mark.parametrize("name", GLUE)
def test_labels_are_balanced_and_are_the_protocol_s(splits, name):
    task = name.split("_")[1]
    for records in splits[name].values():
        counts = Counter(record["answer"] for record in records)
        assert set(counts) == set(LABELS[task]) == set(load_protocol("glue", "paper").labels[task])
        assert max(counts.values()) - min(counts.values()) <= 1
    pairs = 1 if task in ("cola", "sst2") else 2
    for record in splits[name]["train"]:
        assert len(record["instruction"].split("\n")) == pairs


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whole_sets_exist_and_are_short(name, smollm2):
    """A CPU trains a few hundred tokens a second."""
    from transformers import AutoTokenizer

    declared = load_catalog().dataset(name).options
    made = build(name, train=declared["train"])
    assert len(made["train"]) == declared["train"]
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    own = [r for r in made["train"] + made["test"] if r["task"] != "humaneval"]
    lengths = [len(tokenizer(r["instruction"] + r["output"])["input_ids"]) for r in own]
    assert max(lengths) <= (48 if name in GLUE else 64)
    assert sum(lengths) / len(lengths) <= 40
