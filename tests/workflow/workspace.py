"""A working directory where Snakemake runs the repository's workflow."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Workspace:
    """A working directory for Snakemake: the repository's workflow (or a copy's), results of its own."""

    folder: Path
    repository: Path = REPOSITORY

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(self.repository / "Snakefile"),
            "--directory",
            str(self.folder),
            *arguments,
        ]

    def run(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess:
        """Run Snakemake; its output is in the error message if it fails."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done
