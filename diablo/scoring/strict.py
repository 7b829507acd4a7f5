"""The strict reading of mathematical answers: the library math-verify finds and compares them.

It parses what it finds with sympy, so 1/2 and 0.5 are equal, and takes an answer from anywhere in a
completion. A degenerate formula can keep sympy busy for ever, and the library's own limits are alarm
signals, which only a main thread may have: it works in a process of its own, which is ended and
replaced where it does not answer in time.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import re
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from diablo.data.reading import Latex, Reading

#: Where the training sets have their answer; a formula there stands without any delimiters.
SAID = Latex()
COMMAND = re.compile(r"\\(?:text|mbox|mathrm|begin|end)\{[^}]*\}|\\[A-Za-z]+")
WORD = re.compile(r"[A-Za-z]{3}")

#: Seconds that the library gives itself for one formula.
PATIENCE = 3
#: Seconds until a process that does not answer is ended.
LAST = 30
#: Seconds that its start may take; sympy is slow to import on a busy machine.
START = 300


@dataclass(frozen=True)
class Strict(Reading):
    """What math-verify finds in a completion; right if it says that it equals the answer.

    A formula behind the last "The answer is: " comes first, then whatever the library looks for.
    """

    def extract(self, prompt: str, completion: str) -> str | None:
        text = self.part(prompt, completion)
        said = SAID.extract("", text)
        if said and "$" not in said and not WORD.search(COMMAND.sub("", said)):
            # The library takes bare LaTeX for no formula.
            text = f"\\boxed{{{said}}}"
        return JUDGE.ask("find", text)

    def correct(self, extracted: str | None, gold: str) -> bool:
        return extracted is not None and bool(JUDGE.ask("equal", gold, extracted))


class Judge:
    """math-verify in a process of its own, started when it is first asked.

    Args:
        last: seconds until an answer is given up.
        library: what must be there to be imported.
    """

    def __init__(self, last: float = LAST, library: str = "math_verify"):
        self.last = last
        self.library = library
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, question: str, *texts: str) -> Any:
        """The answer to a question of `ANSWERS`; None where there is none in time or the process died.

        Raises:
            ValueError: if the process cannot be started at all: then nothing could be judged.
        """
        connection = self._connection or self._start()
        try:
            connection.send((question, texts))
            if connection.poll(self.last):
                return connection.recv()
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def _start(self) -> Connection:
        # Not a fork: whoever scores may have threads.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.library), daemon=True)
        self._process.start()
        theirs.close()
        atexit.register(self.close)
        problem: str | None = f"it said nothing within {START} s"
        try:
            if self._connection.poll(START):
                problem = self._connection.recv()
        except (EOFError, OSError):
            problem = "it ended at once (a script of your own needs `if __name__ == '__main__':`)"
        if problem is None:
            return self._connection
        self.close()
        raise ValueError(
            f"math-verify, which judges the strict readings, cannot be started: {problem}; install "
            "the lock file of this machine (envs/)"
        )

    def close(self) -> None:
        """End the process; the next question starts another one."""
        atexit.unregister(self.close)
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


#: Asked by all readings of this process.
JUDGE = Judge()


def _serve(connection: Connection, library: str) -> None:
    """Answer questions until the other end is closed; what fails in any way has no answer."""
    import logging

    logging.disable(logging.CRITICAL)  # the library reports each formula that it cannot parse
    try:
        importlib.import_module(library)
    except ImportError as error:
        connection.send(str(error))
        return
    connection.send(None)
    while True:
        try:
            question, texts = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer = None
        with contextlib.suppress(Exception):
            answer = ANSWERS[question](*texts)
        connection.send(answer)


def find(completion: str) -> str | None:
    """The text of the answer that math-verify finds in a completion."""
    from math_verify import parse

    found = parse(completion, parsing_timeout=PATIENCE)
    # The last element is the text; alone, it is what could not be parsed.
    return str(found[-1]) if found else None


def equal(gold: str, extracted: str) -> bool:
    """Whether math-verify says that two LaTeX formulas or numbers are equal."""
    from math_verify import parse, verify

    sides = [parse(f"\\boxed{{{text}}}", parsing_timeout=PATIENCE) for text in (gold, extracted)]
    return all(sides) and verify(*sides, timeout_seconds=PATIENCE)


#: What can be asked.
ANSWERS: dict[str, Callable[..., Any]] = {"find": find, "equal": equal}
