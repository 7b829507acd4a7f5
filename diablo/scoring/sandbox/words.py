"""What is run, within which limits, and what comes of it."""

from __future__ import annotations

import dataclasses

#: Kinds of sandbox, best first.
KINDS = ("bubblewrap", "namespaces")
#: The kind that is none: limits and a process group only.
UNSAFE = "none"
#: What can come of a candidate. An error of the sandbox is none of these: it is raised.
OUTCOMES = ("passed", "failed", "timeout", "memory", "crashed")


class SandboxError(RuntimeError):
    """The sandbox itself failed: nothing is known about the candidate."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one candidate may use, all its processes together where it does not say otherwise."""

    #: Processor time of each process, whole seconds.
    cpu_seconds: int = 3
    #: From its start to its verdict; larger, so that a busy machine does not decide.
    wall_seconds: float = 15.0
    #: Address space of each process.
    memory_bytes: int = 512 * 2**20
    #: Processes and threads.
    processes: int = 8
    #: Size of a file.
    file_bytes: int = 16 * 2**20
    #: Its folder, the only place that it can write to: bytes and files.
    folder_bytes: int = 64 * 2**20
    folder_files: int = 1024
    #: Of each process.
    open_files: int = 64

    def resources(self) -> dict[str, int]:
        """The limits that the kernel keeps for a process, by their name in the module `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_bytes,
            # The sandbox's own processes count too: one outside, the first inside, the candidate.
            "RLIMIT_NPROC": self.processes + 2,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }


@dataclasses.dataclass(frozen=True)
class Job:
    """A candidate and the problem it is to solve.

    `program` is the candidate's whole source. `prompt` (the function's head, with any helpers) and
    `test` (defines `check(candidate)`) are the problem's own, and trusted. `name` is for messages.
    """

    name: str

    program: str
    prompt: str
    test: str
    entry_point: str


@dataclasses.dataclass(frozen=True)
class Result:
    """An outcome and a few words about it (an exception's text, say: the candidate may have chosen it)."""

    outcome: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"
