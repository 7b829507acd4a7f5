"""Plain text that quantisers calibrate on, as records of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diablo.data.catalog import Dataset
from diablo.data.commonsense import Parts, Record, Splits, assemble

#: WikiText's heading of an article; those of its sections have more signs.
_ARTICLE = re.compile(r" = [^=].*[^=] = \n")


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read all parts; a record is an article.

    Raises:
        ValueError: if a file's format is unknown.
    """
    return assemble(dataset, files, READERS, as_records, _nothing_removed)


def as_records(task: str, rows: Iterable[dict[str, str]]) -> list[Record]:
    """Articles as records, whose text is the instruction; there is nothing to answer."""
    return [
        {
            "id": f"{task}/{number}",
            "task": task,
            "instruction": row["text"],
            "output": "",
            "answer": "",
        }
        for number, row in enumerate(rows)
    ]


def read_wikitext(path: Path, split: str) -> list[dict[str, str]]:
    """WikiText's Parquet file of lines -> its articles; text before the first heading is one too."""
    import pandas as pd

    articles: list[list[str]] = [[]]
    for line in pd.read_parquet(path)["text"]:
        if _ARTICLE.fullmatch(line):
            articles.append([])
        articles[-1].append(line)
    texts = ("".join(lines).strip() for lines in articles)
    return [{"text": text} for text in texts if text]


def _nothing_removed(train: Parts, test: Parts) -> tuple[Parts, dict[str, dict[str, int]]]:
    return train, {}


READERS = {"wikitext": read_wikitext}
