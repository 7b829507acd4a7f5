"""A fork server for the jobs of one Snakemake: imports everything once, then forks for each job.

Hundreds of jobs of some seconds each would spend nine more on the same imports. No job sees another one: each is a
process of its own, forked from this one, which has imported and done nothing else. `python -m diablo.forking.server
SOCKET` ends, with all jobs, when its standard input ends: the Snakemake that started it holds the other end, so that
nothing is left behind however Snakemake ends.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from diablo.cli import main as run_verb
from diablo.provenance import code_version, package_versions

#: What the verbs import, as far as it takes time. None of it computes anything when it is imported.
PRELOADED = (
    *(
        "bitsandbytes",
        "lm_eval.evaluator",
        "lm_eval.tasks",
        "matplotlib.pyplot",
        "pandas",
        "sklearn",
    ),
    *("transformers.models.llama.modeling_llama", "transformers.models.mistral.modeling_mistral"),
    *("transformers.models.t5.modeling_t5", "transformers.trainer", "peft"),
    *("diablo.training", "diablo.training.finetune", "diablo.methods", "diablo.tuner.register"),
    *("diablo.generation", "diablo.generation.turns", "diablo.quantization.run"),
    *("diablo.scoring.accuracy", "diablo.scoring.answer_loss", "diablo.scoring.code"),
    *("diablo.tables", "diablo.tables.quantizers", "diablo.analysis.ranks", "diablo.data.prepare"),
)

#: Linux' prctl: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


@dataclass
class Job:
    """What a client asks for, and its standard streams."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]

    def run(self, server: int) -> int:
        """In a process that `server` forked for it: the verb, as if the client had started it; its exit status."""
        os.setpgid(0, 0)
        # A server that is killed takes its jobs along.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # it was killed before that
            os._exit(1)
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        try:
            return run_verb(self.arguments)
        except SystemExit as end:  # argparse's
            return end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
            return 1


@dataclass
class Server:
    """Waits for clients, jobs and the end of its input, one event at a time and in one thread."""

    listening: socket.socket
    events: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    #: A job's process id by its client.
    jobs: dict[socket.socket, int] = field(default_factory=dict)

    def serve(self) -> Job | None:
        """A job to be run, in a process that was forked for it; None in the server itself, at its end."""
        self.events.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self.events.register(self.listening, selectors.EVENT_READ)
        while True:
            for key, _ in self.events.select():
                if key.fileobj is self.listening:
                    if job := self._start(self.listening.accept()[0]):
                        return job
                elif isinstance(key.fileobj, socket.socket):
                    self._kill(key.fileobj)
                elif key.data is not None:
                    self._end(key.fd, key.data)
                elif not os.read(key.fd, 1):
                    for client in list(self.jobs):
                        self._kill(client)
                    return None

    def _start(self, client: socket.socket) -> Job | None:
        """Fork: the job in the new process, None in the server."""
        try:
            job = received(client)
        except (OSError, ValueError) as error:  # a client that was killed while it asked
            print(f"fork server: {error}", file=sys.stderr)
            client.close()
            return None
        pid = os.fork()
        if pid == 0:
            self.events.close()
            for other in (self.listening, client, *self.jobs):
                other.close()
            return job
        for stream in job.streams:
            os.close(stream)
        self.jobs[client] = pid
        # The job does the same: whichever comes first, it can be ended with all that it starts.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        # A client sends nothing more: it becomes readable when it is gone.
        self.events.register(client, selectors.EVENT_READ)
        self.events.register(os.pidfd_open(pid), selectors.EVENT_READ, client)
        return None

    def _end(self, pidfd: int, client: socket.socket) -> None:
        """Tell a client how its job ended."""
        self.events.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(self.jobs.pop(client), 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(KeyError):
            self.events.unregister(client)
        with contextlib.suppress(OSError):
            client.send(bytes([code if code >= 0 else 128 - code]))
        client.close()

    def _kill(self, client: socket.socket) -> None:
        """End the job of a client that is gone, with all that the job has started."""
        if client not in self.jobs:  # it has ended by itself at the same moment
            return
        with contextlib.suppress(KeyError):
            self.events.unregister(client)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.jobs[client], signal.SIGKILL)


def received(client: socket.socket) -> Job:
    """The job that a client asks for.

    Raises:
        ValueError: if the client is gone before it has said all.
    """
    header, streams, _, _ = socket.recv_fds(client, 8, 3)
    size, text = int.from_bytes(header, "big"), bytearray()
    while len(text) < size and (part := client.recv(size - len(text))):
        text += part
    if len(streams) != 3 or not text or len(text) < size:
        for stream in streams:
            os.close(stream)
        raise ValueError("a client was gone before it had said what to run")
    return Job(**json.loads(text), streams=list(streams))


def main(path: str) -> int:
    """Serve at `path`, in a folder of its own, until standard input ends; then both are gone."""
    server = os.getpid()
    # All jobs run what is imported now, so their provenance names that, whatever is pulled or installed later.
    code_version()
    package_versions()
    # Nobody waits for this: until the socket is there, jobs import for themselves.
    for module in PRELOADED:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.new")
        listening.listen(64)
        Path(f"{path}.new").rename(path)
        # What is there now stays as it is: jobs share its memory with this process.
        gc.collect()
        gc.freeze()
        job = Server(listening).serve()
    if job is not None:
        leave(job.run(server))
    Path(path).unlink(missing_ok=True)
    # A Snakemake that was killed does not do it.
    with contextlib.suppress(OSError):
        Path(path).parent.rmdir()
    return 0


def leave(code: int) -> NoReturn:
    """End a job's process as the interpreter would, but for taking apart all that was imported.

    That would write to, and so copy, hundreds of megabytes that jobs share with the server.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
