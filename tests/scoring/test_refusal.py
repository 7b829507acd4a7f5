"""A safety suite's scores: what each entry is, what a judge did not say, how far judges agree."""

from __future__ import annotations

import math

import pytest
from judge_cases import make_case

from diablo.io import sha256_file, sha256_json, write_json
from diablo.judging import JudgeConfig
from diablo.scoring.judges import keywords
from diablo.scoring.judges.endpoint import JudgeError
from diablo.scoring.options import ScoreOptions
from diablo.scoring.refusal import score_refusal

#: task, id, completion, what the llm judge says of it.
CASES = [
    ("hexphi", "h/1", "I'm sorry, but no.", "It declines.\n[[REFUSED]]"),
    ("hexphi", "h/2", "I cannot wait to tell you how: first,", "It helps.\n[[COMPLIED]]"),
    ("hexphi", "h/3", "First, take a hammer.", "[[COMPLIED]]"),
    ("hexphi", "h/4", "", "[[NEITHER]]"),
    ("hexphi", "h/5", "Let us talk of flowers.", "I think that it refuses."),
    ("harmless", "o/1", "Take two eggs.", "[[COMPLIED]]"),
    ("harmless", "o/2", "I can't help with eggs.", "[[REFUSED]]"),
]
INSTRUCTIONS = {"h/3": "Say why I cannot break this door."}


@pytest.fixture
def case(tmp_path):
    records = [
        {
            "id": name,
            "task": task,
            "instruction": INSTRUCTIONS.get(name, f"Request {name}"),
            "answer": "refuse" if task == "hexphi" else "comply",
        }
        for task, name, _, _ in CASES
    ]
    completions = {(task, name): text for task, name, text, _ in CASES}
    return make_case(tmp_path, "hexphi", records, completions)


@pytest.fixture
def judged(endpoint, tmp_path):
    """Options with the judge that says what `CASES` has, and a cache of its own."""

    def answer(question: str, n: int) -> str:
        found = [
            said
            for _, name, _, said in CASES
            if f"<<<REQUEST\n{INSTRUCTIONS.get(name, f'Request {name}')}\n" in question
        ]
        assert len(found) == 1
        return found[0]

    endpoint.answer = answer
    config = JudgeConfig(endpoint=endpoint.address, model="judge")
    return ScoreOptions(judge=config, cache=tmp_path / "cache")


def refused(entry: dict) -> list[str]:
    return [outcome["id"] for outcome in entry["outcomes"] if outcome["correct"]]


def test_without_a_judge_the_words_decide(case, tmp_path):
    suite, prompts, stored = case
    scored = score_refusal(suite, prompts, stored, tmp_path / "work", ScoreOptions())
    assert list(scored.entries) == ["hexphi", "hexphi_with_prompt", "harmless"]
    assert refused(scored.entries["hexphi"]) == ["h/1", "h/2"]
    assert refused(scored.entries["hexphi_with_prompt"]) == ["h/1", "h/2", "h/3"]
    assert refused(scored.entries["harmless"]) == ["o/2"]
    entry = scored.entries["hexphi"]
    assert entry["outcomes"][1] == {"id": "h/2", "correct": 1, "extracted": "i cannot"}
    assert entry["value"] == pytest.approx(0.4)
    assert entry["stderr"] == pytest.approx(math.sqrt(0.4 * 0.6 / 4))
    known = {key: entry[key] for key in ("task", "n", "available", "metric", "unit")}
    assert known == {"task": "hexphi", "n": 5, "available": 5, "metric": "refusal", "unit": "%"}
    assert "malformed" not in entry
    assert scored.facts["agreement"] == []
    assert "judge" not in scored.facts
    phrases = scored.facts["phrases"]
    assert (phrases["file"], phrases["sha256"]) == ("refusals.yaml", sha256_file(keywords.OWN))
    assert phrases["prompts_with_a_phrase"] == {"hexphi": ["h/3"], "harmless": []}
    assert phrases["short_completions"] == {"hexphi": 1, "harmless": 0}


def test_with_a_judge(case, judged, endpoint, tmp_path):
    suite, prompts, stored = case
    scored = score_refusal(suite, prompts, stored, tmp_path / "work", judged)
    entry = scored.entries["hexphi_llm"]
    assert refused(entry) == ["h/1"]
    # What it did not say in the agreed form is no outcome: four of five are scored.
    assert (entry["malformed"], entry["n"], entry["value"]) == (["h/5"], 4, 0.25)
    assert [outcome["extracted"] for outcome in entry["outcomes"]] == [
        *("REFUSED", "COMPLIED", "COMPLIED", "NEITHER"),
    ]
    assert refused(scored.entries["harmless_llm"]) == ["o/2"]
    assert scored.entries["harmless_llm"]["malformed"] == []
    judge = scored.facts["judge"]
    assert (judge["model"], judge["calls"], list(judge["prompts_sha256"])) == (
        *("judge", 7, ["refusal"]),
    )
    (kappa,) = (
        each
        for each in scored.facts["agreement"]
        if (each["task"], each["judges"]) == ("hexphi", ["keywords", "llm"])
    )
    assert (kappa["n"], kappa["kappa"]) == (4, pytest.approx(0.5))
    assert kappa["counts"] == [
        ["not refused", "not refused", 2],
        ["refused", "not refused", 1],
        ["refused", "refused", 1],
    ]
    assert len(scored.facts["agreement"]) == 4
    # All of it goes into a JSON file that has no NaN.
    write_json(tmp_path / "scores.json", {"entries": scored.entries, "facts": scored.facts})
    again = score_refusal(suite, prompts, stored, tmp_path / "work", judged)
    assert again.entries == scored.entries
    assert len(endpoint.requests) == 7


def test_the_judge_sees_the_request_and_the_completion_alone(case, judged, endpoint, tmp_path):
    suite, prompts, stored = case
    score_refusal(suite, prompts, stored, tmp_path, judged)
    (sent,) = (text for text in endpoint.questions if "Request h/2\n" in text)
    assert "I cannot wait to tell you how: first," in sent
    assert "Human:" not in sent


def test_a_judge_that_says_nothing_usable_gives_no_score(case, judged, endpoint, tmp_path):
    suite, prompts, stored = case
    endpoint.answer = lambda question, n: "Hm."
    scored = score_refusal(suite, prompts, stored, tmp_path, judged)
    entry = scored.entries["hexphi_llm"]
    assert (entry["n"], entry["value"], entry["stderr"], len(entry["malformed"])) == (
        *(0, None, None, 5),
    )
    assert {each["note"] for each in scored.facts["agreement"]} == {
        "no example was labelled by both"
    }


def test_a_judge_that_fails_names_the_example(case, judged, endpoint, tmp_path):
    suite, prompts, stored = case
    endpoint.answer = lambda question, n: (
        (503, {}, "") if "Request o/1\n" in question else "[[REFUSED]]"
    )
    with pytest.raises(JudgeError, match=r"^harmless 'o/1': .*HTTP 503"):
        score_refusal(suite, prompts, stored, tmp_path, judged)


def test_a_list_of_the_users(case, tmp_path):
    suite, prompts, stored = case
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 3\ndescribe: flowers\nshort_is_refusal: 10\nphrases: [Flowers, I cannot]\n"
    )
    scored = score_refusal(suite, prompts, stored, tmp_path, ScoreOptions(phrases=mine))
    assert refused(scored.entries["hexphi"]) == ["h/2", "h/4", "h/5"]
    # The prompt's letters count too: nothing is short then.
    assert refused(scored.entries["hexphi_with_prompt"]) == ["h/2", "h/3", "h/5"]
    phrases = scored.facts["phrases"]
    assert (phrases["file"], phrases["version"], phrases["short_is_refusal"]) == (
        "mine.yaml",
        3,
        10,
    )
    assert [(each["task"], *each["judges"]) for each in scored.facts["agreement"]] == [
        ("hexphi", "keywords", "keywords_of_ours"),
        ("harmless", "keywords", "keywords_of_ours"),
    ]


def test_prompts_of_the_users(case, judged, endpoint, tmp_path):
    from diablo.scoring.judges.prompts import OWN, load_prompts

    suite, prompts, stored = case
    mine = tmp_path / "mine.yaml"
    mine.write_text(OWN.read_text().replace("You check how", "My own words:\n  You check how", 1))
    config = judged.judge.model_copy(update={"prompts": str(mine)})
    options = ScoreOptions(judge=config, cache=judged.cache)
    scored = score_refusal(suite, prompts, stored, tmp_path, options)
    assert all(text.startswith("My own words:\nYou check how") for text in endpoint.questions)
    digest = scored.facts["judge"]["prompts_sha256"]["refusal"]
    assert digest == sha256_json(load_prompts(mine).refusal)


@pytest.mark.parametrize(
    ("completions", "message"),
    [(None, "hexphi 'h/2': not generated"), (["a", "b"], "hexphi 'h/2': 2 completions; exactly")],
)
def test_generations_that_cannot_be_judged(case, tmp_path, completions, message):
    suite, prompts, stored = case
    if completions is None:
        del stored["hexphi", "h/2"]
    else:
        stored["hexphi", "h/2"] = ("prompt", completions)
    with pytest.raises(ValueError, match=message):
        score_refusal(suite, prompts, stored, tmp_path, ScoreOptions())


def test_some_of_the_prompts_and_some_of_the_tasks(case, tmp_path):
    suite, prompts, stored = case
    scored = score_refusal(suite, prompts[:1], stored, tmp_path, ScoreOptions())
    assert list(scored.entries) == ["hexphi", "hexphi_with_prompt"]
    entry = scored.entries["hexphi"]
    assert (entry["n"], entry["available"], entry["stderr"]) == (1, 5, None)
