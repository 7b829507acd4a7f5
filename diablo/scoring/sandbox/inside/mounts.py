"""Mounts for a sandbox's root folder, in mounts of this process's own."""

from __future__ import annotations

import os
import re

from .system import (
    BIND,
    NO_DEVICES,
    NO_EXECUTION,
    NO_SETUID,
    PRIVATE,
    READ_ONLY,
    RECURSIVE,
    REMOUNT,
    mount,
)

DEVICES = ("null", "zero", "full", "random", "urandom")
SAFE = NO_SETUID | NO_DEVICES
#: What a mount may have been given elsewhere; nobody but who gave it may take it away.
_OPTIONS = {
    "nosuid": NO_SETUID,
    "nodev": NO_DEVICES,
    "noexec": NO_EXECUTION,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
}


def build_root(folder: str, visible: list[str], hidden: list[str]) -> None:
    """Make `folder` a root folder for candidates: read-only, with an empty `/tmp` to mount over.

    Args:
        visible: files, folders and links of this system that are there under the same paths.
        hidden: folders among them that are empty there.
    """
    mount("", "/", None, RECURSIVE | PRIVATE)
    tmpfs(folder, "size=1m,mode=755")
    for path in (*visible, *(f"/dev/{name}" for name in DEVICES)):
        show(path, folder + path)
    for path in hidden:
        tmpfs(folder + path, "size=4k,mode=755", READ_ONLY)
    os.mkdir(f"{folder}/tmp")
    mount("", folder, None, REMOUNT | READ_ONLY | SAFE)


def tmpfs(target: str, options: str, flags: int = 0) -> None:
    """Mount a new file system in memory."""
    mount("tmpfs", target, "tmpfs", SAFE | flags, options)


def show(source: str, target: str) -> None:
    """Have the link, file or folder `source`, with what is mounted below it, at `target` too."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    mount(source, target, None, BIND | RECURSIVE)
    with open("/proc/self/mountinfo", "rb") as lines:
        mounts = [line.split() for line in lines]
    for fields in mounts:
        # White space and backslashes are in octal.
        point = os.fsdecode(re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8)]), fields[4]))
        if point == target or point.startswith(f"{target}/"):
            kept = sum(_OPTIONS.get(option, 0) for option in fields[5].decode().split(","))
            mount("", point, None, REMOUNT | BIND | READ_ONLY | NO_SETUID | kept)
