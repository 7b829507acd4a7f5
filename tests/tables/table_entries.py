"""Made-up entries of score files, one function for each metric, for the tests of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

LABELS = ("equivalent", "different")


def pass_at(k: int, passed: Sequence[int], samples: int = 10) -> dict[str, Any]:
    """An entry of pass@k of problems of which so many samples passed; the others failed or hung."""
    outcomes = [
        {
            "id": f"p{i}",
            "correct": 1 - math.comb(samples - c, k) / math.comb(samples, k),
            "samples": samples,
            "passed": c,
            "outcomes": {
                "passed": c,
                "failed": samples - c - (c < samples),
                "timeout": int(c < samples),
            },
        }
        for i, c in enumerate(passed)
    ]
    return of_mean(f"pass@{k}", outcomes)


def refusal(refused: Sequence[int | None], name: str = "h") -> dict[str, Any]:
    """An entry of refusals; None where the judge's verdict could not be read."""
    return judged("refusal", refused, name)


def ratings(given: Sequence[float | None]) -> dict[str, Any]:
    """An entry of ratings; None where the judge's verdict could not be read."""
    return {**judged("rating", given, "q"), "unit": "points"}


def judged(metric: str, verdicts: Sequence[float | None], name: str) -> dict[str, Any]:
    ids = [f"{name}{i}" for i in range(len(verdicts))]
    outcomes = [
        {"id": i, "correct": v} for i, v in zip(ids, verdicts, strict=True) if v is not None
    ]
    malformed = [i for i, v in zip(ids, verdicts, strict=True) if v is None]
    return {**of_mean(metric, outcomes), "malformed": malformed, "available": len(ids)}


def of_mean(metric: str, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    n = len(outcomes)
    value = math.fsum(one["correct"] for one in outcomes) / n if n else None
    return {"n": n, "available": n, "metric": metric, "unit": "%", "value": value, "stderr": 0.0,
            "outcomes": outcomes}  # fmt: skip


def of_set(metric: str, value: float, pairs: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    """An entry of F1 or Matthews' correlation, or of the accuracy of the same pairs."""
    outcomes = [
        {"id": f"g{i}", "correct": int(gold == read), "answer": gold, "extracted": read}
        for i, (gold, read) in enumerate(pairs)
    ]
    entry = {**of_mean(metric, outcomes), "value": value}
    return entry | ({"positive": "equivalent"} if metric == "f1" else {})


def accuracy(pairs: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    return of_set("acc", sum(gold == read for gold, read in pairs) / len(pairs), pairs)


def f1(pairs: Sequence[tuple[str, str | None]], positive: str = "equivalent") -> dict[str, Any]:
    """F1 by its definition, from precision and recall."""
    hits = sum(gold == read == positive for gold, read in pairs)
    precision = hits / max(1, sum(read == positive for _, read in pairs))
    recall = hits / max(1, sum(gold == positive for gold, _ in pairs))
    value = 2 * precision * recall / (precision + recall) if hits else 0.0
    return of_set("f1", value, pairs)


def matthews(pairs: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    """Matthews' correlation by its definition: Pearson's of the two labels as numbers."""
    gold, read = (np.array([one == LABELS[0] for one in side]) for side in zip(*pairs, strict=True))
    value = 0.0 if gold.std() * read.std() == 0 else float(np.corrcoef(gold, read)[0, 1])
    return of_set("matthews", value, pairs)


def guesses(name: str, right: float, n: int = 60) -> list[tuple[str, str | None]]:
    """Pairs of which about this share is right; the harder half is failed first, by all alike."""
    rng = np.random.default_rng(list(name.encode()))
    gold = [LABELS[i % 3 == 0] for i in range(n)]
    hard = np.linspace(0, 1, n)
    correct = 0.7 * hard + 0.3 * rng.random(n) < right
    return [(g, g if c else LABELS[g == LABELS[0]]) for g, c in zip(gold, correct, strict=True)]
