"""Suites without task files: a user's pattern, and LoRI's protocol, scored through lm-eval alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from scoring_cases import store

from diablo.data.protocol import OWN, Decoding, load_protocol, own_protocol, protocol_of
from diablo.generation.answers import StopAtAnswer
from diablo.generation.prompts import suite_prompts
from diablo.io import write_jsonl
from diablo.scoring import score
from diablo.scoring.accuracy import TASKS, task_name
from diablo.scoring.lm_tasks import suite_task
from diablo.specs import SuiteSpec

PROTOCOL = {
    "prompt": "{{{{ {q} }}}}\n", "response": "is {answer}", "pattern": r"is (-?\d+|\[.*?\])", "max_length": 64,
    "max_new_tokens": 8, "stop": ["\n\n"],
}  # fmt: skip

#: (answer, completion, what is read, whether it counts)
CASES = [
    ("12", "it is 12.", "12", 1),
    ("12", "it is 12, is 13", "12", 1),
    ("12", "it is 13, is 12", "13", 0),
    ("12", "12", None, 0),
    ("12", "", None, 0),
    ("007", "is 7", "7", 0),
    ("[1]", "is [1]", "[1]", 1),
]


def own_suite(folder: Path, task: str = "my task", **fields) -> SuiteSpec:
    records = [
        {"id": str(n), "task": task, "q": f"{{{{ {n} }}}}", "answer": answer}
        for n, (answer, *_) in enumerate(CASES)
    ]
    write_jsonl(folder / "test.jsonl", records)
    return SuiteSpec(
        suite="mine", variant=OWN, dataset="d", data_path=str(folder), tasks=[task],
        decoding={"num_beams": 1, "max_new_tokens": 8, "stop": ["\n\n"]},
        protocol=PROTOCOL | fields,
    )  # fmt: skip


def test_a_pattern_is_scored_as_read(tmp_path: Path) -> None:
    suite = own_suite(tmp_path)
    said = {str(n): text for n, (_, text, *_) in enumerate(CASES)}
    case = store(tmp_path, suite, lambda prompt: said[prompt.id])
    # Braces are text, also to lm-eval's templates.
    assert case.rows[0]["prompt"] == "{{ {{ 0 }} }}\n"
    entry = score(case.spec, suite, case.path, case.out)["tasks"]["my task"]
    found = [(o["answer"], o["extracted"], o["correct"]) for o in entry["outcomes"]]
    assert found == [(answer, read, right) for answer, _, read, right in CASES]
    assert (entry["n"], entry["value"]) == (7, pytest.approx(3 / 7))


@pytest.mark.parametrize(
    ("pattern", "text", "read"),
    [
        (r"\d+", "a 12 b 13", "12"),
        (r"<(.*?)>", "< 5 >", "5"),
        (r"(?:no|(yes))", "no", None),
        (r"(a)(b)", "ab", "a"),
    ],
)
def test_group_one_if_there_is_one(pattern: str, text: str, read: str | None) -> None:
    protocol = own_protocol("s", "{q}", "{answer}", 64, pattern=pattern)
    assert protocol.extract("any task", "the prompt says 99", text) == read


def test_a_pattern_never_ends_a_completion_early(tmp_path: Path) -> None:
    protocol = protocol_of(own_suite(tmp_path))
    assert StopAtAnswer.of(object(), Decoding(), protocol, ["my task"]) is None


def test_a_field_that_the_prompt_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record 1 has no 'question'"):
        suite_prompts(own_suite(tmp_path, prompt="{question}"))


@pytest.mark.parametrize("variant", ["paper", "released", "peer"])
def test_a_declared_suite_needs_no_task_files(tmp_path: Path, variant: str) -> None:
    protocol = load_protocol("commonsense_lori", variant)
    records = [
        {"id": f"{task}/{n}", "task": task, "instruction": f"{task} {n}?", "answer": labels[n]}
        for task, labels in protocol.labels.items()
        for n in range(2)
    ]
    write_jsonl(tmp_path / "test.jsonl", records)
    suite = SuiteSpec(
        suite="commonsense_lori", variant=variant, dataset="d", data_path=str(tmp_path),
        tasks=list(protocol.labels), decoding={"num_beams": 1, "max_new_tokens": 8, "stop": []},
    )  # fmt: skip
    prefix = "the correct answer is " if variant == "released" else ""
    case = store(tmp_path, suite, lambda p: prefix + protocol.labels[p.task][0])
    scores = score(case.spec, suite, case.path, case.out)
    assert {task: entry["value"] for task, entry in scores["tasks"].items()} == dict.fromkeys(protocol.labels, 0.5)  # fmt: skip
    frame = protocol.prompt_for_evaluation({"instruction": "piqa 1?"})
    assert frame in {row["prompt"] for row in case.rows}


def test_tasks_without_a_file_say_what_the_files_say(tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    write_jsonl(
        tmp_path / "test.jsonl",
        [{"id": "1", "task": "boolq", "instruction": "?", "answer": "true"}],
    )
    name = task_name("boolq", "paper")
    where = {"data": str(tmp_path)}
    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata=where)
    suite = SuiteSpec(
        suite="commonsense", variant="paper", dataset="d", data_path=str(tmp_path), tasks=["boolq"],
        decoding={"num_beams": 4, "max_new_tokens": 32, "stop": []},
    )  # fmt: skip
    file = manager.load([name])["tasks"][name]
    built = manager.load([suite_task(suite, "boolq", name)])["tasks"][name]
    # Functions are bound otherwise, and the files say whose they are.
    differ = {"custom_dataset", "filter_list", "dataset_kwargs", "metadata"}
    ours, theirs = (
        {key: value for key, value in task.config.items() if key not in differ}
        for task in (built, file)
    )
    assert ours == theirs
    assert built.dataset["test"].to_list() == file.dataset["test"].to_list()
    for task in (built, file):
        (pipeline,) = task.config["filter_list"]
        assert [step["function"] for step in pipeline["filter"]] == ["custom", "take_first"]
