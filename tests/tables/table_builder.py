"""Writes synthetic plans and score files for the tests of tables and figures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from diablo.io import write_json

COLUMNS = {"boolq": "BoolQ", "piqa": "PIQA"}


def share(task: str, run: str) -> float:
    """A fixed accuracy between 0.2 and 0.9 for a task of a run."""
    return 0.2 + 0.7 * hashlib.sha256(f"{task}{run}".encode()).digest()[0] / 255


def loss_entry(ids: list[str], nll: list[float]) -> dict[str, Any]:
    """One task of a loss file, with four tokens in every answer."""
    return {
        "n": len(ids),
        "tokens": 4 * len(ids),
        "value": sum(nll) / (4 * len(ids)),
        "examples": [
            {"id": one, "nll": loss, "tokens": 4} for one, loss in zip(ids, nll, strict=True)
        ],
    }


class Builder:
    """Writes score files, provenance and plans under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self,
        name: str,
        method: str = "lora",
        seed: int = 0,
        n: int = 40,
        outcomes: dict[str, list[int]] | None = None,
        columns: dict[str, str] = COLUMNS,
        trainable: int = 1000,
        shift: int = 0,
        nll: dict[str, list[float]] | None = None,
        available: int = 100,
        **provenance: Any,
    ) -> dict[str, Any]:
        """Write one run; return its entry in a plan.

        `shift` moves the ids of the examples, `nll` has the loss of each answer of four tokens.
        """
        base = self.folder / "runs" / name
        tasks = {}
        for task in columns:
            correct = (outcomes or {}).get(task)
            if correct is None:
                hits = round(share(task, name) * n)
                correct = [1] * hits + [0] * (n - hits)
            tasks[task] = {
                "n": len(correct),
                "available": available,
                "metric": "acc",
                "value": sum(correct) / len(correct),
                "stderr": 0.0,
                "outcomes": [
                    {
                        "id": f"{task}/{i + shift}",
                        "correct": c,
                        "extracted": "true",
                        "answer": "true",
                    }
                    for i, c in enumerate(correct)
                ],
            }
        scores = base / "scores" / "toy.json"
        content = {"suite": "toy", "variant": "paper", "run": name, "tasks": tasks}
        average = sum(entry["value"] for entry in tasks.values()) / len(tasks)
        write_json(scores, {**content, "average": average, "provenance": {"verb": "score"}})
        losses = base / "losses" / "toy.json"
        measured = {
            task: loss_entry(
                [one["id"] for one in entry["outcomes"]],
                (nll or {}).get(task) or [4 * share(task, name + "nll")] * entry["n"],
            )
            for task, entry in tasks.items()
        }
        content = {"suite": "toy", "variant": "paper", "run": name, "tasks": measured}
        write_json(losses, {**content, "provenance": {"verb": "measure"}})
        facts = {
            "method": method,
            "trainable_parameters": trainable,
            "base_parameters": 100_000,
            "code": {"commit": "0123456789abcdef", "dirty": False},
            "wall_seconds": 12.3,
            "peak_memory_bytes": 2**30,
            "device": "cpu",
            "learning_rate": None if method == "zero-shot" else 1e-4,
        }
        write_json(base / "adapter" / "provenance.json", facts | provenance)
        return {
            "run": name,
            "seed": seed,
            "scores": str(scores),
            "adapter": str(base / "adapter"),
            "losses": str(losses),
            "log": str(base / "log.jsonl"),
        }

    def row(self, label: str = "LoRA", method: str = "lora", **changes: Any) -> dict[str, Any]:
        """One row of a plan, not run unless `runs` are given."""
        row = {
            "id": method,
            "label": label,
            "method": method,
            "num_blocks": None,
            "rank": None,
            "origin": "retrained",
            "source": None,
            "params_reported": "0.83%",
            "params_counted": 56_100_000,
            "params_counted_percent": 0.833,
            "reported": {"boolq": 70.0, "piqa": 80.0, "avg": 75.0},
            "unstated": [],
            "notes": [],
            "setting_used": {"num_blocks": None, "rank": None, "lr": 1e-4},
            "group": None,
            "lr_from": None if method == "zero-shot" else "paper",
            "runs": [],
            "same_as": None,
            "reason": None,
        }
        row |= changes
        if not row["runs"] and row["reason"] is None:
            row["reason"] = "filtered"
        return row

    def plan(self, *groups: list[dict[str, Any]], **changes: Any) -> Path:
        """Write a plan with one group per list of rows; return its path."""
        plan = {
            "name": "toy",
            "title": "A toy table",
            "section": "4.1",
            "scale": "demo",
            "suite": "toy",
            "variant": "paper",
            "columns": COLUMNS,
            "readings": {},
            "average": "AVG",
            "stand_ins": ["Small-1M stands in for Big0"],
            "limits": {"train": 512, "test_per_task": 64, "steps": None},
            "notes": [],
            "kind": "accuracy",
            "chart": None,
            "test_sizes_paper": {},
            "decoding": {"num_beams": 1, "max_new_tokens": 32, "stop": []},
            "groups": [
                {
                    "model": f"big-{i}",
                    "label": f"Big{i}",
                    "used_model": "small",
                    "used_model_title": "Small-1M",
                    "rows": rows,
                }
                for i, rows in enumerate(groups)
            ],
        }
        path = self.folder / "tables" / "toy.plan.json"
        write_json(path, plan | changes)
        return path
