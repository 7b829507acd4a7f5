"""One question to an OpenAI-compatible endpoint, with retries: a reply, or an error; nothing between.

Tried again are 408, 425, 429, every 5xx, time-outs, closed sockets, and bodies that are no reply (half
JSON, no choices). What a repetition cannot help (a wrong key, an unknown model) ends at once.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any, NoReturn

import requests

from diablo.judging import JudgeConfig

#: Seconds before the second attempt; twice as long before each further one, up to LONGEST.
FIRST_PAUSE = 1.0
LONGEST = 60.0
#: Seconds that a server may ask us to wait (Retry-After); one that asks for more ends the job.
PATIENCE = 600.0
#: Statuses below 500 that may pass.
PASSING = (408, 425, 429)
#: Characters of an error's body that are shown.
SHOWN = 300


class JudgeError(ValueError):
    """The judge gave no reply for an example, which the message names."""


class Stopped(Exception):
    """Another question failed for good: this one is not asked any more."""


class _Again(Exception):
    """An attempt failed and may be repeated, after `wait` seconds if the server said so."""

    def __init__(self, problem: str, wait: float | None = None):
        super().__init__(problem)
        self.wait = wait


class Endpoint:
    """Sends requests to `<endpoint>/chat/completions`. May be used by several threads.

    Args:
        config: the judge of config.yaml.
        pause: waits so many seconds; True if there is no point in going on.

    Raises:
        ValueError: if `api_key_env` names a variable that is not set or holds no key.
    """

    def __init__(self, config: JudgeConfig, pause: Callable[[float], bool]):
        self.config = config
        self.pause = pause
        self.address = f"{config.endpoint}/chat/completions"
        self._key = _key(config.api_key_env)

    def send(self, body: dict[str, Any], where: str) -> dict[str, Any]:
        """The endpoint's reply to a request.

        Args:
            body: the JSON that is sent.
            where: names the example in messages.

        Returns:
            `text` (empty if it has none), `cut_off` (it ended at max_tokens), `model` (as the endpoint
            names what replied, or None), `prompt_tokens` and `completion_tokens` (or None), `attempts`.

        Raises:
            JudgeError: if it refuses the request, or fails in every attempt.
            Stopped: if `pause` says so.
        """
        attempts = self.config.max_retries + 1
        for attempt in range(attempts):
            try:
                return {**self._attempt(body, where), "attempts": attempt + 1}
            except _Again as again:
                if attempt + 1 == attempts:
                    self._give_up(where, f"no reply in {attempts} attempts; the last: {again}")
                seconds = min(FIRST_PAUSE * 2**attempt, LONGEST) * random.uniform(0.5, 1)
                if again.wait is not None and again.wait > PATIENCE:
                    self._give_up(where, f"{again}, and asks for {again.wait:.0f} s of patience")
                if self.pause(max(seconds, again.wait or 0)):
                    raise Stopped from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _attempt(self, body: dict[str, Any], where: str) -> dict[str, Any]:
        limit = self.config.timeout_seconds
        started = time.monotonic()
        try:
            with requests.post(
                self.address,
                json=body,
                auth=self._authorise,
                timeout=limit,
                allow_redirects=False,  # a redirected POST becomes a GET
                stream=True,
            ) as response:
                content = bytearray()
                for part in response.iter_content(1 << 16):
                    content += part
                    # `timeout` is that of one read: a server that drips would never reach it.
                    if time.monotonic() - started > limit:
                        raise _Again(f"the reply took longer than {limit:g} s")
        except requests.RequestException as error:
            raise _Again(f"{type(error).__name__}: {self._shown(str(error))}") from None
        text = content.decode("utf-8", errors="replace")
        status = response.status_code
        if status in PASSING or status >= 500:
            wait = retry_after(response.headers.get("Retry-After"))
            raise _Again(f"HTTP {status}: {self._shown(text)}", wait)
        if status != 200:
            self._give_up(where, f"HTTP {status}: {self._shown(text)}")
        return self._reply(text)

    def _reply(self, text: str) -> dict[str, Any]:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            said = choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise _Again(f"not a chat completion: {self._shown(text)}") from None
        if not isinstance(said, str | None):
            raise _Again(f"a reply that is no text: {self._shown(text)}")
        usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
        return {
            # Half of a surrogate pair is valid JSON, but cannot be written to a file.
            "text": (said or "").encode("utf-8", errors="replace").decode("utf-8"),
            "cut_off": choice.get("finish_reason") == "length",
            "model": body["model"] if isinstance(body.get("model"), str) else None,
            "prompt_tokens": _count(usage.get("prompt_tokens")),
            "completion_tokens": _count(usage.get("completion_tokens")),
        }

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As `auth`, not as a header: else the library prefers what a .netrc has for the host.
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _shown(self, text: str) -> str:
        """The start of an error's text, without the key: some servers repeat it."""
        if self._key is not None:
            text = text.replace(self._key, "[the key]")
        text = " ".join(text.split())
        return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."

    def _give_up(self, where: str, problem: str) -> NoReturn:
        raise JudgeError(
            f"{where}: judge {self.config.model!r} at {self.address}: {problem}\n"
            "Nothing was scored. What was judged is kept: run again to go on from there."
        )


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, a number or a date; None if it has no meaning."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())


def _key(variable: str | None) -> str | None:
    """The key in an environment variable, which no message ever shows."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"judge: api_key_env: the environment variable {variable} is not set; export it where the "
            "workflow is started, or say `api_key_env: null` for an endpoint without a key"
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError(
            f"judge: api_key_env: the environment variable {variable} holds spaces or special characters, "
            "which no key has"
        )
    return key


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
