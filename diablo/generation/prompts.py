"""The evaluation prompts of a suite: which records are asked, and in which words.

Generation, scoring and the lm-eval tasks all take their prompts from here, so that they cannot
disagree about the subset or the frame. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diablo.data.protocol import Decoding, Protocol, protocol_of, unknown
from diablo.data.reading import Reading
from diablo.io import read_jsonl


@dataclass(frozen=True)
class Prompt:
    """One question: its record in the data file, and as the model sees it (`text`)."""

    text: str
    record: Mapping[str, Any]

    @property
    def task(self) -> str:
        return self.record["task"]

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def answer(self) -> str:
        """What counts as correct."""
        return self.record["answer"]


def suite_prompts(suite: Any) -> list[Prompt]:
    """The prompts of a SuiteSpec that are asked, task by task, each task in the order of the data file.

    Raises:
        ValueError: see `load_prompts`.
    """
    protocol = protocol_of(suite)
    tasks = protocol.asked(suite.tasks)
    return load_prompts(suite.data_path, protocol, tasks, suite.limit_per_task)


def suite_answers(suite: Any) -> list[Prompt]:
    """The prompts of a SuiteSpec's tasks, asked or not, whose records have a gold answer.

    Raises:
        ValueError: see `load_prompts`; or if no record has one.
    """
    protocol = protocol_of(suite)
    prompts = load_prompts(suite.data_path, protocol, suite.tasks, suite.limit_per_task)
    found = [prompt for prompt in prompts if protocol.target(prompt.record).strip()]
    if not found:
        raise ValueError(f"{suite.data_path}: no record of suite {suite.suite!r} has a gold answer")
    return found


def suite_decoding(suite: Any) -> Decoding:
    """The decoding of a SuiteSpec; ValueError if it has a key that Decoding does not know."""
    valid = list(Decoding.__dataclass_fields__)
    for key in suite.decoding:
        if key not in valid:
            raise ValueError(unknown("decoding key", key, valid, f"suite {suite.suite!r}"))
    return Decoding(**suite.decoding)


def prompt_decoding(decoding: Decoding, prompt: Prompt) -> Decoding:
    """How one prompt is decoded; any choice by its record is made here."""
    return decoding.of_record(prompt.record)


def load_prompts(
    data_path: str | Path, protocol: Protocol, tasks: Iterable[str], limit: int | None = None
) -> list[Prompt]:
    """The prompts of `tasks`, taken from `<data_path>/test.jsonl`.

    Args:
        data_path: data set folder.
        protocol: frames the prompts and knows how each task's answer is read.
        tasks: names of tasks; every one must be in the file.
        limit: at most so many records of each task (see `subset`); None for all.

    Raises:
        ValueError: file missing, record incomplete, task unknown or absent, id given twice, or an
            answer that the protocol could never extract.
    """
    path = Path(data_path) / "test.jsonl"
    fields = ["id", "task", *protocol.fields, "answer"]
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; a data set folder holds test.jsonl (one record a line with "
            f"{', '.join(fields)}): build it with `diablo download`, or correct the path"
        )
    by_task: dict[str, list[dict]] = {}
    for number, record in enumerate(read_jsonl(path), start=1):
        for field in fields:
            if field not in record:
                raise ValueError(f"{path}: record {number} has no {field!r}")
        by_task.setdefault(record["task"], []).append(record)
    prompts = []
    for task in tasks:
        reading = protocol.reading(task)
        if task not in by_task:
            raise ValueError(unknown("task", task, by_task, f"{path} (tasks it has)"))
        _check(path, protocol, reading, by_task[task])
        for record in subset(_asked(path, protocol, task, by_task[task]), limit):
            prompts.append(Prompt(protocol.prompt_for_evaluation(record), record))
    return prompts


def subset(records: list[dict], limit: int | None) -> list[dict]:
    """The first `limit` records by SHA-256 of their id, in the order of `records`.

    The choice depends on nothing but the ids: the same on every machine, and a smaller limit
    chooses a part of what a larger one chooses.
    """
    if limit is None or limit >= len(records):
        return records
    ranked = sorted(record["id"] for record in records)
    ranked.sort(key=lambda name: hashlib.sha256(name.encode("utf-8")).hexdigest())
    chosen = set(ranked[:limit])
    return [record for record in records if record["id"] in chosen]


def _asked(path: Path, protocol: Protocol, task: str, records: list[dict]) -> list[dict]:
    """The records of a task that the protocol asks at all: whole batches, where it says so."""
    batch = protocol.whole_batches.get(task, 1)
    asked = records[: len(records) // batch * batch]
    if not asked:
        raise ValueError(
            f"{path}: task {task!r} has {len(records)} records, but protocol {protocol.suite!r}, "
            f"variant {protocol.variant!r}, asks whole batches of {batch} only; take another variant"
        )
    return asked


def _check(path: Path, protocol: Protocol, reading: Reading, records: list[dict]) -> None:
    task = records[0]["task"]
    twice = [name for name, n in Counter(record["id"] for record in records).items() if n > 1]
    if twice:
        raise ValueError(f"{path}: task {task!r} has id {twice[0]!r} more than once")
    for record in records:
        if refusal := reading.refusal(record["answer"]):
            raise ValueError(
                f"{path}: {task} {record['id']!r}: answer {record['answer']!r} {refusal}; "
                f"protocol {protocol.suite!r} could never read it"
            )
