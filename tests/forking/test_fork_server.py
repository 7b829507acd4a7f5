"""The fork server on jobs of the tests' own: Python code in the place of a verb."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diablo.forking import companions
from diablo.forking.client import SOCKET
from diablo.provenance import code_version, package_versions

#: A server that imports nothing beforehand and runs code: `argument` of a job is executed, `code` is its status.
SERVER = """
import sys
import diablo.forking.server as server
def run(arguments):
    names = {"arguments": arguments}
    exec(arguments[0], names)
    return names.get("code", 0)
server.PRELOADED, server.run_verb = (), run
sys.exit(server.main(sys.argv[1]))
"""
PATIENCE = 60


@dataclass
class Running:
    """A server, and how to ask it."""

    process: subprocess.Popen
    path: Path

    def start(self, code: str, *more: str, cwd: Path | None = None, **env: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "diablo", code, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, SOCKET: str(self.path), **env},
            # As at a terminal: what a shell starts in the background ignores it, and so would all below.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ask(self, code: str, *more: str, **how) -> tuple[int, str, str]:
        job = self.start(code, *more, **how)
        out, err = job.communicate(timeout=PATIENCE)
        return job.returncode, out, err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    path = tmp_path / "server" / "socket"
    path.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(path)], stdin=subprocess.PIPE)
    while not path.exists():
        assert process.poll() is None
    yield Running(process, path)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=PATIENCE) in (0, -signal.SIGKILL)


def ended(pid: int) -> None:
    """Wait until a process that is none of ours is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], PATIENCE)[0], f"process {pid} goes on"
    finally:
        os.close(descriptor)


def pid_of(job: subprocess.Popen) -> int:
    assert job.stdout is not None
    return int(job.stdout.readline())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("code = 2", 2),
        ("import sys; sys.exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM),
        ("1 / 0", 1),
    ],
)
def test_exit_status(server: Running, code: str, status: int) -> None:
    found, _, err = server.ask(code)
    assert found == status
    assert ("ZeroDivisionError" in err) == ("/" in code)


def test_a_job_has_its_clients_arguments_folder_environment_and_streams(server, tmp_path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    code = (
        "import os, sys; print(arguments[1:], os.getcwd(), os.environ['COLOUR'], sys.stdin.readline());"
        "print('trouble', file=sys.stderr)"
    )
    job = server.start(code, "one", "two words", cwd=folder, COLOUR="red")
    out, err = job.communicate("read this\n", timeout=PATIENCE)
    assert out.split("\n")[0] == f"['one', 'two words'] {folder} red read this"
    assert err == "trouble\n"
    assert job.returncode == 0


def test_jobs_see_nothing_of_each_other(server: Running) -> None:
    code = "import os, diablo; print(hasattr(diablo, 'left'), os.getpid()); diablo.left = 1"
    found = [server.ask(code)[1].split() for _ in range(2)]
    assert [one[0] for one in found] == ["False", "False"]
    assert len({one[1] for one in found} | {str(server.process.pid)}) == 3


def test_jobs_run_beside_each_other(server: Running) -> None:
    first = server.start("print(input())")
    assert server.ask("print('second')")[:2] == (0, "second\n")
    assert first.communicate("first\n", timeout=PATIENCE)[0] == "first\n"


WAIT = "import os, subprocess, sys, time; print(os.getpid(), flush=True); "


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_job_ends_with_its_client_and_all_it_started(
    server: Running, how: signal.Signals
) -> None:
    start = (
        "child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True); child.wait()"
    )
    job = server.start(WAIT + start)
    pids = [pid_of(job), pid_of(job)]
    job.send_signal(how)
    for pid in pids:
        ended(pid)
    assert server.ask("pass")[0] == 0  # it goes on serving


def kill(server: Running) -> None:
    server.process.kill()


def let_go(server: Running) -> None:
    """As when the Snakemake that started it is gone, however it went."""
    assert server.process.stdin is not None
    server.process.stdin.close()


@pytest.mark.parametrize("end", [kill, let_go])
def test_no_job_outlives_the_server(server: Running, end: Callable[[Running], None]) -> None:
    job = server.start(WAIT + "time.sleep(1000)")
    pid = pid_of(job)
    end(server)
    ended(pid)
    server.process.wait(timeout=PATIENCE)
    _, err = job.communicate(timeout=PATIENCE)
    assert job.returncode != 0, err
    assert server.path.exists() == server.path.parent.exists() == (end is kill)


def test_a_job_whose_server_is_killed_while_it_starts_does_not_run() -> None:
    code = (
        "import diablo.forking.server as server; server.run_verb = print;"
        "server.Job(['went on'], '.', {}, []).run(-1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_server_that_ends_before_it_has_read_a_request_fails_the_job(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        job = Running(subprocess.Popen(["true"]), path).start("pass")
        accepted, _ = listening.accept()
        assert select.select([accepted], [], [], PATIENCE)[0]
        accepted.close()
        _, err = job.communicate(timeout=PATIENCE)
    assert (job.returncode, err) == (1, "the fork server ended before the job did\n")


def test_provenance_names_the_code_that_the_server_imported(server: Running) -> None:
    code = (
        "from diablo import provenance; provenance.subprocess = provenance.importlib = None;"
        "print(provenance.code_version(), provenance.package_versions())"
    )
    assert server.ask(code)[:2] == (0, f"{code_version()} {package_versions()}\n")


def test_the_server_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it imports would start CUDA, which no job that it forks could use."""
    started: dict = {}
    monkeypatch.setattr(companions.subprocess, "Popen", lambda *_, **how: started.update(how))
    monkeypatch.setenv(SOCKET, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    companions.start_server()
    assert started["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_what_a_job_leaves_at_its_exit_is_done(server: Running, tmp_path: Path) -> None:
    left = tmp_path / "left"
    code = f"import atexit, pathlib; atexit.register(pathlib.Path({str(left)!r}).touch); print('said', end='')"
    assert server.ask(code)[:2] == (0, "said")
    assert left.exists()


@pytest.mark.parametrize("path", ["", "gone"])
def test_without_a_server_the_verb_runs_by_itself(path: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "diablo", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, SOCKET: path and str(tmp_path / path)},
    )
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "diablo", "")


def test_a_client_that_says_nothing_ends_nothing(server: Running) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(server.path))
    assert server.ask("pass")[0] == 0
