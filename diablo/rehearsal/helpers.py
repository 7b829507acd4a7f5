"""The processes that help a rehearsal's jobs: the judge and, on a CPU, the fork server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from diablo.experiments import Config, Device
from diablo.rehearsal.client import SOCKET

#: Kept for as long as this process is there: an object that is collected closes its end.
_running: list[subprocess.Popen] = []


def start(settings: Config, device: Device) -> None:
    """Start them; they end when this process does, which holds the other end of their standard input.

    On a GPU each job is a process that imports for itself, as it will be: CUDA outlives no fork.

    Args:
        settings: of `diablo.rehearsal.scale.rehearsing`.

    Raises:
        RuntimeError: if the judge cannot listen; it has said why.
    """
    assert settings.judge is not None, "a rehearsal has one"
    # Nothing is fetched: what tries to is to fail, and at once.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    judge = _start("judge", settings.judge.endpoint, subprocess.PIPE)
    assert judge.stdout is not None
    if not judge.stdout.readline():
        raise RuntimeError("the rehearsal's judge did not start")
    if device == "cpu":
        os.environ[SOCKET] = str(Path(tempfile.mkdtemp(prefix="diablo-")) / "socket")
        _start("server", os.environ[SOCKET], subprocess.DEVNULL)


def _start(name: str, argument: str, stdout: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", f"diablo.rehearsal.{name}", argument],
        stdin=subprocess.PIPE,
        stdout=stdout,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        # Ctrl-C at the terminal is Snakemake's, which ends its jobs first.
        start_new_session=True,
    )
    _running.append(process)
    return process
