"""Many questions to a judge: asked side by side, each reply kept on disk, tokens and cost counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from diablo.data.sources import locked
from diablo.io import read_json, sha256_json, write_json
from diablo.judging import JudgeConfig
from diablo.scoring.judges.endpoint import Endpoint, Stopped


@dataclass(frozen=True)
class Question:
    """What is sent as the user's message; `where` names the example in messages."""

    where: str
    text: str


class Asker:
    """Asks an endpoint, each request once ever: replies are kept in files named by the request's hash.

    A file is written as a whole, and under a lock of its own: a killed job loses no reply that it
    had, and jobs and threads that ask the same wait for each other. A kept reply costs nothing.

    Args:
        config: the judge of config.yaml.
        folder: where replies are kept (made if missing). Neither key nor question are written.
    """

    def __init__(self, config: JudgeConfig, folder: Path):
        self.config = config
        self.folder = folder
        self._stop = threading.Event()
        self._endpoint = Endpoint(config, self._stop.wait)
        self._counting = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._models: set[str] = set()

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """The replies to all questions, in their order.

        Raises:
            JudgeError: if one of them got none. The others are stopped; replies so far are kept.
        """
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            futures = [pool.submit(self._one, question) for question in questions]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def facts(self) -> dict[str, Any]:
        """Whom was asked, how often, and what it cost, for the provenance.

        `calls` were sent and answered now, `cached` were answered before and cost nothing. `cost` is
        None without prices, or if a reply did not count its tokens (`uncounted`).
        """
        counts = self._counts
        prices = (
            self.config.price_per_million_prompt_tokens,
            self.config.price_per_million_completion_tokens,
        )
        cost = None
        if prices[0] is not None and prices[1] is not None and not counts["uncounted"]:
            tokens = (counts["prompt_tokens"], counts["completion_tokens"])
            cost = (tokens[0] * prices[0] + tokens[1] * prices[1]) / 1e6
        names = ("calls", "cached", "retries", "cut_off", "uncounted")
        return {
            "endpoint": urlsplit(self.config.endpoint).netloc,
            "model": self.config.model,
            "answered_by": sorted(self._models),
            "temperature": 0,
            "max_tokens": self.config.max_tokens,
            **{name: counts[name] for name in (*names, "prompt_tokens", "completion_tokens")},
            "price_per_million_tokens": None if None in prices else list(prices),
            "cost": cost,
        }

    def _one(self, question: Question) -> str:
        body = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": question.text}],
            "temperature": 0,
            "max_tokens": self.config.max_tokens,
        }
        key = sha256_json({"address": self._endpoint.address, "request": body})
        path = self.folder / key[:2] / f"{key}.json"
        reply = _kept(path)
        if reply is not None:
            self._count(reply, asked=False)
            return reply["text"]
        with locked(path):
            reply = _kept(path)  # another thread or job may have been faster
            asked = reply is None
            if reply is None:
                if self._stop.is_set():
                    raise Stopped
                reply = self._endpoint.send(body, question.where)
                # The example's name finds a reply that one wants to read.
                write_json(path, {"example": question.where, **reply})
        self._count(reply, asked)
        return reply["text"]

    def _count(self, reply: dict[str, Any], asked: bool) -> None:
        with self._counting:
            self._counts["calls" if asked else "cached"] += 1
            self._counts["cut_off"] += reply["cut_off"]
            if reply["model"] is not None:
                self._models.add(reply["model"])
            if not asked:
                return
            self._counts["retries"] += reply["attempts"] - 1
            tokens = (reply["prompt_tokens"], reply["completion_tokens"])
            self._counts["uncounted"] += None in tokens
            self._counts["prompt_tokens"] += tokens[0] or 0
            self._counts["completion_tokens"] += tokens[1] or 0


def _kept(path: Path) -> dict[str, Any] | None:
    """The reply in a file; None if there is none, or a power failure left no whole one."""
    try:
        return read_json(path)
    except (FileNotFoundError, ValueError):
        return None
