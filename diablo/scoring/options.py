"""What every scorer takes and gives back. No torch here.

A scorer is a function `(suite, prompts, stored, work_folder, options) -> Scored`:

* `suite`: SuiteSpec.
* `prompts`: the suite's prompts (`diablo.generation.prompts.Prompt`), all of which are scored.
* `stored`: `{(task, id): (prompt as the model saw it, [completions])}`.
* `work_folder`: survives a kill; the caller removes it when the scores are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.judging import JudgeConfig

__all__ = ["JudgeConfig", "ScoreOptions", "Scored", "Stored"]

#: (task, id) -> (prompt as the model saw it, completions).
Stored = Mapping[tuple[str, str], tuple[str, list[str]]]


@dataclass(frozen=True)
class ScoreOptions:
    """What a user decides about scoring (keys of config.yaml)."""

    #: Run model-written code even where this system has no sandbox.
    unsafe_execution: bool = False
    #: Candidates that run at a time; None: one a core.
    workers: int | None = None
    #: None: entries that need a judge are not made.
    judge: JudgeConfig | None = None
    #: The user's own list of refusal phrases; None: `diablo/scoring/judges/refusals.yaml`.
    phrases: Path | None = None
    #: Folder of downloads, in which the judge's replies are kept too; None: the default one.
    cache: Path | None = None


@dataclass(frozen=True)
class Scored:
    """Entries of the score file by name, and facts for its provenance."""

    entries: dict[str, dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)
