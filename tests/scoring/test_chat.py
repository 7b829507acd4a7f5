"""A chat suite's scores: which prompt grades which answer, turn by turn, and what has no rating."""

from __future__ import annotations

import statistics

import pytest
from judge_cases import make_case

from diablo.io import write_json
from diablo.judging import JudgeConfig
from diablo.scoring.chat import score_chat
from diablo.scoring.judges.endpoint import JudgeError
from diablo.scoring.options import Scored, ScoreOptions

RECORDS = [
    {"id": "w", "category": "writing", "reference": "Never shown.", "instruction2": "Shorter."},
    {
        "id": "m",
        "category": "math",
        "reference": "It is 4.",
        "instruction2": "And 3 + 3?",
        "reference2": "It is 6.",
    },
    {"id": "c", "category": "Coding", "instruction2": "In C.", "reference2": "int main"},
    {"id": "r", "category": "reasoning", "reference": "The left one."},
]


@pytest.fixture
def case(tmp_path):
    records = [
        {"task": "mtbench", "instruction": f"Question {each['id']}?", "answer": "", **each}
        for each in RECORDS
    ]
    first = {("mtbench", each["id"]): f"First answer {each['id']}." for each in RECORDS}
    return make_case(tmp_path, "mtbench", records, first)


@pytest.fixture
def options(endpoint, tmp_path):
    config = JudgeConfig(endpoint=endpoint.address, model="judge")
    return ScoreOptions(judge=config, cache=tmp_path / "cache")


def second_turn(stored: dict) -> dict:
    seconds = {
        ("mtbench_turn2", each["id"]): ("the whole conversation", [f"Second answer {each['id']}."])
        for each in RECORDS
        if "instruction2" in each
    }
    return {**stored, **seconds}


def sent(endpoint, *needles: str) -> str:
    """The one question to the judge that has all of these."""
    (found,) = (text for text in endpoint.questions if all(each in text for each in needles))
    return found


def test_without_a_judge_nothing_is_made(case, tmp_path):
    suite, prompts, stored = case
    assert score_chat(suite, prompts, stored, tmp_path, ScoreOptions()) == Scored({}, {})


def test_first_turn(case, options, endpoint, tmp_path):
    suite, prompts, stored = case
    ratings = {"w": "Nice. Rating: [[8]]", "m": "[[1.5]]", "c": "I like it", "r": "[10]"}
    endpoint.answer = lambda question, n: next(
        said for name, said in ratings.items() if f"Question {name}?" in question
    )
    scored = score_chat(suite, prompts, stored, tmp_path, options)
    assert list(scored.entries) == ["mtbench"]
    entry = scored.entries["mtbench"]
    assert entry["outcomes"] == [
        {"id": "w", "correct": 8.0, "category": "writing"},
        {"id": "m", "correct": 1.5, "category": "math"},
        {"id": "r", "correct": 10.0, "category": "reasoning"},
    ]
    assert (entry["malformed"], entry["n"], entry["available"]) == (["c"], 3, 4)
    assert (entry["metric"], entry["unit"], entry["task"]) == ("rating", "points", "mtbench")
    assert entry["value"] == pytest.approx(6.5)
    assert entry["stderr"] == pytest.approx(statistics.stdev([8, 1.5, 10]) / 3**0.5)
    assert scored.facts["without_reference"] == {"mtbench": ["c"]}
    assert list(scored.facts["judge"]["prompts_sha256"]) == ["grade", "grade_reference"]
    write_json(tmp_path / "scores.json", {"entries": scored.entries, "facts": scored.facts})


def test_references_are_shown_where_answers_are_right_or_wrong(case, options, endpoint, tmp_path):
    suite, prompts, stored = case
    endpoint.answer = lambda question, n: "[[5]]"
    score_chat(suite, prompts, stored, tmp_path, options)
    assert len(endpoint.questions) == 4
    maths = sent(endpoint, "Question m?", "First answer m.")
    assert "<<<REFERENCE\nIt is 4.\nREFERENCE>>>" in maths
    assert "The left one." in sent(endpoint, "Question r?")
    assert "REFERENCE" not in sent(endpoint, "Question w?", "First answer w.")
    assert "REFERENCE" not in sent(endpoint, "Question c?")


def test_second_turn_is_graded_with_the_conversation(case, options, endpoint, tmp_path):
    suite, prompts, stored = case
    endpoint.answer = lambda question, n: "[[3]]" if "ANSWER 2" in question else "[[9]]"
    scored = score_chat(suite, prompts, second_turn(stored), tmp_path, options)
    first, second = scored.entries["mtbench"], scored.entries["mtbench_turn2"]
    assert ({each["correct"] for each in first["outcomes"]}, first["n"]) == ({9.0}, 4)
    assert [(each["id"], each["correct"]) for each in second["outcomes"]] == [
        *(("w", 3.0), ("m", 3.0), ("c", 3.0)),
    ]
    assert (second["available"], second["task"]) == (3, "mtbench")
    assert scored.facts["judge"]["calls"] == 7
    assert scored.facts["without_reference"] == {"mtbench": ["c"], "mtbench_turn2": ["c"]}
    maths = sent(endpoint, "Question m?", "First answer m.", "And 3 + 3?", "Second answer m.")
    assert maths.index("It is 4.") < maths.index("And 3 + 3?") < maths.index("It is 6.")
    assert "REFERENCE" not in sent(endpoint, "Second answer w.")
    assert "REFERENCE" not in sent(endpoint, "Second answer c.")


def test_a_second_turn_that_is_not_whole(case, options, endpoint, tmp_path):
    suite, prompts, stored = case
    both = second_turn(stored)
    del both["mtbench_turn2", "m"]
    with pytest.raises(ValueError, match="mtbench_turn2 'm': not generated"):
        score_chat(suite, prompts, both, tmp_path, options)
    assert endpoint.requests == []


def test_a_judge_that_fails_names_the_turn_and_the_example(case, options, endpoint, tmp_path):
    suite, prompts, stored = case
    endpoint.answer = lambda question, n: "close" if "Second answer c." in question else "[[9]]"
    with pytest.raises(JudgeError, match=r"^mtbench_turn2 'c': .*no reply in 7 attempts"):
        score_chat(suite, prompts, second_turn(stored), tmp_path, options)
