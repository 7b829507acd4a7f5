"""Generated tasks of writing a small function, with tests (the demo scale).

Each names one thing to do with a number, a text or a list, and constants to do it with: what has to be
learnt is to go on with the function's body, to take the constants over, and to stop.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from diablo.data.code_families import FAMILIES, Family
from diablo.data.making import Made, Stock

#: Name of every function, so that the instruction alone says what it does.
NAME = "solve"


def make(rng: random.Random, train: int, test: int) -> dict[str, list[dict[str, Any]]]:
    """`test` functions with tests and `train` other ones, written out; all families in both."""
    stock = Stock([partial(_draw, family) for family in FAMILIES], rng)
    functions, examples = stock.take(test), stock.take(train)
    return {"train": [_example(row) for row in examples], "test": functions}


def _draw(family: Family, rng: random.Random) -> Made:
    constants = {name: draw(rng) for name, draw in family.constants.items()}
    head = f"def {NAME}({family.argument}):"
    body = f"\n    {family.body.format(**constants)}"
    row = {
        "task": "functions",
        "instruction": f"Write a Python function that {rng.choice(family.wordings).format(**constants)}.",
        "output": body,
        "prompt": head,
        "entry_point": NAME,
        "test": _tests(head + body, family.inputs(rng, constants)),
    }
    return Made(f"{FAMILIES.index(family)} {constants}", row)


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    """A task to learn from: the response has the whole function, and nothing is begun for the model."""
    return {
        "task": row["task"],
        "instruction": row["instruction"],
        "output": row["prompt"] + row["output"],
        "prompt": "",
    }


def _tests(function: str, inputs: Sequence[Any]) -> str:
    """`check(candidate)`, as HumanEval has it, with what our own function returns."""
    space: dict[str, Any] = {}
    exec(function, space)
    asserts = [f"    assert candidate({value!r}) == {space[NAME](value)!r}" for value in inputs]
    return "\n".join(["def check(candidate):", *asserts, ""])
