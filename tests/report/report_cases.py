"""Made-up facts, and a small real table of made-up scores."""

from __future__ import annotations

import sys
from pathlib import Path

# The tables' own builder writes plans and scores.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tables"))

SHA = "0123456789abcdef" * 4
FACTS = {
    "verb": "finetune",
    "started": "2026-01-02T03:04:05+00:00",
    "code": {"commit": "f" * 40, "dirty": True},
    "lock": {"file": "lock.txt", "sha256": SHA},
    "inputs": {"results/demo/data/toy/train.jsonl": SHA},
    "seed": 7,
    "host": "machine",
    "platform": "Linux",
    "python": "3.11.7",
    "packages": {"torch": "2.13.0"},
    "wall_seconds": 3600.0,
    "cpu_seconds": 5400.0,
    "peak_memory_bytes": 2**30,
}
BENCHMARK = "s\th:m:s\tmax_rss\tcpu_time\n7200.0\t2:00:00\t2048.0\tNA\n"


def write_table(folder: Path) -> None:
    """A table of two methods, one of several seeds and one row that was not run."""
    from table_builder import Builder

    from diablo.tables import aggregate

    build = Builder(folder)
    rows = [
        build.row("LoRA <1 & 2>", rank=32, runs=[build.run("lora")]),
        build.row("SMT", "smt", reason="not implemented yet"),
        build.row(
            "DiaBlo",
            "diablo",
            num_blocks=64,
            runs=[build.run(f"diablo-s{seed}", "diablo", seed=seed) for seed in (0, 1)],
        ),
    ]
    aggregate(build.plan(rows), resamples=100)
