"""Generated stand-ins: right answers, balance, disjointness, determinism, formats."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from diablo.data import standins
from diablo.data.catalog import load_catalog
from diablo.data.commonsense import normalised
from diablo.data.prepare import download_dataset
from diablo.data.protocol import load_protocol
from diablo.data.standin_tasks import TASKS as SPECS
from diablo.data.standin_tasks import WORDS
from diablo.io import read_json, read_jsonl

TASKS = list(SPECS)
#: Labels of each task; the protocol knows one more answer of ARC and others than is used here.
LABELS = {
    "boolq": ["false", "true"],
    "piqa": ["solution1", "solution2"],
    "social_i_qa": ["answer1", "answer2", "answer3"],
    "hellaswag": ["ending1", "ending2", "ending3", "ending4"],
    "winogrande": ["option1", "option2"],
    "arc_easy": ["answer1", "answer2", "answer3", "answer4"],
    "arc_challenge": ["answer1", "answer2", "answer3", "answer4"],
    "openbookqa": ["answer1", "answer2", "answer3", "answer4"],
}


SMALL = {"train": 1600, "test_per_task": 64}


@pytest.fixture(scope="module")
def dataset():
    return load_catalog().dataset("commonsense_generated")


@pytest.fixture(scope="module")
def splits(dataset):
    """A smaller set than the catalogue's, made in the same way."""
    return standins.build(dataset.model_copy(update={"options": SMALL}), {})[0]


def options(record) -> list[str]:
    word = record["answer"][:-1].capitalize()
    body = record["instruction"].split("\n\n", 1)[1]
    return [part.strip() for part in re.split(rf"{word}\d: ", body)[1:]]


def chosen(record) -> str:
    return options(record)[int(record["answer"][-1]) - 1]


def question(record) -> str:
    return record["instruction"].split("\n\n")[0].split(": ", 1)[1]


def of(splits, task):
    return [r for split in splits.values() for r in split if r["task"] == task]


def test_sizes_and_ids(splits):
    assert len(splits["train"]) == 1600
    assert Counter(r["task"] for r in splits["train"]) == dict.fromkeys(TASKS, 200)
    assert Counter(r["task"] for r in splits["test"]) == dict.fromkeys(TASKS, 64)
    ids = [r["id"] for split in splits.values() for r in split]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("task", TASKS)
def test_formats_are_those_of_the_protocol(splits, task):
    labels = load_protocol("commonsense", "paper").labels[task]
    assert set(LABELS[task]) <= set(labels)
    for record in of(splits, task):
        assert record["output"] == f"the correct answer is {record['answer']}"
        if task != "boolq":
            assert len(options(record)) == len(set(options(record))) == len(LABELS[task])


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_balanced(splits, task):
    for records in splits.values():
        counts = Counter(r["answer"] for r in records if r["task"] == task)
        assert sorted(counts) == LABELS[task]
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("task", TASKS)
def test_training_and_test_share_no_problem(splits, task):
    keys = [normalised(question(r)) for r in of(splits, task)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("task", TASKS)
def test_answers_agree_with_the_generator(splits, task):
    import reasoning_gym

    spec = SPECS[task]
    entries = reasoning_gym.create_dataset(
        spec.generator, size=standins.MOST_ENTRIES, seed=0, **spec.config
    )
    for record in of(splits, task):
        generator, index = record["source"].split("/")
        assert generator == spec.generator
        entry = entries[int(index)]
        if task == "boolq":
            assert record["answer"] == str(entry["answer"] == "Yes").lower()
        elif task == "social_i_qa":
            assert chosen(record) == NUMBERS[len(entry["answer"].lstrip("-"))]
        elif task == "arc_challenge":
            assert int(chosen(record)) == len(entry["answer"])
        elif task == "piqa":
            assert chosen(record) == entry["answer"].lower()
        else:
            assert entries.score_answer(chosen(record), entry) == 1.0


NUMBERS = {1: "one", 2: "two", 3: "three"}


def follows(premise: str, conclusion: str) -> bool:
    """Immediate inference between categorical statements, terms taken to have members (Aristotle)."""
    forms = {}
    for text in (premise, conclusion):
        kind, rest = text.split(" ", 1)
        subject, predicate = rest.split(" are ")
        if predicate.startswith("not "):
            kind, predicate = "some not", predicate.removeprefix("not ")
        forms[text] = (kind, subject, predicate)
    (kind, a, b), (other, c, d) = forms[premise], forms[conclusion]
    same, turned = (c, d) == (a, b), (c, d) == (b, a)
    allowed = {
        "all": {("all", "same"), ("some", "same"), ("some", "turned")},
        "no": {("no", "same"), ("no", "turned"), ("some not", "same"), ("some not", "turned")},
        "some": {("some", "same"), ("some", "turned")},
        "some not": {("some not", "same")},
    }[kind]
    return ((other, "same") in allowed and same) or ((other, "turned") in allowed and turned)


def test_answers_are_right_by_our_own_reckoning(splits):
    for record in of(splits, "boolq"):
        premise, conclusion = re.search(r"if (.*), then (.*)\?", record["instruction"]).groups()
        assert record["answer"] == str(follows(premise, conclusion)).lower(), record["instruction"]
    for record in of(splits, "piqa"):
        word = re.search(r"spell (\w+) backward", record["instruction"]).group(1)
        assert chosen(record) == word[::-1]
        assert sorted(options(record)) == sorted([word, word[::-1]])
    for record in of(splits, "arc_challenge"):
        word = re.search(r"how many letters has (\w+)", record["instruction"]).group(1)
        assert chosen(record) == str(len(word))
    for record in of(splits, "winogrande"):
        first, second, ask = question(record).split(". ")
        name = next(s.split()[0] for s in (first, second) if s.split(" ", 1)[1] in ask)
        assert chosen(record) == name
    for task in ("arc_easy", "social_i_qa"):
        for record in of(splits, task):
            text = question(record).removesuffix(" = ?").removesuffix("?")
            a, operator, b = text.removeprefix("how many digits has ").split()
            value = int(a) + int(b) if operator == "+" else int(a) - int(b)
            wanted = str(value) if task == "arc_easy" else NUMBERS[len(str(abs(value)))]
            assert chosen(record) == wanted


def test_easy_tasks_have_words_for_wrong_options(splits):
    for task in ("hellaswag", "arc_easy"):
        for record in of(splits, task):
            assert [o for o in options(record) if o not in WORDS] == [chosen(record)]


@pytest.mark.slow
def test_same_seed_same_bytes_in_another_process(dataset, tmp_path):
    download_dataset("commonsense_generated", tmp_path / "a")
    code = (
        "import sys; from diablo.data.prepare import download_dataset;"
        "download_dataset('commonsense_generated', sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "b")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "77"})
    for split in ("train", "test"):
        a, b = (tmp_path / x / f"{split}.jsonl" for x in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_another_seed_gives_other_problems(dataset, splits):
    other = dataset.model_copy(
        update={
            "sources": [dataset.sources[0].model_copy(update={"seed": 1})],
            "options": SMALL,
        }
    )
    assert standins.build(other, {})[0]["test"] != splits["test"]


def test_sizes_are_options(dataset):
    small = dataset.model_copy(update={"options": {"train": 16, "test_per_task": 3}})
    splits, _ = standins.build(small, {})
    assert (len(splits["train"]), len(splits["test"])) == (16, 24)
    bad = dataset.model_copy(update={"options": {"train": 15, "test_per_task": 3}})
    with pytest.raises(ValueError, match="multiple of 8"):
        standins.build(bad, {})


def test_generator_that_is_too_small_is_an_error(dataset, monkeypatch):
    monkeypatch.setattr(standins, "MOST_ENTRIES", 50)
    with pytest.raises(ValueError, match="different problems in 50 entries"):
        standins.build(dataset, {})


@pytest.mark.slow
def test_provenance_says_that_they_are_stand_ins(tmp_path):
    download_dataset("commonsense_generated", tmp_path / "out")
    facts = read_json(tmp_path / "out" / "provenance.json")
    assert "stand in" in facts["stand_in"]
    assert facts["counts"]["test"]["boolq"] == {"n": 250, "answers": {"false": 125, "true": 125}}
    assert facts["seed"] == 0
    assert len(read_jsonl(tmp_path / "out" / "train.jsonl")) == 12800
