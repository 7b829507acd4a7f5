"""The kinds of sandbox: how a candidate's first process leaves this system for one of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import Any

from . import mounts, system
from .box import fork, only, supervise

#: Who a candidate is in its sandbox, and where root scores outside of it too: who owns nothing.
NOBODY = 65534
#: All that is new for each candidate.
NAMESPACES = (
    system.NEW_USERS
    | system.NEW_MOUNTS
    | system.NEW_PIDS
    | system.NEW_NETWORK
    | system.NEW_IPC
    | system.NEW_NAMES
)
START = "import sys; sys.path.append(sys.argv[1]); from inside.box import main; main()"


class Kind:
    """What the kinds share.

    Args:
        setting: `limits` (resource limits by name), `folder_bytes` and `folder_files` (of the folder a
            candidate may write to), `visible` and `hidden` (see `mounts.build_root`), `stage` (an empty
            folder) and, for bubblewrap, `bwrap` (the program), `bwrap_options`, `python` (that of an interpreter),
            `environment` and `inside` (this folder).
    """

    def __init__(self, setting: dict[str, Any]):
        self.setting = setting
        self.limits: dict[str, int] = setting["limits"]
        # A container's root may be an ordinary user outside, and the only one that there is inside.
        self.root = os.geteuid() == 0 and system.knows_user(NOBODY)
        self.staged = False
        if self.root:
            os.setgroups([])

    def start(self, fd: int) -> int:
        """Start a box with the channel `fd`; the id of its outermost process."""
        raise NotImplementedError

    def clean(self) -> None:
        """After the last process of a box is gone."""

    def confine(self) -> None:
        """In a checker's process: give up what it does not need, though its code is trusted."""
        if self.staged:
            os.chroot(self.setting["stage"])
            os.chdir("/")
            self.become_nobody()
        system.drop_capabilities()
        system.die_with_parent()

    def stage(self) -> None:
        """Build the root folder for candidates, which only this process and its children see."""
        if self.root:
            system.unshare(system.NEW_MOUNTS)
        else:
            me = (os.geteuid(), os.getegid())
            system.unshare(system.NEW_USERS | system.NEW_MOUNTS)
            system.write_maps("self", me, me)
        setting = self.setting
        mounts.build_root(setting["stage"], setting["visible"], setting["hidden"])
        self.staged = True

    def become_nobody(self) -> None:
        """Where root scores: give that up."""
        if self.root:
            system.become(NOBODY)


class Namespaces(Kind):
    """Namespaces of our own making; each candidate is a fork of this warm process."""

    def __init__(self, setting: dict[str, Any]):
        super().__init__(setting)
        self.stage()
        size = f"size={setting['folder_bytes']},nr_inodes={setting['folder_files']}"
        self.folder = f"{size},mode=700,uid={NOBODY},gid={NOBODY}"
        self.owner = (NOBODY, NOBODY) if self.root else (os.geteuid(), os.getegid())

    def start(self, fd: int) -> int:
        ready, go = os.pipe(), os.pipe()
        box = fork(lambda: self._enter(fd, ready[1], go[0]))
        os.close(ready[1])
        os.close(go[0])
        # Who is who inside may only be said by who has rights outside.
        if os.read(ready[0], 1):
            system.write_maps(box, (NOBODY, NOBODY), self.owner)
            os.write(go[1], b".")
        os.close(ready[0])
        os.close(go[1])
        return box

    def _enter(self, fd: int, ready: int, go: int) -> None:
        only(fd, ready, go)
        volunteer()
        system.unshare(NAMESPACES)
        os.write(ready, b".")
        if not os.read(go, 1):
            raise OSError("the ids were not mapped")
        with contextlib.suppress(OSError), open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")  # in this one
        stage = self.setting["stage"]
        system.mount(stage, stage, None, system.BIND | system.RECURSIVE)
        mounts.tmpfs(f"{stage}/tmp", self.folder, system.NO_EXECUTION)
        system.enter_root(stage)
        os.chdir("/tmp")
        system.become(NOBODY)
        system.die_with_parent()
        first = fork(lambda: supervise(fd, self.limits))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)


class Bubblewrap(Kind):
    """The program bubblewrap; each candidate is a Python of its own in it."""

    def __init__(self, setting: dict[str, Any]):
        super().__init__(setting)
        source = ""
        if self.root:
            # The interpreter may lie where only root may go; what is staged, everybody may see.
            self.stage()
            source = setting["stage"]
        self.command = [
            setting["bwrap"],
            *("--die-with-parent", "--as-pid-1", "--new-session"),
            *(f"--unshare-{name}" for name in ("user", "pid", "net", "ipc", "uts")),
            *("--uid", str(NOBODY), "--gid", str(NOBODY), *setting["bwrap_options"]),
            *(word for path in setting["visible"] for word in self._show(path, source)),
            *(
                word
                for path in setting["hidden"]
                for word in ("--tmpfs", path, "--remount-ro", path)
            ),
            *(word for name in mounts.DEVICES for word in ("--dev-bind", *[f"/dev/{name}"] * 2)),
            *("--ro-bind", setting["inside"], "/sandbox/inside"),
            *("--size", str(setting["folder_bytes"]), "--perms", "0700", "--tmpfs", "/tmp"),
            *("--remount-ro", "/", "--chdir", "/tmp"),
            *(*setting["python"], "-c", START, "/sandbox"),
        ]

    def _show(self, path: str, source: str) -> tuple[str, ...]:
        if os.path.islink(path):
            return "--symlink", os.readlink(path), path
        return "--ro-bind", source + path, path

    def start(self, fd: int) -> int:
        limits = [f"{name}={value}" for name, value in self.limits.items()]
        return fork(lambda: self._enter(fd, [*self.command, str(fd), *limits]))

    def _enter(self, fd: int, command: list[str]) -> None:
        only(fd)
        os.set_inheritable(fd, True)
        volunteer()
        self.become_nobody()
        os.execve(command[0], command, self.setting["environment"])


class Nothing(Kind):
    """No sandbox: limits, and a process group of its own. Only where the user asks for it."""

    def start(self, fd: int) -> int:
        self.folder = tempfile.mkdtemp()
        return fork(lambda: self._enter(fd))

    def _enter(self, fd: int) -> None:
        os.chdir(self.folder)
        supervise(fd, self.limits)

    def clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


KINDS = {"bubblewrap": Bubblewrap, "namespaces": Namespaces, "none": Nothing}


def volunteer() -> None:
    """Be the first to be killed where this system runs out of memory."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
