"""Data sets of arithmetic reasoning: question -> worked answer that ends in "The answer is: "."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diablo.data.catalog import Dataset
from diablo.data.commonsense import Parts, Record, Splits, assemble
from diablo.data.math_formats import READERS
from diablo.data.overlap import key

#: What every worked answer ends in, and the text before the answer that the protocols look for.
PHRASE = "The answer is: "


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read all parts, remove training rows that a test set holds too, and mix the training set.

    Args:
        dataset: the catalogue's entry; option `expect_test` gives each test set's size, `phrase` another
            text than `PHRASE` before the answers.
        files: path of each source, by the source's name.

    Returns:
        The records of each split, and facts for the provenance (`overlaps_removed`). A training set
        of several tasks is ordered by the hash of its ids; a single file keeps its order.

    Raises:
        ValueError: if a file's format is unknown or a test set has not the expected size.
    """
    splits, facts = assemble(dataset, files, READERS, as_records, without_overlaps)
    return with_phrase(splits, dataset), facts


def with_phrase(splits: Splits, dataset: Dataset) -> Splits:
    """The records with the data set's own `phrase` (an option) before their answers."""
    phrase = dataset.options.get("phrase", PHRASE)
    for record in (record for records in splits.values() for record in records):
        steps, found, answer = record["output"].rpartition(PHRASE)
        assert found, f"{record['id']}: no worked answer without {PHRASE!r}"
        record["output"] = f"{steps}{phrase}{answer}"
    return splits


def as_records(task: str, rows: Iterable[dict[str, str]]) -> list[Record]:
    """Rows with `instruction`, `answer` and perhaps a worked `output`; ids count from 0.

    A question without a worked answer has the answer alone, behind the phrase.
    """
    return [
        {
            "id": f"{task}/{number}",
            "task": task,
            "instruction": row["instruction"],
            "output": row.get("output") or f"{PHRASE}{row['answer']}",
            "answer": row["answer"],
        }
        for number, row in enumerate(rows)
    ]


def without_overlaps(train: Parts, test: Parts) -> tuple[Parts, dict[str, dict[str, int]]]:
    """Remove the training rows whose question occurs in any test set.

    Returns:
        The training rows that stay, and for each task: `rows` removed, distinct `questions` among them.
    """
    held_out = {key(record) for records in test.values() for record in records}
    kept: Parts = {}
    removed: dict[str, dict[str, int]] = {}
    for task, records in train.items():
        keys = [key(record) for record in records]
        kept[task] = [r for r, k in zip(records, keys, strict=True) if k not in held_out]
        clashes = [k for k in keys if k in held_out]
        removed[task] = {"rows": len(clashes), "questions": len(set(clashes))}
    return kept, removed
