"""Processes that accompany a Snakemake and end with it, however it ends."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from diablo.forking.client import SOCKET

#: Kept for as long as this process is there: an object that is collected closes its end.
_running: list[subprocess.Popen] = []


def accompany(
    module: str, argument: str, stdout: int = subprocess.DEVNULL, **environment: str
) -> subprocess.Popen:
    """Start `python -m MODULE ARGUMENT`, which ends when its standard input does: this process holds the other end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        stdin=subprocess.PIPE,
        stdout=stdout,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            **environment,
        },
        # Ctrl-C at the terminal is Snakemake's, which ends its jobs first.
        start_new_session=True,
    )
    _running.append(process)
    return process


def start_server() -> None:
    """Start the fork server, for jobs on a CPU, and let all jobs of this process know it."""
    folder = tempfile.mkdtemp(prefix="diablo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[SOCKET] = f"{folder}/socket"
    # Without GPUs, as what it imports (bitsandbytes) would start CUDA, which outlives no fork.
    accompany("diablo.forking.server", os.environ[SOCKET], CUDA_VISIBLE_DEVICES="")
