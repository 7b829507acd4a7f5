"""A CSV as a table, whatever its columns are."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from diablo.io import read_json

#: Words of a verdict, which are coloured; the word stays, so that colour is not all there is.
GOOD = frozenset(("holds", "true", "yes", "same", "passed", "supported", "reproduced", "ok"))
BAD = frozenset(("fails", "false", "no", "differs", "failed", "contradicted", "does not hold"))


@dataclass(frozen=True)
class Records:
    """Heads, lines, and which columns are numbers."""

    heads: list[str]
    lines: list[list[str]]

    def numeric(self, column: int) -> bool:
        """Whether a column has numbers alone."""
        texts = [line[column] for line in self.lines if line[column]]
        return bool(texts) and all(_is_number(text) for text in texts)


def read_records(path: Path) -> Records:
    """Read a CSV with a line of heads.

    Raises:
        ValueError: if it is empty or its lines are of different lengths; the message names it.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        found = list(csv.reader(stream))
    if not found:
        raise ValueError(f"{path}: an empty file")
    for number, line in enumerate(found, start=1):
        if len(line) != len(found[0]):
            raise ValueError(f"{path}: line {number} has {len(line)} cells, not {len(found[0])}")
    return Records([head.replace("_", " ") for head in found[0]], found[1:])


def verdict(text: str) -> str:
    """The class of a cell: `good` or `bad` for a verdict, else nothing."""
    word = text.strip().casefold()
    return "good" if word in GOOD else "bad" if word in BAD else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def serving_records(results: Path) -> Records | None:
    """Whether the runs' adapters, merged and served models answer alike (`check-serving`); None without any.

    Raises:
        ValueError: if a check is not valid JSON or lacks its status; the message names the file.
    """
    lines = []
    for path in sorted(results.glob("runs/*/serving/*.json")):
        found = read_json(path)
        try:
            worst = max(pair["disagreement"] for pair in found["pairs"].values())
            line = [found[key] for key in ("run", "suite", "status", "prompts", "backend")]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a check of what is served ({error!r})") from None
        lines.append([str(value) for value in (*line, worst)])
    heads = ["run", "suite", "status", "prompts", "backend", "largest share of differing answers"]
    return Records(heads, lines) if lines else None
