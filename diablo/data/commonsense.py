"""The commonsense data sets: files in several formats -> one training set and eight test sets."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from diablo.data.catalog import Dataset
from diablo.data.formats import READERS
from diablo.data.protocol import unknown
from diablo.data.source_kinds import GeneratedSource, GithubSource, HfFileSource, PypiSource

Record = dict[str, Any]
Splits = dict[str, list[Record]]
#: Records (or rows, before they have ids) of one split by task.
Parts = dict[str, list[Record]]
#: From a file and the split that is wanted to its rows.
Reader = Callable[[Path, str], list[Record]]

#: So many different answers of a task are counted one by one, if none has more letters than that.
FEW = 20


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read all parts, remove training rows that a test set holds too, and mix the training set.

    Args:
        dataset: the catalogue's entry; option `expect_test` gives each test set's size.
        files: path of each source, by the source's name.

    Returns:
        The records of each split, and facts for the provenance. A training set of several tasks is
        ordered by the hash of its ids, so that any first part of it is a fair mix; a single file
        keeps its order (Commonsense-170k is already mixed).

    Raises:
        ValueError: if a file's format is unknown or a test set has not the expected size.
    """
    return assemble(dataset, files, READERS, as_records, without_overlaps)


def assemble(
    dataset: Dataset,
    files: dict[str, Path],
    readers: Mapping[str, Reader],
    as_records: Callable[[str, list[dict[str, Any]]], list[Record]],
    without_overlaps: Callable[[Parts, Parts], tuple[Parts, dict[str, dict[str, int]]]],
) -> tuple[Splits, dict[str, Any]]:
    """`build` with the readers, records and rule for overlaps of one kind of data set."""
    rows = read_parts(dataset, files, readers)
    parts = {
        split: {task: as_records(task, found) for task, found in tasks.items()}
        for split, tasks in rows.items()
    }
    expect(parts["test"], dataset.options.get("expect_test", {}))
    facts: dict[str, Any] = {}
    if parts["train"] and parts["test"]:
        parts["train"], facts["overlaps_removed"] = without_overlaps(parts["train"], parts["test"])
    return joined(parts), facts


def read_parts(
    dataset: Dataset, files: dict[str, Path], readers: Mapping[str, Reader]
) -> dict[str, Parts]:
    """Rows of each split by task; files of the same part follow each other.

    Raises:
        ValueError: if a file's format is unknown.
    """
    parts: dict[str, Parts] = {"train": {}, "test": {}}
    for source in dataset.sources:
        if isinstance(source, GeneratedSource):
            continue
        assert isinstance(source, GithubSource | HfFileSource | PypiSource), "single files are read"
        kind, part = str(source.format), str(source.part)
        if kind not in readers:
            raise ValueError(unknown("format", kind, readers, source.name))
        task, split = part.split("/")
        parts[split].setdefault(task, []).extend(readers[kind](files[source.name], split))
    return parts


def joined(parts: dict[str, Parts]) -> Splits:
    """The splits that have any part; training records of several tasks in the order of their ids' hashes."""
    splits = {
        split: [record for records in tasks.values() for record in records]
        for split, tasks in parts.items()
        if tasks
    }
    if len(parts["train"]) > 1:
        splits["train"].sort(key=lambda record: hashlib.sha256(record["id"].encode()).digest())
    return splits


def as_records(task: str, rows: Iterable[dict[str, str]]) -> list[Record]:
    """Rows with `instruction` and `answer` as records of the pipeline; ids count from 0."""
    return [
        {
            "id": f"{task}/{number}",
            "task": task,
            "instruction": row["instruction"],
            "output": f"the correct answer is {row['answer']}",
            "answer": row["answer"],
        }
        for number, row in enumerate(rows)
    ]


def expect(tests: Parts, sizes: dict[str, int]) -> None:
    """ValueError if a test set has not the size that the catalogue means."""
    for task, size in sizes.items():
        found = len(tests.get(task, []))
        if found != size:
            raise ValueError(
                f"test set of {task}: {found} questions, expected {size}; the source file is not "
                "the one that the catalogue means"
            )


def without_overlaps(
    train: dict[str, list[Record]], test: dict[str, list[Record]]
) -> tuple[dict[str, list[Record]], dict[str, dict[str, int]]]:
    """Remove the training rows whose question occurs in any test set.

    Returns:
        The training rows that stay, and for each task: `rows` removed, distinct `questions` among
        them, and how many of these have their options in another order (`reordered`).
    """
    keys: dict[str, set[str]] = defaultdict(set)
    for records in test.values():
        for record in records:
            stem, options = question_parts(record["instruction"])
            keys[question_key(record["instruction"])].add("|".join([stem, *options]))
    kept: dict[str, list[Record]] = {}
    removed: dict[str, dict[str, int]] = {}
    for task, records in train.items():
        clashes = [r for r in records if question_key(r["instruction"]) in keys]
        clash_ids = {record["id"] for record in clashes}
        kept[task] = [record for record in records if record["id"] not in clash_ids]
        questions = {question_key(r["instruction"]): r["instruction"] for r in clashes}
        reordered = 0
        for key, instruction in questions.items():
            stem, options = question_parts(instruction)
            reordered += "|".join([stem, *options]) not in keys[key]
        removed[task] = {
            "rows": len(clashes),
            "questions": len(questions),
            "reordered": reordered,
        }
    return kept, removed


_OPTION = re.compile(r"\b(?:Answer|Solution|Option|Ending)\d: ")


def question_parts(instruction: str) -> tuple[str, list[str]]:
    """The normalised question and its options: no preamble, no answer format, words only."""
    body = re.split(r"\s+Answer format: ", instruction)[0]
    body = body.split(": ", 1)[-1]
    question, *options = _OPTION.split(body)
    if "\n\nEnding1: " in body:
        # HellaSwag's training rows lack the activity label: the four long endings are the key.
        question = ""
    return normalised(question), [normalised(option) for option in options]


def question_key(instruction: str) -> str:
    """One key for a question however it is cased, punctuated and its options are ordered."""
    question, options = question_parts(instruction)
    return "|".join([question, *sorted(options)])


def normalised(text: str) -> str:
    """Lower case, words and numbers only, single spaces."""
    return " ".join(re.sub(r"[\W_]+", " ", text.lower()).split())


def summary(splits: Splits) -> dict[str, Any]:
    """Number of records and of each answer, by split and task; no answers where they are many or long."""
    result: dict[str, Any] = {}
    for split, records in splits.items():
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for record in records:
            answers[record["task"]][record["answer"]] += 1
        result[split] = {
            task: {"n": counts.total()}
            | ({"answers": dict(sorted(counts.items()))} if _are_labels(counts) else {})
            for task, counts in sorted(answers.items())
        }
    return result


def _are_labels(answers: Iterable[str]) -> bool:
    answers = list(answers)
    return len(answers) <= FEW and max(map(len, answers)) <= FEW
