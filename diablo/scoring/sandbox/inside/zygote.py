"""The process that starts candidates and checkers, one pair at a time, and ends whatever they leave behind.

It is forked from for every candidate, so it has no program, no test and no secret in its memory: those
go over channels that it only hands on.
"""

from __future__ import annotations

# Imported once here, not by every candidate and test.
import bisect
import collections
import copy
import datetime
import decimal
import fractions
import functools
import gc
import hashlib
import heapq
import itertools
import json
import math
import operator
import os
import re
import select
import signal
import socket
import statistics
import string
import sys
import time
import traceback
import typing

from . import system
from .box import fork, only
from .checker import judge
from .kinds import KINDS, Kind
from .plain import Channel

#: For candidates only.
WARM = (
    *(bisect, collections, copy, datetime, decimal, fractions, functools, hashlib, heapq),
    *(itertools, math, operator, re, statistics, string, typing),
)
#: Seconds that a sandbox may take until it stands.
SET_UP = 60.0
#: Seconds that a box whose channel has closed may take to end by itself.
GRACE = 1.0
#: How a checker ends that found no candidate to ask any more.
GONE = 3


def main() -> None:
    """`FOLDER SETTING` (JSON, see `Kind`); its standard input is the socket to whoever scores.

    Says ("ready", "") or ("error", text) there. Then each byte that comes, with the file descriptor of a
    checker's channel, starts a candidate; when all of its processes are gone, a report comes back:
    ("done", wall time is over, how the box ended or None, how the checker ended).
    """
    sys.path.remove(sys.argv[1])
    setting = json.loads(sys.argv[2])
    scorer = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    channel = Channel(scorer.fileno())
    # Waited for, here alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, ()))
    os.environ.clear()
    try:
        system.adopt_orphans()
        kind = KINDS[setting["kind"]](setting)
        system.die_with_parent()
    except OSError as error:
        channel.send(("error", str(error)))
        return
    gc.freeze()  # pages that no collection touches stay shared
    channel.send(("ready", ""))
    while True:
        message, files, _, _ = socket.recv_fds(scorer, 1, 1)
        if not message:
            return
        try:
            channel.send(_one(kind, files[0], setting["wall_seconds"]))
        except Exception:
            end_all({})
            channel.send(("error", traceback.format_exc(limit=-2)))


def _one(kind: Kind, to_scorer: int, wall: float) -> tuple[str, bool, int | None, int | None]:
    to_candidate, to_checker = (end.detach() for end in socket.socketpair())
    waits, up = os.pipe()
    ended: dict[int, int] = {}
    try:
        checker = fork(lambda: _check(kind, to_scorer, to_candidate, up))
        box = kind.start(to_checker)
        for fd in (to_scorer, to_candidate, to_checker, up):
            os.close(fd)
        # The checker closes its end when the candidate's sandbox stands. A busy machine's slowness
        # until then is not the candidate's.
        select.select([waits], [], [], SET_UP)
        deadline = time.monotonic() + wall
        in_time = _wait(checker, deadline, ended)
        if ended.get(checker) == GONE:
            _wait(box, min(deadline, time.monotonic() + GRACE), ended)
        last = ended.get(box)
    finally:
        os.close(waits)
        end_all(ended)
        kind.clean()
    return "done", not in_time, last, ended.get(checker)


def _check(kind: Kind, to_scorer: int, to_candidate: int, up: int) -> None:
    only(to_scorer, to_candidate, up)
    kind.confine()
    system.limit(kind.limits)
    if not judge(Channel(to_scorer), Channel(to_candidate), up):
        os._exit(GONE)


def _wait(process: int, deadline: float, ended: dict[int, int]) -> bool:
    """Whether a child ends before the deadline; notes how all that end do."""
    while process not in ended:
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            ended[child] = os.waitstatus_to_exitcode(status)
            if child == process:
                return True
        left = deadline - time.monotonic()
        if left <= 0 or signal.sigtimedwait({signal.SIGCHLD}, left) is None:
            return False
    return True


def end_all(ended: dict[int, int]) -> None:
    """Kill all descendants; returns when none is left."""
    while True:
        for child in system.children():
            os.kill(child, signal.SIGKILL)
        try:
            child, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        ended.setdefault(child, os.waitstatus_to_exitcode(status))
