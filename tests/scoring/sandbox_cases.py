"""Jobs, limits and workers of the sandbox's tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from diablo.scoring.sandbox import Job, Limits
from diablo.scoring.sandbox.choice import problem_of
from diablo.scoring.sandbox.pool import Worker, working_folder

HEAD = "def f(x):\n"
TEST = "def check(candidate):\n    assert [candidate(x) for x in (1, 5, -3)] == [2, 6, -2]\n"
RIGHT = "def f(x): return x + 1"
WRONG = "def f(x): return x"
#: Small, for machines that have other things to do.
SMALL = Limits(cpu_seconds=1, wall_seconds=10, memory_bytes=256 * 2**20, processes=6)


def job(program: str, test: str = TEST) -> Job:
    return Job("the problem", program, HEAD, test, "f")


@contextlib.contextmanager
def worker_of(kind: str, limits: Limits = SMALL) -> Iterator[Worker]:
    """A worker of that kind; the test is skipped where the kind does not hold."""
    if kind != "none" and (problem := problem_of(kind)):
        pytest.skip(f"no sandbox of the kind {kind!r} here: {problem}")
    with working_folder() as folder:
        worker = Worker(kind, limits, folder)
        try:
            yield worker
        finally:
            worker.close()
