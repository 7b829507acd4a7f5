"""A suite over the small data set, and stored generations for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from generation_cases import TASKS

from diablo.generation.prompts import suite_prompts
from diablo.io import write_json, write_jsonl
from diablo.specs import SuiteSpec


def suite_of(dataset: Path, **fields) -> SuiteSpec:
    """SuiteSpec over the small data set."""
    values = {
        "suite": "commonsense",
        "variant": "paper",
        "dataset": "small",
        "data_path": str(dataset),
        "tasks": TASKS,
        "decoding": {"num_beams": 1, "max_new_tokens": 32, "stop": []},
    }
    return SuiteSpec(**{**values, **fields})


def store(
    folder: Path, suite: SuiteSpec, complete: Callable[..., str], run: str = "run"
) -> SimpleNamespace:
    """Write generations with `complete(prompt)` as their text; paths and rows to change."""
    rows = [
        {"task": p.task, "id": p.id, "prompt": p.text, "completions": [complete(p)]}
        for p in suite_prompts(suite)
    ]
    path = folder / "generations" / f"{suite.suite}.jsonl"
    made = {"run": run, "suite": suite.suite, "variant": suite.variant, "decoding": suite.decoding}
    write_jsonl(path, rows)
    write_json(path.with_suffix(".provenance.json"), made)
    return SimpleNamespace(
        path=path, rows=rows, out=folder / "scores.json", spec=SimpleNamespace(run=run), made=made
    )
