"""Runs model-written programs, each in a sandbox of its own, and judges them where they cannot reach.

See docs/sandbox.md for what is contained and what is not.
"""

from diablo.scoring.sandbox.choice import choose
from diablo.scoring.sandbox.pool import run_all
from diablo.scoring.sandbox.words import (
    KINDS,
    OUTCOMES,
    UNSAFE,
    Job,
    Limits,
    Result,
    SandboxError,
)

__all__ = [
    "KINDS",
    "OUTCOMES",
    "UNSAFE",
    "Job",
    "Limits",
    "Result",
    "SandboxError",
    "choose",
    "run_all",
]
