"""Workers that judge candidates, one at a time each, and all of them beside each other."""

from __future__ import annotations

import contextlib
import functools
import json
import py_compile
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO, Any

from diablo.scoring.sandbox import view
from diablo.scoring.sandbox.inside.box import OUT_OF_TIME
from diablo.scoring.sandbox.inside.plain import Channel, Closed, Refused, dump
from diablo.scoring.sandbox.words import Job, Limits, Result, SandboxError

INSIDE = Path(__file__).with_name("inside")
START = "import sys; sys.path.append(sys.argv[1]); from inside.zygote import main; main()"
#: No site-packages, no start-up files, nothing from the current folder. Sets of texts have the same
#: order in every process, so that a candidate's outcome does not depend on chance.
FLAGS = ("-S", "-s", "-P", "-B")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}


class Worker:
    """One process that starts candidates (`inside.zygote`), and this end of the socket to it.

    Raises:
        SandboxError: if this kind of sandbox cannot be made here; says why.
    """

    def __init__(self, kind: str, limits: Limits, folder: Path):
        self.kind = kind
        self.log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._socket, theirs = socket.socketpair()
        self._channel = Channel(self._socket.fileno())
        python = [view.interpreter(), *FLAGS]
        setting = {
            "kind": kind,
            "limits": limits.resources(),
            "wall_seconds": limits.wall_seconds,
            "folder_bytes": limits.folder_bytes,
            "folder_files": limits.folder_files,
            "visible": view.visible(),
            "hidden": view.hidden(),
            "stage": str(folder / "root"),
            "inside": str(folder / "inside"),
            "python": python,
            "environment": ENVIRONMENT,
            **_bubblewrap(),
        }
        self._process = subprocess.Popen(
            [*python, "-c", START, str(folder), json.dumps(setting)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        try:
            self._expect("ready")
        except SandboxError:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        return self._process.pid

    def run(self, job: Job) -> Result:
        """Judge one candidate; nothing of it is left when this returns.

        Raises:
            SandboxError: if the sandbox failed.
            ValueError: if the problem's prompt or test cannot be used.
        """
        question = dump((job.program, job.prompt, job.test, job.entry_point))
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    socket.send_fds(self._socket, [b"."], [theirs.fileno()])
                except OSError:
                    raise self._failure("it has ended") from None
            checker = Channel(ours.fileno())
            said: list[tuple] = []
            with contextlib.suppress(Closed):
                checker.send_bytes(question)
                while True:
                    said.append(checker.receive())
        late, box, checker_end = self._expect("done")
        match said:
            case [("broken", str(detail))] | [("up",), ("broken", str(detail))]:
                raise ValueError(f"{job.name}: {detail}")
            case [("up",)] if late or checker_end == -signal.SIGXCPU:
                return Result("timeout", "wall time" if late else "processor time")
            case [("up",), (str(outcome), str(detail))]:
                if outcome == "crashed" and box == OUT_OF_TIME:
                    return Result("timeout", "processor time")
                return Result(outcome, detail)
        raise self._failure(f"no verdict (its processes ended with {box} and {checker_end})")

    def _expect(self, word: str) -> list[Any]:
        try:
            said, *rest = self._channel.receive()
        except (Closed, Refused):
            raise self._failure("it ended at once") from None
        if said != word:
            raise self._failure(str(rest[0]))
        return rest

    def _failure(self, problem: str) -> SandboxError:
        self.log.seek(0)
        said = self.log.read().strip()
        return SandboxError(": ".join(part for part in (problem, said[-2000:]) if part))

    def kill(self) -> None:
        """End the process now, and with it everything that it started (they die with their parents)."""
        self._process.kill()

    def close(self) -> None:
        """End the process, which is between two candidates, or dead."""
        self._socket.close()
        self._process.wait()
        self.log.close()


@functools.cache
def _bubblewrap() -> dict[str, Any]:
    """Bubblewrap's program, and an option that only newer versions have: no user namespaces inside."""
    program = shutil.which("bwrap")
    if program is None:
        return {"bwrap": None, "bwrap_options": []}
    words = subprocess.run([program, "--help"], capture_output=True, text=True).stdout.split()
    return {"bwrap": program, "bwrap_options": [o for o in ("--disable-userns",) if o in words]}


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A temporary folder for workers: `inside/`, compiled, and an empty `root/`; anybody may read it."""
    with tempfile.TemporaryDirectory(prefix="diablo-sandbox-") as name:
        folder = Path(name)
        (folder / "inside").mkdir()
        (folder / "root").mkdir()
        for source in INSIDE.glob("*.py"):
            # Bubblewrap's candidates import some of these each time.
            compiled = folder / "inside" / f"{source.stem}.pyc"
            py_compile.compile(str(source), str(compiled), doraise=True)
            compiled.chmod(0o644)
        for place in (folder, folder / "inside", folder / "root"):
            place.chmod(0o755)
        yield folder


def run_all(
    jobs: Mapping[str, Job], kind: str, limits: Limits, workers: int
) -> Iterator[tuple[str, Result]]:
    """Judge all jobs, `workers` at a time; yields each one's key and result as it is done.

    Args:
        kind: see `choose`.

    Raises:
        SandboxError: if the sandbox failed; no more candidates are started.
        ValueError: if a problem cannot be used; names it.
    """
    workers = max(1, min(workers, len(jobs)))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(working_folder())
        started: list[Worker] = []
        free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for _ in range(workers if jobs else 0):
            started.append(Worker(kind, limits, folder))
            stack.callback(started[-1].close)
            free.put(started[-1])

        def judge(job: Job) -> Result:
            worker = free.get()
            try:
                return worker.run(job)
            finally:
                free.put(worker)

        pool = stack.enter_context(ThreadPoolExecutor(workers))
        futures = {pool.submit(judge, job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in started:
                worker.kill()
            raise
