"""Entries of a score file that are means over examples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diablo.io import read_jsonl
from diablo.scoring.options import Stored


def mean_entry(
    task: str,
    metric: str,
    unit: str,
    outcomes: list[dict[str, Any]],
    available: int,
    malformed: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A score file's entry: the mean of the outcomes' `correct`, with its standard error.

    Args:
        task: whose completions were scored.
        metric: what `correct` is.
        unit: "%" for shares, which `value` has as 0 to 1, or "points".
        outcomes: `id`, `correct` (a number) and more, one for each example.
        available: records of the task in the data, before any cap.
        malformed: ids of examples that the judge said nothing usable about; None: it cannot happen.

    Returns:
        `value` is None without outcomes, `stderr` (sample standard deviation over the root of n) with
        fewer than two.
    """
    numbers = [outcome["correct"] for outcome in outcomes]
    n = len(numbers)
    entry: dict[str, Any] = {
        "task": task,
        "n": n,
        "available": available,
        "metric": metric,
        "unit": unit,
        "value": statistics.fmean(numbers) if n else None,
        "stderr": statistics.stdev(numbers) / math.sqrt(n) if n > 1 else None,
        "outcomes": outcomes,
    }
    return entry if malformed is None else {**entry, "malformed": list(malformed)}


def suite_records(suite: Any) -> list[dict]:
    """All records of a suite's data, before any cap."""
    return read_jsonl(Path(suite.data_path) / "test.jsonl")


def only_completion(stored: Stored, task: str, name: str) -> tuple[str, str]:
    """The prompt as the model saw it and its one completion.

    Raises:
        ValueError: if there is none, or several; names the example.
    """
    if (task, name) not in stored:
        raise ValueError(f"{task} {name!r}: not generated; run `diablo generate` again")
    prompt, completions = stored[task, name]
    if len(completions) != 1:
        raise ValueError(
            f"{task} {name!r}: {len(completions)} completions; exactly one is judged: decode with "
            "samples = 1"
        )
    return prompt, completions[0]
