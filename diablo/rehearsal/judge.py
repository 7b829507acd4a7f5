"""A judge for rehearsals: an OpenAI-compatible endpoint on this machine that says the same to every question.

`python -m diablo.rehearsal.judge ADDRESS` serves until its standard input ends.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: Holds what is read back of a reply about refusals and of a grade; each reading takes its own.
GRADE, REFUSAL = "Rating: [[5]]", "[[NEITHER]]"


class Handler(BaseHTTPRequestHandler):
    """Answers `POST .../chat/completions`."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = request["messages"][-1]["content"]
        text = f"This is a rehearsal.\n{GRADE if 'Rating' in question else REFUSAL}"
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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
