"""The system calls that Python does not have, each a function that raises OSError."""

from __future__ import annotations

import ctypes
import os
import resource

_libc = ctypes.CDLL(None, use_errno=True)

# <sched.h>, <sys/mount.h>, <sys/prctl.h>, <linux/capability.h>
NEW_MOUNTS, NEW_USERS, NEW_PIDS = 0x00020000, 0x10000000, 0x20000000
NEW_NETWORK, NEW_IPC, NEW_NAMES = 0x40000000, 0x08000000, 0x04000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXECUTION = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _DROP_BOUND = 1, 4, 24
_SET_SUBREAPER, _NO_NEW_PRIVILEGES, _AMBIENT, _CLEAR_ALL = 36, 38, 47, 4
_CAPABILITY_VERSION = 0x20080522


def _checked(what: str, result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags` for new ones; new processes' ids start with the next child."""
    _checked("unshare", _libc.unshare(flags))


def write_maps(pid: int | str, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """Say who the user and group `inside`, the only ones of a new user namespace, are outside of it."""
    for name, line in (
        ("setgroups", "deny"),  # what an ordinary user must give up before the groups are mapped
        ("uid_map", f"{inside[0]} {outside[0]} 1"),
        ("gid_map", f"{inside[1]} {outside[1]} 1"),
    ):
        with open(f"/proc/{pid}/{name}", "w") as file:
            file.write(line)


def knows_user(number: int) -> bool:
    """Whether this user namespace has a user and a group of that number."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}") as lines:
            ranges = [tuple(map(int, line.split())) for line in lines]
        if not any(first <= number < first + count for first, _, count in ranges):
            return False
    return True


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    arguments = [text.encode() for text in (source, target)]
    kinds, data = kind.encode() if kind else None, options.encode() if options else None
    _checked(f"mount {target}", _libc.mount(*arguments, kinds, ctypes.c_ulong(flags), data))


def enter_root(folder: str) -> None:
    """Make `folder`, a mount, the root of this mount namespace, and forget the old root."""
    os.chdir(folder)
    _checked("pivot_root", _libc.pivot_root(b".", b"."))
    _checked("umount", _libc.umount2(b".", _DETACH))
    os.chdir("/")


def _prctl(what: str, *arguments: int) -> None:
    # The kernel wants unused arguments to be zero.
    numbers = [ctypes.c_ulong(number) for number in (*arguments[1:], 0, 0, 0, 0)[:4]]
    _checked(what, _libc.prctl(arguments[0], *numbers))


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of user or capabilities undoes it: call it after those."""
    _prctl("PR_SET_PDEATHSIG", _SET_DEATH_SIGNAL, 9)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends."""
    _prctl("PR_SET_CHILD_SUBREAPER", _SET_SUBREAPER, 1)


def hide_memory() -> None:
    """Let no process without rights over this one trace it or read its memory."""
    _prctl("PR_SET_DUMPABLE", _SET_DUMPABLE, 0)


def become(number: int) -> None:
    """Be the user and the group of that number."""
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def drop_capabilities() -> None:
    """Give up every capability for good, whatever is executed later."""
    _prctl("PR_SET_NO_NEW_PRIVS", _NO_NEW_PRIVILEGES, 1)
    _prctl("PR_CAP_AMBIENT", _AMBIENT, _CLEAR_ALL)
    capability = 0
    while _libc.prctl(_DROP_BOUND, *[ctypes.c_ulong(n) for n in (capability, 0, 0, 0)]) == 0:
        capability += 1
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked("capset", _libc.capset(header, (ctypes.c_uint32 * 6)()))


def limit(limits: dict[str, int]) -> None:
    """Set resource limits, which this process and its children cannot raise again.

    Processor time has a second more until the process is killed: at the limit itself a signal says
    what happened.
    """
    for name, value in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        last = value + 1 if name == "RLIMIT_CPU" else value
        if hard != resource.RLIM_INFINITY:
            last = min(last, hard)
        resource.setrlimit(which, (min(value, last), last))


def children() -> list[int]:
    """This process's children, adopted ones too."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]
