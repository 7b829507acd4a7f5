"""A judge for rehearsals: an OpenAI-compatible endpoint on this machine that gives everybody the same.

`python -m diablo.rehearsal.judge ADDRESS` serves until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from diablo.forking.companions import accompany
from diablo.scoring.judges.prompts import NEITHER

GRADE = "Rating: [[5]]"


class Handler(BaseHTTPRequestHandler):
    """Answers `POST .../chat/completions`."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = request["messages"][-1]["content"]
        # A question about refusals names its labels.
        text = f"This is a rehearsal.\n{f'[[{NEITHER}]]' if NEITHER in question else GRADE}"
        message = {"role": "assistant", "content": text}
        body = json.dumps(
            {
                "object": "chat.completion",
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": len(question.split()), "completion_tokens": 5},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def start_judge(address: str) -> None:
    """Serve at `address` as long as this process is there.

    Raises:
        RuntimeError: if it cannot listen there; it has said why.
    """
    judge = accompany("diablo.rehearsal.judge", address, subprocess.PIPE)
    assert judge.stdout is not None
    if not judge.stdout.readline():
        raise RuntimeError("the rehearsal's judge did not start")


def main(address: str) -> int:
    """Serve at `address` (http://127.0.0.1:PORT/v1) until standard input ends."""
    parts = urlsplit(address)
    try:
        server = ThreadingHTTPServer((parts.hostname or "", parts.port or 0), Handler)
    except OSError as error:
        print(
            f"rehearsal: the judge cannot listen at {address} ({error}): is another rehearsal of the same folder "
            "running? Otherwise give other `results`, from which its port follows",
            file=sys.stderr,
        )
        return 1
    print("listening", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
