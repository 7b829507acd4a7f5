"""Candidates that do harm or cheat: after each of them host, score and worker are as they were."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import pytest
from cheating_cases import CHEATS
from harmful_cases import LITTER, SPIES, TIMEOUTS
from sandbox_cases import RIGHT, SMALL, WRONG, job, worker_of

from diablo.scoring.sandbox import KINDS

SECRET = "an-unlikely-secret"
#: Outcomes of the cheats that are no plain failures.
OUTCOME = {
    "exits while it is loaded": "crashed",
    "exits before the answer": "crashed",
    "kills itself": "crashed",
    "segmentation fault": "crashed",
    "closes all files": "crashed",
    "kills everything it can name": "crashed",
    "writes rubbish": "crashed",
    "writes a verdict and exits": "crashed",
    "allocates 10 GB": "memory",
    "allocates while it is loaded": "memory",
}
#: Cheats of which only that they do not pass is asked: they break what
#: talks to the checker, or themselves.
ANY = {"overwrites builtins", "traces and profiles", "patches what it finds in memory"}
ANY |= {
    "takes its parent's limits",
    "writes a verdict to every file",
    "says that it is ready, then nothing",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """What of this system a candidate might look for: files, a variable, sockets, processes."""
    folder = tmp_path_factory.mktemp("host")
    secret = folder / f"{SECRET}.txt"
    secret.write_text(SECRET)
    os.environ["DIABLO_TEST_SECRET"] = SECRET
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{SECRET}-{os.getpid()}")
        unix.listen()
        server.setblocking(False)
        unix.setblocking(False)
        paths = [secret, folder, Path.home() / ".bashrc", Path.home() / ".cache", Path(__file__)]
        about = {
            "paths": [*map(str, paths), "/etc/passwd", "/etc/shadow", "/etc/hostname", "/home"],
            "names": [secret.name, "passwd", "shadow", "HumanEval.jsonl.gz"],
            "variable": "DIABLO_TEST_SECRET",
            "port": server.getsockname()[1],
            "abstract": unix.getsockname(),
            "process": os.getpid(),
        }
        yield about
        for listening in (server, unix):
            with pytest.raises(BlockingIOError):
                listening.accept()
        assert [path.read_text() for path in folder.iterdir()] == [SECRET]
    del os.environ["DIABLO_TEST_SECRET"]


@pytest.fixture(scope="module", params=KINDS)
def worker(request, host):
    with worker_of(request.param) as worker:
        host["worker"] = worker.process_id
        yield worker


@pytest.fixture(autouse=True)
def intact(worker, host):
    """After each test: nothing is left of the candidate, and the next ones are judged as ever."""
    yield
    assert children(worker.process_id) == []
    assert worker.run(job(RIGHT)).outcome == "passed"
    assert worker.run(job(WRONG)).outcome == "failed"
    assert spy(worker, host, "leftovers").passed


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in text.split()]


def spy(worker, host, name: str):
    test = f"def check(f):\n    found = f({host!r})\n    assert found == [], found\n"
    return worker.run(job(SPIES[name], test))


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_does_not_pass(worker, name):
    # However the test looks at the answer: none of these is raised or true for a wrong one.
    for test in (
        "def check(f):\n    assert f(1) == 2\n    assert not f(1) != 2\n    assert f(5) == 6\n",
        "def check(f):\n    assert all(map(lambda x: f(x) == x + 1, range(5)))\n    assert f(5) == 6\n",
        "def check(f):\n    assert all(map(f, range(5))) and False\n",
    ):
        result = worker.run(job(CHEATS[name], test))
        if name in ANY:
            assert not result.passed
        else:
            assert result.outcome == OUTCOME.get(name, "failed"), result


@pytest.mark.parametrize("name", LITTER)
def test_what_is_left_behind_is_gone(worker, name):
    assert worker.run(job(LITTER[name])).passed


@pytest.mark.parametrize("name", [name for name in SPIES if name != "leftovers"])
def test_nothing_is_reached(worker, host, name):
    result = spy(worker, host, name)
    assert result.passed, result.detail


@pytest.mark.parametrize("name", list(TIMEOUTS)[:-2])
@pytest.mark.slow
def test_processor_time_is_limited(worker, name):
    assert worker.run(job(TIMEOUTS[name])).outcome == "timeout"


@pytest.mark.parametrize("name", list(TIMEOUTS)[-2:])
@pytest.mark.slow
def test_wall_time_is_limited(worker, name):
    with worker_of(worker.kind, dataclasses.replace(SMALL, wall_seconds=2)) as hasty:
        assert hasty.run(job(TIMEOUTS[name])).outcome == "timeout"
        assert children(hasty.process_id) == []
        assert hasty.run(job(RIGHT)).passed


def test_processes_are_limited(worker):
    program = """
import os, time
def f(limit):
    for count in range(1000):
        try:
            if os.fork() == 0: time.sleep(1000)
        except OSError:
            return count
"""
    test = f"def check(f):\n    assert 0 < f(0) <= {SMALL.processes}\n"
    assert worker.run(job(program, test)).passed


def test_memory_holds_for_each_process(worker):
    program = f"""
import os
def f(x):
    child = os.fork()
    if child == 0:
        try: bytearray({SMALL.memory_bytes})
        except MemoryError: os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    assert worker.run(job(program, "def check(f):\n    assert f(0) == 7\n")).passed
