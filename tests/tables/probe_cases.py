"""Synthetic files of ranks and of full gradients, with plans that name them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from diablo.io import write_json, write_jsonl

#: Widths of a small Llama's linear modules: (m1, m2).
WIDTHS = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (64, 32),
    "mlp.down_proj": (128, 64),
}
THRESHOLDS = [0.9, 0.99]
PROBE = {
    "name": "figure3",
    "layer": 2,
    "layer_from": "drawn with seed 0",
    "examples": 5,
    "seed": 0,
    "thresholds": THRESHOLDS,
}
TOKENS = 100


def matrix(width: int, seed: int) -> dict[str, Any]:
    size = min(TOKENS, width)
    ks = {
        (2, 0.9): size // 8 + seed,
        (2, 0.99): size // 4,
        (1, 0.9): size // 3,
        (1, 0.99): size // 2,
    }
    effective = [{"power": p, "threshold": t, "rank": k} for (p, t), k in ks.items()]
    return {
        "rows": TOKENS,
        "width": width,
        "zero_rows": 5,
        "rank": size,
        "tolerance": 1e-5,
        "largest": 3.0,
        "effective": effective,
    }


def ranked(build: Any, name: str, method: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """An entry of a row's `runs` with its file of ranks."""
    entry = build.run(name, method, seed=seed) | {"scores": None, "losses": None}
    path = build.folder / "runs" / name / "ranks" / "figure3.json"
    modules = [
        {"name": key, "inputs": m1, "outputs": m2, "x": matrix(m1, seed), "g": matrix(m2, seed)}
        for key, (m1, m2) in WIDTHS.items()
    ]
    content = {
        "run": name,
        "probe": PROBE,
        "examples": 5,
        "tokens": TOKENS,
        "modules": modules,
        "provenance": {"verb": "ranks"},
    }
    write_json(path, content | changes)
    return entry | {"ranks": str(path)}


def rank_plan(build: Any, *rows: dict[str, Any]) -> Path:
    """A plan of kind effective-rank."""
    plan = {
        "name": "figure3",
        "kind": "effective-rank",
        "columns": {},
        "average": None,
        "probe": {**PROBE, "layers": 4, "blocks": [2, 8, 32, 48]},
    }
    return build.plan(list(rows), **plan)


EPOCHS = {"epoch0": "Before training", "epoch1": "Epoch 1", "epoch2": "Epoch 2"}


def line(epoch: int, seed: int = 0, layers: int = 3) -> dict[str, Any]:
    """An epoch's line: the blocks' entries are alike to the others but for a known factor a layer."""
    modules = {}
    for layer in range(layers):
        for name, (m1, m2) in WIDTHS.items():
            rms = (1 + layer) * 1e-3 / (1 + epoch) * (1 + seed / 10)
            entries = m1 * m2
            modules[f"model.layers.{layer}.{name}"] = {
                "full": rms * math.sqrt(entries),
                "blocks": rms * (0.9 + layer / 10) * math.sqrt(entries // 8),
                "full_entries": entries,
                "blocks_entries": entries // 8,
            }
    return {
        "epoch": epoch,
        "step": 6 * epoch,
        "examples": 24,
        "targets": 900,
        "loss": 2 / (1 + epoch),
        "modules": modules,
    }


def monitored(
    build: Any, name: str, lines: list[dict[str, Any]], seed: int = 0, **provenance: Any
) -> dict[str, Any]:
    """An entry of a row's `runs` with its gradients."""
    entry = build.run(name, "diablo", seed=seed, **{"examples": 24} | provenance)
    path = build.folder / "runs" / name / "gradients.jsonl"
    write_jsonl(path, lines)
    return entry | {"scores": None, "losses": None, "gradients": str(path)}


def norm_plan(build: Any, *rows: dict[str, Any], **changes: Any) -> Path:
    """A plan of kind gradient-norms."""
    plan = {"name": "figure4", "kind": "gradient-norms", "columns": EPOCHS, "average": None}
    return build.plan(list(rows), **plan | changes)
