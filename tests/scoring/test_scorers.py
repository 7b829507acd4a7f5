"""score() by the suite's scorer: who is called with what, several completions, entries of whole sets."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from generation_cases import TASKS
from scoring_cases import store, suite_of

from diablo.data.protocol import Entry, load_protocol
from diablo.generation.turns import second_prompts
from diablo.io import read_json, write_jsonl
from diablo.scoring import score
from diablo.scoring.options import Scored, ScoreOptions
from diablo.scoring.set_metrics import f1, matthews, with_error

DRAWN = {"num_beams": 1, "max_new_tokens": 32, "stop": [], "temperature": 0.5, "top_p": 1.0, "samples": 2, "seed": 0}  # fmt: skip


def declare(monkeypatch, **changes) -> None:
    """Let the commonsense suite's protocol be another one."""
    protocol = replace(load_protocol("commonsense", "paper"), **changes)
    for module in ("diablo.scoring", "diablo.scoring.accuracy", "diablo.generation.prompts"):
        monkeypatch.setattr(f"{module}.protocol_of", lambda spec: protocol)


@pytest.fixture
def scorer(monkeypatch):
    """A scorer of code that notes what it is given and leaves a file in its work folder."""
    seen = SimpleNamespace(calls=[], scored=Scored({}), fail=False)

    def score_code(suite, prompts, stored, work_folder, options) -> Scored:
        seen.calls.append((suite, prompts, stored, work_folder, options))
        work_folder.mkdir(parents=True, exist_ok=True)
        (work_folder / "done.jsonl").touch()
        if seen.fail:
            raise ValueError("no sandbox")
        return seen.scored

    module = ModuleType("diablo.scoring.code")
    module.score_code = score_code
    monkeypatch.setitem(sys.modules, "diablo.scoring.code", module)
    declare(monkeypatch, scorer="code")
    return seen


def test_a_suite_has_its_own_scorer(dataset, tmp_path, scorer, capsys) -> None:
    suite = suite_of(dataset, decoding=DRAWN)
    case = store(tmp_path, suite, lambda prompt: prompt.id)
    rows = [row | {"completions": [row["id"], "other"]} for row in case.rows]
    write_jsonl(case.path, rows)
    entry = {
        "task": "boolq", "n": 7, "metric": "pass@1", "unit": "%", "value": 0.5,
        "stderr": None, "outcomes": [],
    }  # fmt: skip
    scorer.scored = Scored({"boolq_pass1": entry}, {"sandbox": "bubblewrap"})
    options = ScoreOptions(unsafe_execution=True, workers=2)
    work = tmp_path / "work"
    scores = score(case.spec, suite, case.path, case.out, work, options)

    ((_, prompts, stored, folder, given),) = scorer.calls
    assert len(prompts) == len(stored) == 7 * len(TASKS)
    assert stored["boolq", "boolq/3"] == (prompts[3].text, ["boolq/3", "other"])
    assert (folder, given) == (work, options)
    assert scores == read_json(case.out)
    assert scores["tasks"] == {"boolq_pass1": entry | {"available": 7}}
    assert scores["average"] is None
    assert scores["provenance"]["sandbox"] == "bubblewrap"
    assert not work.exists()
    assert "boolq_pass1: pass@1 0.5000 ± nan (n = 7 of 7)" in capsys.readouterr().out


def test_what_a_scorer_keeps_is_still_there_after_it_failed(dataset, tmp_path, scorer) -> None:
    suite = suite_of(dataset, decoding=DRAWN)
    case = store(tmp_path, suite, lambda prompt: "")
    write_jsonl(case.path, [row | {"completions": ["a", "b"]} for row in case.rows])
    scorer.fail = True
    with pytest.raises(ValueError, match="no sandbox"):
        score(case.spec, suite, case.path, case.out, tmp_path / "work")
    assert (tmp_path / "work" / "done.jsonl").exists()
    assert not case.out.exists()


def test_every_prompt_has_all_its_samples(dataset, tmp_path, scorer) -> None:
    suite = suite_of(dataset, decoding=DRAWN)
    case = store(tmp_path, suite, lambda prompt: "")
    with pytest.raises(
        ValueError, match=r"boolq/0': has another number of completions than 2 \(and"
    ):
        score(case.spec, suite, case.path, case.out)
    assert not scorer.calls


def test_an_accuracy_is_of_one_completion(dataset, tmp_path) -> None:
    suite = suite_of(dataset, decoding=DRAWN)
    case = store(tmp_path, suite, lambda prompt: "")
    write_jsonl(case.path, [row | {"completions": ["a", "b"]} for row in case.rows])
    with pytest.raises(ValueError, match="accuracy needs exactly one completion"):
        score(case.spec, suite, case.path, case.out)


def test_an_unknown_scorer_is_refused(dataset, tmp_path, monkeypatch) -> None:
    declare(monkeypatch, scorer="cod")
    suite = suite_of(dataset)
    case = store(tmp_path, suite, lambda prompt: "")
    with pytest.raises(ValueError, match="unknown scorer 'cod'; did you mean 'code'"):
        score(case.spec, suite, case.path, case.out)


def test_statistics_of_a_set_stand_beside_the_accuracy(dataset, tmp_path, monkeypatch) -> None:
    entries = {
        "boolq": Entry("boolq"),
        "piqa": Entry("piqa"),
        "boolq_f1": Entry("boolq", "f1"),
        "piqa_matthews": Entry("piqa", "matthews"),
    }
    declare(monkeypatch, declared_entries=entries)
    suite = suite_of(dataset, tasks=["boolq", "piqa"])

    def answer(prompt) -> str:
        """Wrong about the second example, which is of the second label; silent about the sixth, too."""
        number = int(prompt.id.split("/")[1])
        first = load_protocol("commonsense", "paper").labels[prompt.task][0]
        said = first if number == 1 else prompt.answer
        return "" if number == 5 else f"the correct answer is {said}"

    case = store(tmp_path, suite, answer)
    scores = score(case.spec, suite, case.path, case.out)
    assert list(scores["tasks"]) == list(entries)
    assert all("reading_of" not in entry for entry in scores["tasks"].values())
    tasks = scores["tasks"]
    assert tasks["boolq"]["outcomes"] == tasks["boolq_f1"]["outcomes"]
    assert tasks["boolq_f1"]["positive"] == "false"
    assert "positive" not in tasks["piqa_matthews"]
    # One of three of the second label is found, and nothing else is taken for it.
    assert tasks["boolq_f1"]["value"] == 2 / (1 + 3)
    assert tasks["piqa_matthews"]["value"] == pytest.approx(12 / math.sqrt(24 * 22))
    for name, statistic in (("boolq_f1", f1("false")), ("piqa_matthews", matthews)):
        entry = tasks[name]
        pairs = [(one["answer"], one["extracted"]) for one in entry["outcomes"]]
        assert (entry["value"], entry["stderr"]) == with_error(statistic, pairs)
        assert (entry["n"], entry["available"], entry["unit"]) == (7, 7, "%")
    # The mean is of the accuracies alone.
    assert scores["average"] == (tasks["boolq"]["value"] + tasks["piqa"]["value"]) / 2


def test_answers_of_a_second_turn_belong_to_the_first_ones(tmp_path, monkeypatch) -> None:
    records = [
        {
            "id": str(i),
            "task": "mtbench",
            "instruction": f"What is {i}?",
            "answer": "x",
            "output": "x",
        }
        for i in range(2)
    ]
    records[1]["instruction2"] = "And more?"
    write_jsonl(tmp_path / "data" / "test.jsonl", records)
    fields = {"suite": "mtbench", "tasks": ["mtbench"], "second_turn": True}
    suite = suite_of(tmp_path / "data", **fields)
    case = store(tmp_path, suite, lambda prompt: f"answer {prompt.id}")
    seen = {}

    def score_chat(suite, prompts, stored, work_folder, options) -> Scored:
        seen.update(stored)
        return Scored({})

    monkeypatch.setattr("diablo.scoring.chat.score_chat", score_chat)
    with pytest.raises(ValueError, match="mtbench_turn2 '1': not generated"):
        score(case.spec, suite, case.path, case.out)
    (asked,) = second_prompts(suite, case.rows)
    row = {"task": "mtbench_turn2", "id": "1", "prompt": asked.text, "completions": ["more"]}
    write_jsonl(case.path, [*case.rows, row])
    score(case.spec, suite, case.path, case.out)
    assert "answer 1" in asked.text
    assert seen["mtbench_turn2", "1"] == (asked.text, ["more"])
    assert len(seen) == 3
    # Asked after another answer than the stored one.
    write_jsonl(case.path, [*case.rows, row | {"prompt": asked.text.replace("answer 1", "other")}])
    with pytest.raises(ValueError, match="mtbench_turn2 '1': generated for a prompt that is not"):
        score(case.spec, suite, case.path, case.out)
