"""An endpoint of the tests' own: each request gets what a test wants, and is written down."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from diablo.generation.prompts import Prompt
from diablo.io import write_jsonl
from diablo.specs import SuiteSpec

KEY = "sk-never-to-be-seen-0123456789"


class FakeEndpoint:
    """Answers on loopback until `close`. `answer(question, n)` says how the n-th request is answered.

    An answer is a text (a proper reply), a tuple (status, headers, body), or the name of a mishap:
    "hang" (until `close`), "half" (half a JSON), "short" (less than the announced length), "close"
    (the socket, before a word).
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, int], Any] = lambda question, n: "[[REFUSED]]"
        self.usage: dict | None = {"prompt_tokens": 10, "completion_tokens": 3}
        self.finish = "stop"
        self.requests: list[tuple[dict, dict]] = []  # headers, body
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def questions(self) -> list[str]:
        """What was asked, in order, repetitions included."""
        return [body["messages"][0]["content"] for _, body in self.requests]

    @property
    def times(self) -> Counter[str]:
        """How often each question was asked."""
        return Counter(self.questions)

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._writing:
                    fake.requests.append((dict(self.headers), {**body, "path": self.path}))
                    n = len(fake.requests)
                answer = fake.answer(body["messages"][0]["content"], n)
                if answer == "hang":
                    fake._released.wait()
                elif answer == "close":
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif answer == "half":
                    self._send(200, {}, fake.reply("cut")[:40])
                elif answer == "short":
                    self._send(200, {"Content-Length": "4000"}, fake.reply("cut"))
                elif isinstance(answer, str):
                    self._send(200, {}, fake.reply(answer))
                else:
                    self._send(*answer)

            def _send(self, status: int, headers: dict, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def reply(self, text: str | None, **fields: Any) -> str:
        """The JSON of a chat completion."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = self.finish
        whole = {"object": "chat.completion", "model": "judge-0001", "choices": [choice]}
        return json.dumps(whole | ({"usage": self.usage} if self.usage else {}) | fields)


def make_case(
    folder, suite: str, records: list[dict], completions: dict[tuple[str, str], str]
) -> tuple[SuiteSpec, list[Prompt], dict]:
    """(suite, prompts, stored) as a scorer takes them; the model saw "Human: ..." of each instruction."""
    write_jsonl(folder / "test.jsonl", records)
    spec = SuiteSpec(
        suite=suite,
        variant="paper",
        dataset="small",
        data_path=str(folder),
        tasks=list(dict.fromkeys(record["task"] for record in records)),
        decoding={},
    )
    prompts = [Prompt(f"Human: {record['instruction']}\n", record) for record in records]
    seen = {prompt.id: prompt.text for prompt in prompts}
    stored = {key: (seen[key[1]], [text]) for key, text in completions.items()}
    return spec, prompts, stored
