"""Suites of arithmetic reasoning through lm-eval: verdicts by the protocol and by math-verify."""

from __future__ import annotations

import pytest
from scoring_cases import store, suite_of

from diablo.data.protocol import load_protocol
from diablo.generation.answers import StopAtAnswer
from diablo.io import read_json, write_jsonl
from diablo.scoring import score

#: (task, gold, completion, right by the protocol, right by math-verify)
CASES = {
    "metamath": [
        ("gsm8k", "18.0", "9 + 9 = 18. The answer is: 18", 1, 1),
        ("gsm8k", "18.0", "9 + 9 = 18", 0, 1),
        ("gsm8k", "1000", "The answer is: 1,000 dollars", 1, 1),
        ("gsm8k", "18.0", "The answer is: 19", 0, 0),
        ("math", r"\frac{1}{2}", r"The answer is: \dfrac12.", 1, 1),
        ("math", r"\frac{1}{2}", r"The answer is: \frac{2}{4}", 0, 1),
        ("math", r"\frac{1}{2}", r"The answer is: \frac{1}{", 0, 0),
    ],
    "math10k": [
        ("gsm8k", "3", "1 + 2 = 3", 1, 1),
        ("svamp", "3.0", "2", 0, 0),
        ("svamp", "3.0", "The answer is: 3.0", 1, 1),
        ("mawps", "-15.0", "The answer is: -15", 1, 1),
        ("aqua", "B", "A man has B) 3. The answer is: B", 1, None),
        ("aqua", "B", "Each: C", 0, None),
    ],
}


@pytest.mark.parametrize("suite", CASES)
def test_scores_and_strict_entries(suite, tmp_path):
    cases = CASES[suite]
    protocol = load_protocol(suite, "paper")
    records = [
        {"id": f"{task}/{n}", "task": task, "instruction": f"{n}?", "answer": gold}
        for n, (task, gold, *_) in enumerate(cases)
    ]
    write_jsonl(tmp_path / "test.jsonl", records)
    asked = suite_of(
        tmp_path,
        suite=suite,
        tasks=protocol.tasks,
        decoding=protocol.decoding.as_dict(),
    )
    said = {record["id"]: case[2] for record, case in zip(records, cases, strict=True)}
    case = store(tmp_path, asked, lambda prompt: said[prompt.id])
    scores = score(case.spec, asked, case.path, case.out)
    assert scores == read_json(case.out)
    assert list(scores["tasks"]) == list(protocol.entries)
    for task in protocol.tasks:
        mine = [n for n, (name, *_) in enumerate(cases) if name == task]
        entry = scores["tasks"][task]
        assert "reading_of" not in entry
        assert [o["correct"] for o in entry["outcomes"]] == [cases[n][3] for n in mine]
        if task in protocol.strict:
            strict = scores["tasks"][f"{task}_strict"]
            assert strict["reading_of"] == task
            assert strict.keys() - {"reading_of"} == entry.keys()
            assert [o["correct"] for o in strict["outcomes"]] == [cases[n][4] for n in mine]
            assert [o["id"] for o in strict["outcomes"]] == [o["id"] for o in entry["outcomes"]]
            assert strict["value"] == sum(cases[n][4] for n in mine) / len(mine)
    values = [scores["tasks"][task]["value"] for task in protocol.tasks]
    assert scores["average"] == pytest.approx(sum(values) / len(values))


def test_gold_answers_that_no_completion_could_give_are_refused(tmp_path):
    write_jsonl(
        tmp_path / "test.jsonl",
        [{"id": "svamp/0", "task": "svamp", "instruction": "?", "answer": "three"}],
    )
    asked = suite_of(tmp_path, suite="math10k", tasks=["svamp"])
    with pytest.raises(ValueError, match="svamp 'svamp/0': answer 'three' is not a number"):
        store(tmp_path, asked, lambda prompt: "3")


@pytest.mark.parametrize("suite", CASES)
@pytest.mark.parametrize("variant", ["paper", "released", "peer"])
def test_no_completion_ends_early(suite, variant, tiny_model):
    """Another number or letter may still come."""
    from transformers import AutoTokenizer

    from diablo.data.protocol import Decoding

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    protocol = load_protocol(suite, variant)
    for task in protocol.tasks:
        assert StopAtAnswer.of(tokenizer, Decoding(), protocol, [task]) is None


def test_the_flaw_free_variant_of_a_suite_with_task_files_is_scored(dataset, tmp_path):
    suite = suite_of(dataset, variant="released-without-beams")
    case = store(tmp_path, suite, lambda prompt: f"the correct answer is {prompt.answer}")
    assert score(case.spec, suite, case.path, case.out)["average"] == 1
