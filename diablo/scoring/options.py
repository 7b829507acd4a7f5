"""What every scorer takes and gives back. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: (task, id) -> (prompt as the model saw it, completions).
Stored = Mapping[tuple[str, str], tuple[str, list[str]]]


@dataclass(frozen=True)
class ScoreOptions:
    """What a user decides about scoring (keys of config.yaml)."""

    #: Run model-written code even where this system has no sandbox.
    unsafe_execution: bool = False
    #: Candidates that run at a time; None: one a core.
    workers: int | None = None


@dataclass(frozen=True)
class Scored:
    """Entries of the score file by name, and facts for its provenance."""

    entries: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
