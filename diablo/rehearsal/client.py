"""Runs a verb in the fork server: `python client.py VERB ...` is `python -m diablo VERB ...` without its imports.

A file of its own that imports nothing of the package, so that it starts in some hundredths of a second. The verb
gets this process's arguments, working directory, environment and standard streams, and ends with it.
"""

import array
import json
import os
import socket
import sys

#: Environment variable with the path of the server's socket.
SOCKET = "DIABLO_FORK_SERVER"


def main() -> int:
    """The verb's exit status; without a server the verb runs as ever."""
    path = os.environ.get(SOCKET)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path or "")
    except OSError:
        if path:
            print("no fork server answers: the job imports everything itself", file=sys.stderr)
        os.execv(sys.executable, [sys.executable, "-m", "diablo", *sys.argv[1:]])
    request = json.dumps(
        {"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    ).encode()
    streams = array.array("i", [0, 1, 2])
    header = len(request).to_bytes(8, "big")
    server.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(request)
    answer = server.recv(1)
    if not answer:
        print("the fork server ended before the job did", file=sys.stderr)
        return 1
    return answer[0]


if __name__ == "__main__":
    sys.exit(main())
