"""score(): counts, standard errors, and refusal of generations that do not fit."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from generation_cases import TASKS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scoring_cases import store, suite_of

from diablo.data.protocol import load_protocol
from diablo.io import read_json, write_json, write_jsonl
from diablo.scoring import score


def right_or_silent(prompt) -> str:
    """Answers the even-numbered examples, says nothing to the others."""
    even = int(prompt.id.split("/")[1]) % 2 == 0
    return f"the correct answer is {prompt.answer}" if even else ""


@pytest.mark.parametrize("variant", ["paper", "released", "peer"])
def test_counts_and_standard_errors(dataset, tmp_path, variant):
    suite = suite_of(dataset, variant=variant)
    case = store(tmp_path, suite, right_or_silent)
    scores = score(case.spec, suite, case.path, case.out)
    assert scores == read_json(case.out)
    assert (scores["suite"], scores["variant"], scores["run"]) == ("commonsense", variant, "run")
    assert list(scores["tasks"]) == TASKS
    for task, entry in scores["tasks"].items():
        p = 4 / 7
        assert (entry["n"], entry["metric"], entry["value"]) == (7, "acc", pytest.approx(p))
        assert entry["available"] == 7
        assert entry["stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 6))
        assert entry["outcomes"][:2] == [
            {"id": f"{task}/0", "correct": 1, "extracted": entry["outcomes"][0]["answer"]}
            | {"answer": entry["outcomes"][0]["answer"]},
            {"id": f"{task}/1", "correct": 0, "extracted": None}
            | {"answer": entry["outcomes"][1]["answer"]},
        ]
    assert scores["average"] == pytest.approx(4 / 7)
    assert scores["provenance"]["generated"]["run"] == "run"
    assert str(case.path) in scores["provenance"]["inputs"]


def test_limit_and_single_example(dataset, tmp_path, capsys):
    suite = suite_of(dataset, tasks=["piqa"], limit_per_task=1)
    case = store(tmp_path, suite, lambda prompt: prompt.answer)
    entry = score(case.spec, suite, case.path, case.out)["tasks"]["piqa"]
    assert (entry["n"], entry["value"], entry["stderr"]) == (1, 1.0, None)
    assert entry["available"] == 7
    assert "(n = 1 of 7)" in capsys.readouterr().out


def test_order_of_the_file_does_not_matter(dataset, tmp_path):
    suite = suite_of(dataset)
    case = store(tmp_path, suite, right_or_silent)
    first = score(case.spec, suite, case.path, case.out)
    write_jsonl(case.path, case.rows[::-1])
    assert score(case.spec, suite, case.path, case.out)["tasks"] == first["tasks"]


def change(rows, index, **fields):
    return [{**row, **fields} if i == index else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:-1], r"social_i_qa 'social_i_qa/6': not generated; run `diablo gen"),
        (lambda rows: rows[3:], r"boolq 'boolq/0': not generated \(and 2 more\)"),
        (lambda rows: [*rows, rows[4]], r"boolq 'boolq/4': generated more than once"),
        (lambda rows: [*rows, {**rows[0], "id": "x"}], r"boolq 'x': not in this suite"),
        (lambda rows: change(rows, 8, prompt="?"), r"piqa 'piqa/1': generated for a prompt that"),
        (
            lambda rows: change(rows, 8, completions=[]),
            r"piqa 'piqa/1': has another number of completions than 1",
        ),
        (
            lambda rows: change(rows, 8, completions=["", ""]),
            r"'piqa/1': has another number of completions than 1",
        ),
    ],
)
def test_generations_that_do_not_fit_are_refused(dataset, tmp_path, spoil, message):
    suite = suite_of(dataset)
    case = store(tmp_path, suite, right_or_silent)
    write_jsonl(case.path, spoil(case.rows))
    with pytest.raises(ValueError, match=message):
        score(case.spec, suite, case.path, case.out)
    assert not case.out.exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"run": "other"}, "run is 'other', to be scored is 'run'"),
        ({"variant": "peer"}, "variant is 'peer', to be scored is 'paper'"),
        ({"decoding": {"num_beams": 4}}, "decoding is .* run `diablo generate` again"),
    ],
)
def test_generations_of_something_else_are_refused(dataset, tmp_path, made, message):
    suite = suite_of(dataset)
    case = store(tmp_path, suite, right_or_silent)
    write_json(case.path.with_suffix(".provenance.json"), case.made | made)
    with pytest.raises(ValueError, match=message):
        score(case.spec, suite, case.path, case.out)


def test_generations_without_provenance_are_refused(dataset, tmp_path):
    suite = suite_of(dataset)
    case = store(tmp_path, suite, right_or_silent)
    case.path.with_suffix(".provenance.json").unlink()
    with pytest.raises(ValueError, match="without provenance are not scored"):
        score(case.spec, suite, case.path, case.out)


PIECES = [
    "the correct answer is ",
    "true",
    "False",
    "solution2",
    "answer1",
    "answer5",
    " ",
    "\n",
    "x",
]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    variant=st.sampled_from(["paper", "released", "peer"]),
    texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=5), min_size=21, max_size=21),
)
def test_score_is_the_direct_count(dataset, variant, texts):
    suite = suite_of(dataset, variant=variant)
    protocol = load_protocol("commonsense", variant)
    said = iter(texts)
    with tempfile.TemporaryDirectory() as folder:
        case = store(Path(folder), suite, lambda prompt: "".join(next(said)))
        scores = score(case.spec, suite, case.path, case.out)
    answers = {
        (task, outcome["id"]): outcome["answer"]
        for task in TASKS
        for outcome in scores["tasks"][task]["outcomes"]
    }
    for task in TASKS:
        rows = [row for row in case.rows if row["task"] == task]
        read = [protocol.extract(task, row["prompt"], row["completions"][0]) for row in rows]
        hits = [label == answers[task, row["id"]] for label, row in zip(read, rows, strict=True)]
        entry = scores["tasks"][task]
        assert [outcome["extracted"] for outcome in entry["outcomes"]] == read
        assert [outcome["correct"] for outcome in entry["outcomes"]] == hits
        assert entry["value"] == pytest.approx(sum(hits) / 7)
