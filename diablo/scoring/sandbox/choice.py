"""Which sandbox is used: the best that really contains a program that tries to get out."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import tempfile
from pathlib import Path

from diablo.scoring.sandbox import view
from diablo.scoring.sandbox.pool import run_all
from diablo.scoring.sandbox.words import KINDS, UNSAFE, Job, Limits, SandboxError

#: What the probe finds out where a candidate is. It lists what it can reach; nothing is as it should be.
PROBE = """
def reached(paths, port, process):
    import ctypes, os, socket

    found = [path for path in paths if os.path.lexists(path)]
    found += [f"the variable {name}" for name in os.environ]
    found += [f"the interface {name}" for _, name in socket.if_nameindex() if name != "lo"]
    if os.getuid() == 0:
        found.append("the rights of root")
    if os.listdir("."):
        found.append("a folder that is not empty")

    def unmount():
        if ctypes.CDLL(None).umount2(b"/tmp", 2):
            raise OSError

    attempts = {
        "this system's loopback": lambda: socket.create_connection(("127.0.0.1", port), 1),
        "the scoring process": lambda: os.kill(process, 0),
        "a writable root": lambda: os.mkdir("/probe"),
        "a writable library": lambda: os.mkdir(os.path.dirname(os.__file__) + "/probe"),
        "mounts": unmount,
    }
    for what, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        found.append(what)
    with open("file", "w") as file:
        file.write("its own folder is writable")
    return found
"""


def choose(unsafe_execution: bool = False) -> str:
    """The kind of sandbox to use: the first of `KINDS` that holds here.

    Args:
        unsafe_execution: where none does, the kind that is none (`UNSAFE`).

    Raises:
        ValueError: if no sandbox holds here and `unsafe_execution` is not set; says what each lacks.
    """
    problems = {}
    for kind in KINDS:
        problem = problem_of(kind)
        if problem is None:
            return kind
        problems[kind] = problem
    if unsafe_execution:
        return UNSAFE
    reasons = "; ".join(f"{kind}: {problem}" for kind, problem in problems.items())
    raise ValueError(
        f"model-written code is not run: no sandbox works on this system ({reasons}). Install "
        "bubblewrap or allow unprivileged user namespaces (docs/sandbox.md); or set "
        "unsafe_execution: true in config.yaml to run it with your own rights"
    )


@functools.cache
def problem_of(kind: str) -> str | None:
    """Why a kind of sandbox does not hold here; None if it does, which is really tried."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.NamedTemporaryFile() as canary:
        port = server.getsockname()[1]
        arguments = (_private_paths(canary.name), port, os.getpid())
        test = (
            "def check(reached):\n"
            f"    found = reached(*{arguments!r})\n"
            '    assert not found, "it reached " + ", ".join(found)\n'
        )
        job = Job("the probe", PROBE, "def reached(paths, port, process):\n", test, "reached")
        try:
            [(_, result)] = run_all({"probe": job}, kind, Limits(), 1)
        except SandboxError as error:
            return str(error).strip().splitlines()[-1]
    return None if result.passed else f"{result.outcome}: {result.detail}"


def _private_paths(canary: str) -> list[str]:
    """What of this system no candidate may see: the user's files, and packages installed beside Python."""
    shown, hidden = view.visible(), view.hidden()
    private = [canary, "/etc/passwd", "/etc/shadow", "/proc/1", "/sys/kernel"]
    for folder in {os.path.expanduser("~"), os.getcwd(), os.path.dirname(__file__), *hidden}:
        with contextlib.suppress(OSError):
            private += [os.path.join(folder, name) for name in os.listdir(folder)]
    return [path for path in private if _under(path, hidden) or not _shown(path, shown)]


def _under(path: str, places: list[str]) -> bool:
    return any(Path(path).is_relative_to(place) for place in places)


def _shown(path: str, places: list[str]) -> bool:
    """Whether the path is there in the sandbox: on the way to a place that is, or in one."""
    ways = any(Path(place).is_relative_to(path) for place in (*places, "/tmp", "/dev"))
    return ways or _under(path, places)
