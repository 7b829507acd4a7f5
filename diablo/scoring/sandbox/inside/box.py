"""The first process of a sandbox: it limits the candidate, waits for its end and says how it ended.

When the first process of a process namespace ends, the kernel kills all others in it before anybody
is told that it has ended.
"""

from __future__ import annotations

import os
import sys

from . import candidate, system
from .plain import TYPE_CHECKING, Channel

if TYPE_CHECKING:
    from collections.abc import Callable

#: How a box ends: its candidate ended by itself, over its processor time, or was killed otherwise.
ENDED, OUT_OF_TIME, KILLED = 0, 3, 4
SIGKILL, SIGXCPU = 9, 24
#: No process here has a file descriptor above this one.
HIGHEST_FILE = 256


def supervise(fd: int, limits: dict[str, int]) -> None:
    """Run a candidate on the channel `fd` in a child; end (the process) the way it ended.

    Args:
        fd: the candidate's end of the checker's channel.
        limits: name of a resource limit (`RLIMIT_CPU`, ...) -> value.
    """
    system.drop_capabilities()
    system.die_with_parent()
    system.hide_memory()
    only(fd)
    child = fork(lambda: run(fd, limits))
    os.close(fd)
    while True:
        ended, status, used = os.wait3(0)  # orphans of the candidate end here too
        if ended == child:
            break
    code = ENDED
    if os.WIFSIGNALED(status):
        # Who ignores the signal is killed a second later. The two clocks are not the same.
        late = used.ru_utime + used.ru_stime > limits["RLIMIT_CPU"] / 2
        signal = os.WTERMSIG(status)
        code = OUT_OF_TIME if signal == SIGXCPU or (signal == SIGKILL and late) else KILLED
    os._exit(code)


def run(fd: int, limits: dict[str, int]) -> None:
    """Be the candidate's process."""
    # A signal to "my process group" would reach the sandbox's makers, whom no namespace hides from it.
    os.setsid()
    system.limit(limits)
    candidate.serve(Channel(fd))
    os._exit(ENDED)


def fork(work: Callable[[], None]) -> int:
    """Do `work` in a new process, which ends with it; its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def only(*kept: int) -> None:
    """Close all files but the standard ones and those of `kept`."""
    for low, high in zip((2, *sorted(kept)), (*sorted(kept), HIGHEST_FILE), strict=True):
        os.closerange(low + 1, high)


def main() -> None:
    """Of a program that another one put into a sandbox: `FOLDER FD NAME=VALUE...`."""
    sys.path.remove(sys.argv[1])
    limits = dict(pair.split("=") for pair in sys.argv[3:])
    supervise(int(sys.argv[2]), {name: int(value) for name, value in limits.items()})
