"""Five tasks of GLUE, text to text: files in several formats -> training and development records.

The wording is LoRA-GA's (its `reproduce/data.py`): an instruction, the text, and in the protocol's frame
"result: ". White space around a sentence is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from diablo.data.arithmetic import without_overlaps
from diablo.data.catalog import Dataset
from diablo.data.commonsense import Parts, Record, Splits, expect, joined, read_parts
from diablo.data.protocol import unknown

_SIMILARITY = "classify the semantic similarity of the text: "

#: What is said before the text, by task.
INSTRUCTIONS = {
    "mrpc": _SIMILARITY,
    "cola": "classify the grammaticality of the text: ",
    "sst2": "classify the sentiment of the text: ",
    "qnli": "classify the semantic similarity of the question and the sentence: ",
    "mnli": _SIMILARITY,
}

#: The labels in the order of GLUE's numbers.
LABELS = {
    "mrpc": ("different", "equivalent"),
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "qnli": ("entailment", "not_entailment"),
    "mnli": ("entailment", "neutral", "contradiction"),
}

#: Columns of GLUE's Parquet files that hold the text.
COLUMNS = {
    "mrpc": ("sentence1", "sentence2"),
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "qnli": ("question", "sentence"),
    "mnli": ("premise", "hypothesis"),
}

OPTIONS = ("expect_test", "evaluate")


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read both parts of a task and remove the training rows that the development set holds too.

    Args:
        dataset: the catalogue's entry. Its options: `expect_test` gives the test set's size; `evaluate` is
            the share of the training file that becomes the test set, where there is no other. Rows with
            the same first sentence (a premise, a question) stay together; their hash decides.
        files: path of each source, by the source's name.

    Returns:
        The records of each split, and facts for the provenance.

    Raises:
        ValueError: an unknown option or format, or a test set of another size.
    """
    for name in dataset.options:
        if name not in OPTIONS:
            raise ValueError(unknown("option", name, OPTIONS, f"data set {dataset.title!r}"))
    parts = read_parts(dataset, files, READERS)
    if "evaluate" in dataset.options:
        _divide(parts, dataset.options["evaluate"])
    records = {
        split: {task: as_records(task, rows) for task, rows in found.items()}
        for split, found in parts.items()
    }
    expect(records["test"], dataset.options.get("expect_test", {}))
    records["train"], removed = without_overlaps(records["train"], records["test"])
    return joined(records), {"overlaps_removed": removed}


def as_records(task: str, rows: list[dict[str, Any]]) -> list[Record]:
    """Rows (`number`, `texts`, `label`) as records of the pipeline; see `instruction`."""
    return [
        {
            "id": f"{task}/{row['number']}",
            "task": task,
            "instruction": instruction(task, row["texts"]),
            "output": row["label"],
            "answer": row["label"],
        }
        for row in rows
    ]


def instruction(task: str, texts: list[str]) -> str:
    """The task's instruction and its one or two sentences, a line each."""
    return INSTRUCTIONS[task] + "\n".join(texts)


def _divide(parts: dict[str, Parts], share: float) -> None:
    for task, rows in parts["train"].items():
        held = [_place(row["texts"][0]) < share for row in rows]
        parts["test"][task] = [row for row, out in zip(rows, held, strict=True) if out]
        parts["train"][task] = [row for row, out in zip(rows, held, strict=True) if not out]


def _place(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _rows(task: str, found: Iterator[tuple[list[str], str | int]]) -> list[dict[str, Any]]:
    """Texts without white space around them, and labels in words."""
    rows = []
    for number, (texts, label) in enumerate(found):
        word = LABELS[task][int(label)] if str(label).isdigit() else str(label)
        if word not in LABELS[task]:
            raise ValueError(unknown("label", label, LABELS[task], f"{task}, row {number}"))
        rows.append({"number": number, "texts": [text.strip() for text in texts], "label": word})
    return rows


def read_parquet(task: str, path: Path, split: str) -> list[dict[str, Any]]:
    """GLUE's own Parquet files on the Hub."""
    import pandas as pd

    columns = [*COLUMNS[task], "label"]
    table = pd.read_parquet(path, columns=columns)[columns]
    return _rows(task, ((list(texts), label) for *texts, label in table.itertuples(index=False)))


def read_table(
    task: str, texts: list[int], label: int, header: bool, path: Path, split: str
) -> list[dict[str, Any]]:
    """GLUE's tab-separated files: no field is quoted, quotation marks are text; a byte order mark may come first.

    Args:
        texts, label: numbers of the columns.
        header: whether the first line names the columns.
    """
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    fields = [line.rstrip("\r").split("\t") for line in lines[int(header) :] if line.strip()]
    width = max(*texts, label) + 1
    for number, row in enumerate(fields, start=1 + header):
        if len(row) < width:
            raise ValueError(f"{path}:{number}: {len(row)} columns, {width} or more are expected")
    return _rows(task, (([row[column] for column in texts], row[label]) for row in fields))


def read_mnli(path: Path, split: str) -> list[dict[str, Any]]:
    """MNLI as JSON lines: `premise`, `hypothesis`, `label` in words."""
    pairs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return _rows("mnli", (([p["premise"], p["hypothesis"]], p["label"]) for p in pairs))


READERS: dict[str, Callable[[Path, str], list[dict[str, Any]]]] = {
    **{f"glue-{task}": partial(read_parquet, task) for task in LABELS},
    "mrpc-tsv": partial(read_table, "mrpc", [3, 4], 0, True),
    "cola-tsv": partial(read_table, "cola", [3], 1, False),
    "sst2-tsv": partial(read_table, "sst2", [0], 1, True),
    "qnli-tsv": partial(read_table, "qnli", [1, 2], 3, True),
    "mnli-jsonl": read_mnli,
}
