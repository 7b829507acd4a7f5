"""Generated exercises: right answers, formats, disjointness, length, determinism."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from diablo.data import standins
from diablo.data.catalog import load_catalog
from diablo.data.overlap import key
from diablo.data.protocol import load_protocol
from diablo.scoring.strict import Strict

SETS = {
    "arithmetic_generated": "math10k",
    "metamath_generated": "metamath",
    "gsm8k_generated": "gsm8k",
}
PHRASES = {"gsm8k_generated": "The final answer is: "}


def build(name: str, **options):
    dataset = load_catalog().dataset(name)
    small = {**dataset.options, "train_per_task": 150, "test_per_task": 50, **options}
    return standins.build_exercises(dataset.model_copy(update={"options": small}), {})


@pytest.fixture(scope="module", params=SETS)
def made(request):
    return request.param, *build(request.param)


def test_sizes_tasks_and_disjointness(made):
    name, splits, facts = made
    protocol = load_protocol(SETS[name], "paper")
    for split, each in (("train", 150), ("test", 50)):
        tasks = [record["task"] for record in splits[split]]
        assert {task: tasks.count(task) for task in protocol.tasks} == dict.fromkeys(protocol.tasks, each)  # fmt: skip
    records = splits["train"] + splits["test"]
    assert len({record["id"] for record in records}) == len(records)
    test = {key(record) for record in splits["test"]}
    assert not any(key(record) in test for record in splits["train"])
    assert facts["generators"] == dict.fromkeys(protocol.tasks, "chain_sum")


def test_every_variant_reads_the_answer_from_the_worked_one(made):
    name, splits, _ = made
    for variant in ("paper", "released-without-letters_as_numbers", "peer"):
        protocol = load_protocol(SETS[name], variant)
        for record in splits["train"] + splits["test"]:
            phrase = PHRASES.get(name, "The answer is: ")
            assert record["output"].endswith(f"\n{phrase}{record['answer']}")
            prompt = protocol.prompt_for_evaluation(record)
            found = protocol.extract(record["task"], prompt, protocol.target(record))
            assert protocol.correct(record["task"], found, record["answer"]), record
            assert protocol.reading(record["task"]).refusal(record["answer"]) is None


def value(record) -> str:
    """The answer by our own reckoning, from the question alone."""
    question = record["instruction"]
    if record["task"] in ("gsm8k", "svamp"):
        signed = re.findall(r"(has|gets|loses) (\d+)", question)
        return str(sum(int(n) * (-1 if verb == "loses" else 1) for verb, n in signed))
    if record["task"] == "mawps":
        sign, number, total = re.search(r"(plus|minus) (\d+) is (\d+)", question).groups()
        return str(int(total) + int(number) * (1 if sign == "minus" else -1))
    if record["task"] == "aqua":
        a, sign, b = re.match(r"(\d+) ([+-]) (\d+) = \?", question).groups()
        total = int(a) + int(b) if sign == "+" else int(a) - int(b)
        return re.search(rf"\(([A-E])\) {total}( |$)", question).group(1)
    if "frac" in question:
        (a, c), (b, _) = re.findall(r"\\frac\{(\d+)\}\{(\d+)\}", question)
        total = Fraction(int(a) + int(b), int(c))
        return rf"\frac{{{total.numerator}}}{{{total.denominator}}}"
    if "sqrt" in question:
        (a, root), (b, _) = re.findall(r"(\d+)\\sqrt\{(\d+)\}", question)
        return rf"{int(a) + int(b)}\sqrt{{{root}}}"
    (letter, a), (_, b) = re.findall(r"([a-z])\^\{(\d+)\}", question)
    return f"{letter}^{{{int(a) + int(b)}}}"


def test_answers_are_right_by_our_own_reckoning(made):
    for record in made[1]["train"] + made[1]["test"]:
        assert record["answer"] == value(record), record
        for a, sign, b, total in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)\.", record["output"]):
            assert int(a) + int(sign + b) == int(total)


def test_latex_answers_are_of_three_kinds_and_boxed(made):
    name, splits, _ = made
    if name != "metamath_generated":
        pytest.skip("has no LaTeX")
    answers = [record["answer"] for record in splits["train"] if record["task"] == "math"]
    kinds = [sum(mark in answer for answer in answers) for mark in ("frac", "sqrt", "^")]
    assert min(kinds) > 20
    assert sum(kinds) == len(answers)
    for record in splits["train"]:
        if record["task"] == "math":
            assert f"\\boxed{{{record['answer']}}}" in record["output"]


def test_choices_are_five_and_the_right_one_is_anywhere(made):
    name, splits, _ = made
    if name != "arithmetic_generated":
        pytest.skip("has no choices")
    records = [record for record in splits["train"] if record["task"] == "aqua"]
    for record in records:
        options = re.findall(r"\([A-E]\) (\w+|-\d+)", record["instruction"])
        assert len(set(options)) == 5
    counts = [sum(r["answer"] == letter for r in records) for letter in "ABCDE"]
    assert min(counts) > 10


def test_same_seed_same_records_and_another_seed_others():
    name = "metamath_generated"
    assert build(name)[0] == build(name)[0]
    dataset = load_catalog().dataset(name)
    source = dataset.sources[0].model_copy(update={"seed": 1})
    options = {**dataset.options, "train_per_task": 150, "test_per_task": 50}
    other = dataset.model_copy(update={"sources": [source], "options": options})
    assert standins.build_exercises(other, {})[0]["test"] != build(name)[0]["test"]


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match="unknown task 'gsm'; did you mean 'gsm8k'"):
        build("metamath_generated", tasks=["gsm"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_whole_sets_exist_and_are_short(name, smollm2):
    from transformers import AutoTokenizer

    splits, _ = standins.build_exercises(load_catalog().dataset(name), {})
    assert (len(splits["train"]), len(splits["test"])) == (12800, 500 if name == "gsm8k_generated" else 250 * len(load_protocol(SETS[name], "paper").tasks))  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    lengths = [len(tokenizer(record["output"])["input_ids"]) for record in splits["test"]]
    assert max(lengths) <= 44
    assert sum(lengths) / len(lengths) <= 32


@pytest.mark.slow
def test_who_only_repeats_the_question_is_not_right_by_either_reading():
    protocol, strict = load_protocol("metamath", "paper"), Strict()
    for record in build("metamath_generated", test_per_task=12)[0]["test"]:
        said = f"\n### Instruction:\n{record['instruction']}\n\n### Response:\n"
        assert protocol.extract(record["task"], "", said) is None
        assert not strict.correct(strict.extract("", said), record["answer"]), record


def test_no_question_shows_its_answer(made):
    for record in made[1]["train"] + made[1]["test"]:
        if record["task"] in ("gsm8k", "svamp", "mawps"):
            assert record["answer"] not in re.findall(r"\d+", record["instruction"])
