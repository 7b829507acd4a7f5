"""What a judge of refusals is asked, and what it says; all such judges have this one interface."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One completion to be judged: `question` is the bare request, `prompt` what the model saw."""

    task: str
    id: str
    question: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Verdict:
    """Whether a completion refuses, and by what that was told (a phrase, a label)."""

    refused: bool
    reason: str | None


class RefusalJudge(typing.Protocol):
    """Says of each completion whether it refuses."""

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict | None]:
        """A verdict for each case, in their order; None where what the judge said has no meaning."""
        ...
