"""A job's own GPUs: a lease over this machine's indices, since `resources: gpu=1` only counts jobs.

A lease is a lock (flock) that the job's process holds on a file of the GPU: however the process ends,
the kernel frees it. All jobs of all users of this machine share the files. No torch, and without an
NVIDIA GPU nothing happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: Where the lock files lie: in memory, writable for everyone, and gone when the machine restarts.
LOCKS = Path("/dev/shm/diablo-gpus")

VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Its entries that stand for no GPU; the last is SLURM's.
NO_GPU = ("", "-1", "NoDevFiles")

#: Seconds between two looks at what has become free.
POLL = 1.0

_LISTED = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")


def listed() -> dict[str, str]:
    """This machine's GPUs as `nvidia-smi` counts them: index -> UUID. Empty if there are none."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(_LISTED.findall(done.stdout))


def candidates(found: dict[str, str], visible: str | None) -> dict[str, str]:
    """What a job may have: what stands for a GPU in `CUDA_VISIBLE_DEVICES` -> name of its lock.

    An index that no GPU has is left out.

    Args:
        found: of :func:`listed`.
        visible: the variable, as the user or a scheduler set it, which is not overruled; None: all.
    """
    if visible is None:
        return dict(found)
    entries = [entry for entry in map(str.strip, visible.split(",")) if entry not in NO_GPU]
    # An index, a UUID or the start of one; a MIG instance is known by its own name alone.
    return {
        entry: found.get(entry)
        or next((uuid for uuid in found.values() if uuid.startswith(entry)), entry)
        for entry in entries
        if entry in found or not entry.isdecimal()
    }


def available(count: int, found: dict[str, str] | None = None) -> dict[str, str]:
    """All that a job of `count` GPUs may have, see :func:`candidates`; empty where there are none.

    Args:
        found: see :func:`listed`; None looks.

    Raises:
        ValueError: there are GPUs, but fewer than `count`.
    """
    visible = os.environ.get(VISIBLE)
    may_have = candidates(listed() if found is None else found, visible)
    if 0 < len(may_have) < count:
        where = "this machine has" if visible is None else f"{VISIBLE} = {visible} shows"
        raise ValueError(f"the job needs {count} GPUs, but {where} {len(may_have)}; lower `gpus`")
    return may_have


@contextlib.contextmanager
def lease(
    count: int, found: dict[str, str] | None = None, folder: Path = LOCKS, poll: float = POLL
) -> Iterator[list[str]]:
    """Hold `count` GPUs of this machine, and show only them to this process and its children.

    Waits until so many are free. Jobs that may have the same GPUs stand in line, so that none that needs
    several starves; all are taken at once or none is, so that jobs never wait for each other in a circle.

    Args:
        found: see :func:`listed`; None looks.
        folder: of the locks.
        poll: seconds between two looks at what has become free.

    Returns:
        Their entries in `CUDA_VISIBLE_DEVICES`; none where there are no GPUs (or none are wanted).

    Raises:
        ValueError: there are GPUs, but fewer than `count` that this job may have.
    """
    before = os.environ.get(VISIBLE)
    locks = available(count, found) if count else {}
    if not locks:
        yield []
        return
    with contextlib.ExitStack() as held:
        chosen = _take(count, locks, folder, poll, held)
        changes = {VISIBLE: ",".join(chosen)}
        if before is None:
            # The indices are those of nvidia-smi; by itself CUDA would count the fastest one first.
            changes["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        with _environment(changes):
            yield chosen


def _take(
    count: int, locks: dict[str, str], folder: Path, poll: float, held: contextlib.ExitStack
) -> list[str]:
    """Entries of `count` GPUs, in order; their locks are held until `held` is closed."""
    same = hashlib.sha256(" ".join(sorted(locks.values())).encode()).hexdigest()[:16]
    with _locked(folder / f"line-{same}", "waiting: other jobs are first in line for a GPU"):
        told = False
        while True:
            with _locked(folder / "one-at-a-time"), contextlib.ExitStack() as taken:
                chosen: list[str] = []
                for entry, name in locks.items():
                    if len(chosen) < count and (lock := _try_lock(folder / name)) is not None:
                        taken.callback(os.close, lock)
                        chosen.append(entry)
                if len(chosen) == count:
                    held.push(taken.pop_all())
                    return chosen
            if not told:
                _tell(
                    f"waiting: of {len(locks)} GPUs {len(chosen)} are free, the job needs {count}"
                )
                told = True
            time.sleep(poll)


@contextlib.contextmanager
def _locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock of a file; say that it is `waiting` if someone else has it."""
    lock = _open(path)
    try:
        if waiting and not _lock(lock, wait=False):
            _tell(waiting)
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    """The descriptor of a file that is locked until it is closed; None if someone else has the lock."""
    lock = _open(path)
    if _lock(lock, wait=False):
        return lock
    os.close(lock)
    return None


def _lock(descriptor: int, wait: bool = True) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    """A descriptor of a lock file, which is made, as is its folder, by whichever user comes first."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user was faster
            path.parent.chmod(0o1777)
    with contextlib.suppress(FileExistsError):
        new = os.open(path, os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(new, 0o644)  # whatever the user's umask
        os.close(new)
    # A lock needs no right to write, so a file of another user does.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
