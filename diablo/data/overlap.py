"""No training question may occur in a test set: the check of a built data set, and what it compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diablo.data.commonsense import Record, normalised, question_key
from diablo.io import read_jsonl, write_json

#: Fields that say nothing about which question a record asks.
NOT_ASKED = ("id", "task", "output", "answer", "source")


def key(record: Record) -> str:
    """One key for a question: words and numbers only, lower case.

    Commonsense questions lose their preamble and the order of their options too. An `input` is a part
    of the question. A user's own record is compared by all its fields but the answer and its names.
    """
    instruction = record.get("instruction")
    if not isinstance(instruction, str):
        asked = {name: value for name, value in record.items() if name not in NOT_ASKED}
        return normalised(json.dumps(asked, sort_keys=True, ensure_ascii=False))
    if "Answer format: " in instruction:
        return question_key(instruction)
    return normalised(f"{instruction} {record.get('input') or ''}")


def check_overlap(folder: str | Path, out_path: str | Path) -> dict[str, Any]:
    """Compare the training questions of a data set folder with its test questions.

    Args:
        folder: holds train.jsonl, test.jsonl or both.
        out_path: written (atomically) only if no question is in both.

    Returns:
        What was written: records of each split and distinct questions.

    Raises:
        ValueError: if the folder has neither file, or a training question occurs in the test set;
            names the records.
    """
    folder = Path(folder)
    found: dict[str, dict[str, list[str]]] = {}
    for split in ("train", "test"):
        path = folder / f"{split}.jsonl"
        found[split] = {}
        for record in read_jsonl(path) if path.is_file() else []:
            found[split].setdefault(key(record), []).append(f"{record['task']} {record['id']}")
    if not any(found.values()):
        raise ValueError(f"{folder}: no records in train.jsonl or test.jsonl; build it first")
    both = [question for question in found["train"] if question in found["test"]]
    if both:
        pairs = [f"{', '.join(found['train'][q])} = {', '.join(found['test'][q])}" for q in both]
        raise ValueError(
            f"{folder}: {len(both)} question(s) of train.jsonl occur in test.jsonl (training = test): "
            + "; ".join(pairs)
        )
    report: dict[str, Any] = {"overlaps": 0}
    for split, questions in found.items():
        records = sum(map(len, questions.values()))
        report[split] = {"records": records, "questions": len(questions)}
    write_json(out_path, report)
    return report
