"""Checks that score files, loss files and provenance share; every message names the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def check_same(path: Path, content: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ValueError if a file says anything else than `wanted`."""
    for key, value in wanted.items():
        if content.get(key) != value:
            raise ValueError(f"{path}: {key} is {content.get(key)!r}, the plan says {value!r}")


def task_of(path: Path, content: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """One task's entry of a score or loss file; ValueError if it has none."""
    if task not in content["tasks"]:
        raise ValueError(f"{path}: task {task} is missing; it has {', '.join(content['tasks'])}")
    return content["tasks"][task]
