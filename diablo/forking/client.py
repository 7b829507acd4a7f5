"""Hands a verb over to the fork server, if there is one. Imports next to nothing: it runs before everything else."""

from __future__ import annotations

import array
import json
import os
import socket
import sys
from collections.abc import Sequence

#: Environment variable with the path of the server's socket.
SOCKET = "DIABLO_FORK_SERVER"


def forwarded(arguments: Sequence[str]) -> int | None:
    """Run `diablo ARGUMENTS` in a process of the server: its exit status; None if no server answers (yet).

    The verb gets this process's working directory, environment and standard streams, and ends with it.
    """
    if not (path := os.environ.get(SOCKET)):
        return None
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(path)
        except OSError:
            return None
        request = json.dumps(
            {"arguments": list(arguments), "folder": os.getcwd(), "environment": dict(os.environ)}
        ).encode()
        streams = array.array("i", [0, 1, 2])
        header = len(request).to_bytes(8, "big")
        try:
            server.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
            server.sendall(request)
            answer = server.recv(1)
        except OSError:  # it ended before it had read all
            answer = b""
    if not answer:
        print("the fork server ended before the job did", file=sys.stderr)
        return 1
    return answer[0]
