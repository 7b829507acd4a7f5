"""The process in which a problem's test runs: `check(candidate)` with a stand-in for the function.

The stand-in sends the arguments to the candidate's process and returns what comes back. The candidate's
code never runs here, so it can reach neither the asserts nor the verdict.
"""

from __future__ import annotations

import builtins
import os
import random
from typing import Any

from .plain import Channel, Closed, Refused

#: Of what is said about a failure.
LONGEST_TEXT = 300
#: Exceptions that would end a loop of the test in silence, as if all were well.
_SILENT = ("StopIteration", "StopAsyncIteration", "GeneratorExit")


class Raised(Exception):
    """The candidate raised an exception of its own, or one that says something else in a test."""


class Trouble(BaseException):
    """What ends a judgement, whatever the test would make of it."""

    outcome: str


class Gone(Trouble):
    """The candidate's process has ended, or talks nonsense."""

    outcome = "crashed"


class Broken(Trouble):
    """The problem itself cannot be used: its prompt or test is at fault, not the candidate."""

    outcome = "broken"


def judge(scorer: Channel, candidate: Channel, up: int) -> bool:
    """Judge one candidate and tell the scorer; whether the candidate's process was there all the time.

    Message in, from the scorer: (program, prompt, test, name of the function). Messages out: ("up",)
    when the candidate's sandbox stands, and `up` is closed; then (outcome, detail), where the outcome is `passed`,
    `failed`, `memory`, `crashed`, or `broken` for a problem that cannot be used.
    """
    program, prompt, test, name = scorer.receive()
    # A test that draws its arguments draws the same ones for every candidate.
    random.seed(0)
    function = _Function(candidate)
    try:
        namespace = _test_namespace(prompt, test, name, function)
    except Broken as error:
        scorer.send(("broken", str(error)))
        return True
    try:
        candidate.receive()
    except (Closed, Refused):
        return False  # its sandbox never stood
    scorer.send(("up",))
    os.close(up)
    verdict = _verdict(function, namespace, program, name)
    scorer.send(verdict)
    return verdict[0] != "crashed"


def _verdict(function: _Function, namespace: dict, program: str, name: str) -> tuple[str, str]:
    try:
        function.start(program, name)
        namespace["check"](function)
        verdict = ("passed", "")
    except BaseException as error:
        kind = "memory" if isinstance(error, MemoryError) else "failed"
        verdict = (kind, f"{type(error).__name__}: {error}"[:LONGEST_TEXT])
    # Whatever the test made of it: a bare `except` catches these two as well.
    if function.trouble is not None:
        return function.trouble.outcome, str(function.trouble)
    if verdict[0] == "passed" and not function.calls:
        return Broken.outcome, "its test never calls the function"
    return verdict


def _test_namespace(prompt: str, test: str, name: str, function: _Function) -> dict[str, Any]:
    """What the test sees: the prompt's helpers, the stand-in under the function's name, `check`."""
    namespace: dict[str, Any] = {"__name__": "test"}
    try:
        exec(_compiled_prompt(prompt), namespace)
        namespace[name] = function
        exec(compile(test, "<test>", "exec", dont_inherit=True), namespace)
    except Exception as error:
        raise Broken(
            f"its prompt or test fails by itself: {type(error).__name__}: {error}"
        ) from None
    if not callable(namespace.get("check")):
        raise Broken("its test defines no function 'check'")
    return namespace


def _compiled_prompt(prompt: str) -> Any:
    try:
        return compile(prompt, "<prompt>", "exec", dont_inherit=True)
    except SyntaxError:
        # A head without a docstring still needs a body.
        return compile(f"{prompt.rstrip()}\n    pass\n", "<prompt>", "exec", dont_inherit=True)


class _Function:
    """Calls the candidate's function in the candidate's process."""

    def __init__(self, candidate: Channel):
        self._candidate = candidate
        self.calls = 0
        self.trouble: Trouble | None = None

    def start(self, program: str, name: str) -> None:
        """Have the program run; raises what it raised."""
        self._ask((program, name))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        return self._ask((arguments, keywords))

    def _ask(self, question: tuple) -> Any:
        try:
            answer = self._exchange(question)
        except Trouble as trouble:
            self.trouble = trouble
            raise
        match answer:
            case ("ready",):
                return None
            case ("value", value):
                return value
            case (_, str(name), str(text)):
                raise _exception(name, text)

    def _exchange(self, question: tuple) -> tuple:
        if self.trouble is not None:
            raise self.trouble
        try:
            self._candidate.send(question)
        except Refused as error:
            raise Broken(f"an argument of its test cannot be sent: {error}") from None
        except Closed:
            raise Gone("the process has ended") from None
        try:
            answer = self._candidate.receive()
        except Closed:
            raise Gone("the process has ended") from None
        except Refused as error:
            raise Gone(f"an answer that cannot be read: {error}") from None
        match answer:
            case ("ready",) | ("value", _) | ("raised", str(), str()):
                return answer
        raise Gone("an answer that is none")


def _exception(name: str, text: str) -> Exception:
    """The built-in exception of that name, else `Raised`."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and name not in _SILENT:
        try:
            return kind(text)
        except TypeError:  # such as UnicodeDecodeError, which wants five arguments
            pass
    return Raised(f"{name}: {text}")
