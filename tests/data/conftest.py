"""A server on the loopback interface that plays GitHub's file server or the Hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FakeServer:
    """Serves `files` (path -> bytes); the other fields are faults it can show.

    Attributes:
        headers: extra response headers by path.
        break_after: for the next requests, in order, close the connection after so many bytes.
        status: answer every request with this status.
        ranges: whether Range requests are honoured.
        requests: (method, path, Range header) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    status: int | None = None
    status_headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path, wanted = self.path.split("?")[0], self.headers.get("Range")
            fake.requests.append((self.command, path, wanted))
            content = fake.files.get(path)
            if fake.status or content is None:
                self.send_response(fake.status or 404)
                for name, value in fake.status_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            if wanted and fake.ranges:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            for name, value in fake.headers.get(path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if body:
                rest = content[start:]
                if fake.break_after:
                    rest = rest[: fake.break_after.pop(0)]
                    self.close_connection = True
                self.wfile.write(rest)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    http.shutdown()
    thread.join()
    http.server_close()
