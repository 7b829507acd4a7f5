"""The process in which a candidate's code runs: it is given the program, then calls, and answers.

It never has the tests, so nothing that it prints, patches or finds in its memory is a verdict.
"""

from __future__ import annotations

import os
import sys

from .plain import Channel, Closed, Refused

#: Of an exception's text.
LONGEST_TEXT = 300


def serve(channel: Channel) -> None:
    """Run the program that comes first, then answer each call of its function, until nobody asks.

    Messages in: (program, name of the function), then (args, kwargs) for each call. Messages out:
    ("up",), then ("ready",) or ("raised", ...), then ("value", ...) or ("raised", ...) for each call;
    ("raised", name of the exception's class, its text).
    """
    _clean()
    channel.send(("up",))
    program, name = channel.receive()
    module = type(sys)("candidate")
    sys.modules["candidate"] = module
    try:
        exec(compile(program, "<candidate>", "exec", dont_inherit=True), vars(module))
        if name not in vars(module):
            raise NameError(f"the program defines no {name!r}")
        function = vars(module)[name]
    except BaseException as error:
        channel.send(_raised(error))
        return
    channel.send(("ready",))
    while True:
        try:
            arguments, keywords = channel.receive()
        except Closed:
            return
        try:
            answer = ("value", function(*arguments, **keywords))
            _send(channel, answer)
        except Closed:
            return
        except BaseException as error:
            channel.send(_raised(error))


def _clean() -> None:
    """Nothing of this process's own start is left for the candidate to see or to depend on."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    os.environ.clear()
    sys.argv = sys.orig_argv = [""]


def _send(channel: Channel, answer: tuple) -> None:
    try:
        channel.send(answer)
    except Refused as error:
        channel.send(("raised", "ValueError", f"the answer is {error}"))


def _raised(error: BaseException) -> tuple[str, str, str]:
    return ("raised", type(error).__name__, str(error)[:LONGEST_TEXT])
