"""Data sets that this project makes itself (the demo scale): seeded, and no problem in both splits."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diablo.data import made_chat, made_code, made_glue, made_safety
from diablo.data.catalog import Dataset
from diablo.data.commonsense import Splits, read_parts
from diablo.data.instruction_formats import READERS
from diablo.data.instructions import as_records, first_by_hash
from diablo.data.protocol import unknown
from diablo.data.source_kinds import GeneratedSource

#: What makes the rows of each split: (random numbers, the options) -> rows with their `task`.
MAKERS: dict[str, Callable[..., dict[str, list[dict[str, Any]]]]] = {
    "code": made_code.make,
    "safety": made_safety.make,
    "chat": made_chat.make,
    "glue": made_glue.make,
}


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Make both splits; the same seed gives the same bytes.

    Args:
        dataset: the catalogue's entry: one generated source, and perhaps files of test questions. Option
            `maker` is a name in `MAKERS`, `most` says {task: count} of these files' questions that are
            taken (chosen by the hash of their ids), the other options are the maker's own.
        files: path of each other source, by the source's name.

    Returns:
        The records of each split, training ones mixed, and facts for the provenance.

    Raises:
        ValueError: if the maker is unknown, or cannot make as many different rows.
    """
    (seed,) = (s.seed for s in dataset.sources if isinstance(s, GeneratedSource))
    options = dict(dataset.options)
    name, most = options.pop("maker"), options.pop("most", {})
    if name not in MAKERS:
        raise ValueError(unknown("maker", name, MAKERS, f"data set {dataset.title!r}"))
    rows = MAKERS[name](random.Random(f"{seed}/{name}"), **options)
    splits: Splits = {split: _as_records(split, made) for split, made in rows.items()}
    random.Random(f"{seed}/mix").shuffle(splits["train"])
    for task, found in read_parts(dataset, files, READERS)["test"].items():
        records = as_records(task, found)
        splits["test"] += first_by_hash(records, most.get(task, len(records)))
    return splits, {"disjoint": "training and test share no problem"}


def _as_records(split: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with an id, counted by task, and an answer."""
    counts: dict[str, int] = {}
    records = []
    for row in rows:
        number = counts[row["task"]] = counts.get(row["task"], -1) + 1
        name = f"{row['task']}/{split}/{number}"
        records.append({"id": name, **row, "answer": row.get("answer", row["output"])})
    return records
