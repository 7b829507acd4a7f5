"""Timing several forms against each other, fairly: warm, alternating, medians with their range."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from diablo.io import write_json

RESULTS = Path(__file__).parent / "results"


def timed(
    step: Callable[[], Any], device: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Milliseconds of one call, the GPU's work included; `clock` is that of a CPU, in seconds."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    started = clock()
    step()
    return 1000 * (clock() - started)


def alternate(
    steps: Sequence[Callable[[], Any]],
    device: str,
    rounds: int,
    repeats: int,
    after: Sequence[Callable[[], Any]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Milliseconds of each step: ``rounds`` times forth or back through all of them.

    In every round each step runs once unmeasured and ``repeats`` times measured. ``after`` runs when a
    step's turn ends.
    """
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds):
        order = range(len(steps)) if turn % 2 == 0 else reversed(range(len(steps)))
        for index in order:
            steps[index]()
            times[index] += [timed(steps[index], device, clock) for _ in range(repeats)]
            if after is not None:
                after[index]()
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, least and most, in milliseconds."""
    numbers = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return {f"{key}_ms": round(value, 3) for key, value in numbers.items()} | {"n": len(times)}


def matrix_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second of one large matrix product of random numbers on the GPU."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    milliseconds = statistics.median(timed(lambda: a @ b, "cuda") for _ in range(10))
    return 2 * size**3 / milliseconds * 1000


def free() -> None:
    """Give back the memory of what was deleted."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_name() -> str:
    """The GPU's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """What a result was measured with."""
    versions = {}
    for package in ("torch", "transformers", "peft", "accelerate", "triton", "liger-kernel"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "versions": versions,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def slug(name: str) -> str:
    """A file name: "NVIDIA H200" -> "nvidia-h200"."""
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)


def record(section: str, results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Merge a section's results into the device's file, each with what it was measured with."""
    path = folder / f"{slug(device_name())}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known.setdefault(section, {}).update(
        {key: {**value, "measured_with": environment()} for key, value in results.items()}
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, known)
    return path
