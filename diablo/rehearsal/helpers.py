"""The processes that help a rehearsal's jobs: the judge and, on a CPU, the fork server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from diablo.experiments import Config, Device
from diablo.rehearsal.client import SOCKET


def start(settings: Config, device: Device) -> list[subprocess.Popen]:
    """Start them; they end when this process does, which holds the other end of their standard input.

    On a GPU each job is a process that imports for itself, as it will be: CUDA outlives no fork.

    Args:
        settings: of `diablo.rehearsal.scale.rehearsing`.
    """
    assert settings.judge is not None, "a rehearsal has one"
    # Nothing is fetched; what tries to is to fail, and at once.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    found = [_start("judge", settings.judge.endpoint)]
    if device == "cpu":
        os.environ[SOCKET] = str(Path(tempfile.mkdtemp(prefix="diablo-")) / "socket")
        found.append(_start("server", os.environ[SOCKET]))
    return found


def _start(name: str, argument: str) -> subprocess.Popen:
    # A session of its own: Ctrl-C at the terminal is Snakemake's, which ends its jobs first.
    return subprocess.Popen(
        [sys.executable, "-m", f"diablo.rehearsal.{name}", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        start_new_session=True,
    )
