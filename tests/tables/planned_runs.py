"""Made-up results of all runs of a planned table, for tests of figures: nothing is trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from table_builder import loss_entry

from diablo.config import Config
from diablo.io import write_json
from diablo.planning import Plan, resolve


def planned(folder: Path, table: str, **config: Any) -> Path:
    """The plan file of a table under `folder`, with results of every run that it names."""
    given = {"device": "cpu", **config, "results": str(folder / "results")}
    plan = resolve(Config.model_validate(given))
    content = plan.tables[table]
    for group in content["groups"]:
        for row in group["rows"]:
            for run in row["runs"]:
                _write(plan, row, run)
    path = folder / "results" / given.get("scale", "demo") / "tables" / f"{table}.plan.json"
    write_json(path, content)
    return path


def chance(*words: object) -> float:
    """A fixed number between 0 and 1 for some words."""
    return hashlib.sha256(repr(words).encode()).digest()[0] / 255


def _write(plan: Plan, row: dict[str, Any], run: dict[str, Any]) -> None:
    spec = plan.runs[run["run"]]
    about = {"suite": spec.suite, "variant": spec.variant, "run": spec.run}
    suite = plan.suites[f"{spec.suite}-{spec.variant}"]
    scores, losses = {}, {}
    for task in suite.tasks:
        n = suite.limit_per_task or 50
        right = round(n * (0.1 + 0.3 * chance(spec.run, task)))
        ids = [f"{task}/{i}" for i in range(n)]
        for entry in (task, f"{task}_strict"):
            scores[entry] = {
                "n": n, "available": 200, "metric": "acc", "value": right / n, "stderr": 0.0,
                "outcomes": [{"id": one, "correct": int(i < right), "extracted": "1", "answer": "1"}
                             for i, one in enumerate(ids)],
            }  # fmt: skip
        nll = [4 * (0.8 + 0.3 * chance(spec.run) + 0.5 * chance(one)) for one in ids]
        losses[task] = loss_entry(ids, nll)
    average = sum(one["value"] for one in scores.values()) / len(scores)
    provenance = {"verb": "made up"}
    write_json(
        Path(run["scores"]),
        {**about, "tasks": scores, "average": average, "provenance": provenance},
    )
    write_json(Path(run["losses"]), {**about, "tasks": losses, "provenance": provenance})
    trained = {
        "method": spec.method,
        "trainable_parameters": 1000 * (spec.num_blocks or spec.rank or 1),
        "base_parameters": 134_515_008,
        "learning_rate": run["lr"],
        "code": {"commit": "0123456789abcdef", "dirty": False},
        "device": "cpu",
        "wall_seconds": 12.3,
        "peak_memory_bytes": 2**30,
    }
    write_json(Path(run["adapter"]) / "provenance.json", trained)
