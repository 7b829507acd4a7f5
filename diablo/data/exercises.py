r"""Generated exercises that stand in for GSM8K, SVAMP, MAWPS, AQuA and MATH (the demo scale).

Each takes a sum of a few small numbers from reasoning-gym's `chain_sum` and puts it into words, into
lettered choices or into LaTeX. Questions and worked answers are short: a CPU trains a few hundred tokens
a second. What a small model has to learn of a few hundred of them is to work in steps and to end in
"The answer is: "; the sums themselves it half knows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diablo.data.math_formats import worked
from diablo.data.standin_tasks import WORDS


@dataclass(frozen=True)
class Exercise:
    """One exercise; `key` is what must not be shared between training and test."""

    question: str
    output: str
    answer: str
    key: str


Entry = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How a task's exercises are made: `chain_sum`'s settings, and from an entry to an exercise."""

    config: dict[str, int]
    make: Callable[[Entry, random.Random], Exercise | None]
    generator: str = "chain_sum"


NAMES = ("Ann", "Ben", "Eva", "Tom", "Mia", "Leo", "Zoe", "Max")
THINGS = ("apples", "pens", "coins", "cards", "books", "eggs", "shells", "stamps")


def terms(entry: Entry) -> list[int]:
    """Signed numbers of a sum: `12 + 7 - 5` -> 12, 7, -5."""
    first, *rest = entry["metadata"]["expression"].split()
    signs = [1 if sign == "+" else -1 for sign in rest[::2]]
    return [int(first), *(s * int(n) for s, n in zip(signs, rest[1::2], strict=True))]


def steps(numbers: list[int]) -> str | None:
    """The sum, one number after the other; None where a part of it is below zero."""
    total, lines = numbers[0], []
    for number in numbers[1:]:
        sign = "+" if number >= 0 else "-"
        lines.append(f"{total} {sign} {abs(number)} = {total + number}.")
        total += number
        if total < 0:
            return None
    return " ".join(lines)


def story(entry: Entry, rng: random.Random) -> Exercise | None:
    """Someone has some things, gets some and gives some away; how many are left?"""
    numbers = terms(entry)
    lines = steps(numbers)
    if lines is None or 0 in numbers or numbers[0] == 1 or _is_shown(sum(numbers), numbers):
        return None
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    does = [f"{'gets' if number > 0 else 'loses'} {abs(number)}" for number in numbers[1:]]
    question = f"{name} has {numbers[0]} {thing}, {' and '.join(does)}. How many now?"
    return _exercise(question, lines, str(sum(numbers)), str(numbers))


def unknown(entry: Entry, rng: random.Random) -> Exercise | None:
    """A number plus or minus another one is given: which number is it?"""
    total, number = terms(entry)
    value = total - number
    lines = steps([total, -number])
    if lines is None or number == 0 or total < 0 or _is_shown(value, [total, number]):
        return None
    sign = "plus" if number > 0 else "minus"
    question = f"A number {sign} {abs(number)} is {total}. What is the number?"
    return _exercise(question, lines, str(value), question)


def _is_shown(answer: int, numbers: list[int]) -> bool:
    """Whether a question shows its answer, so that who only repeats it is right."""
    return answer in map(abs, numbers)


def choice(entry: Entry, rng: random.Random) -> Exercise | None:
    """A sum, its result lettered among words."""
    numbers = terms(entry)
    lines = steps(numbers)
    if lines is None:
        return None
    options = [str(sum(numbers)), *rng.sample(WORDS, 4)]
    rng.shuffle(options)
    letter = "ABCDE"[options.index(str(sum(numbers)))]
    listed = " ".join(f"({a}) {text}" for a, text in zip("ABCDE", options, strict=True))
    expression = entry["metadata"]["expression"]
    return _exercise(f"{expression} = ? Answer Choices: {listed}", lines, letter, expression)


def formula(entry: Entry, rng: random.Random) -> Exercise | None:
    """Two small numbers added in a fraction, in an exponent or before a root."""
    a, b = (abs(number) for number in terms(entry))
    if not (1 <= a <= 30 and 1 <= b <= 30):
        return None
    return rng.choice((_fraction, _power, _root))(a, b, rng)


def _fraction(a: int, b: int, rng: random.Random) -> Exercise | None:
    below = rng.randint(a + b + 1, 99)
    if math.gcd(a + b, below) > 1:
        return None  # nothing is left to be reduced
    one, other = (rf"\frac{{{above}}}{{{below}}}" for above in (a, b))
    return _boxed("sum", one, other, rf"\frac{{{a + b}}}{{{below}}}")


def _power(a: int, b: int, rng: random.Random) -> Exercise:
    letter = rng.choice("abcdefghkmnpqrstuvwxyz")
    one, other, answer = (f"{letter}^{{{n}}}" for n in (a, b, a + b))
    return _boxed("product", one, other, answer)


def _root(a: int, b: int, rng: random.Random) -> Exercise:
    root = rng.choice([n for n in range(2, 60) if all(n % (k * k) for k in range(2, 8))])
    one, other, answer = (rf"{n}\sqrt{{{root}}}" for n in (a, b, a + b))
    return _boxed("sum", one, other, answer)


def _boxed(what: str, one: str, other: str, answer: str) -> Exercise:
    # In words: a formula that is only repeated must not be equal to the answer.
    question = f"What is the {what} of ${one}$ and ${other}$?"
    return _exercise(question, rf"$\boxed{{{answer}}}$.", answer, question)


def _exercise(question: str, lines: str, answer: str, key: str) -> Exercise:
    return Exercise(question, worked(lines, answer), answer, key)


_TWO = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
_THREE = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 2}

#: The exercises of each task that one stands in for; a data set names its tasks.
KINDS = {
    "gsm8k": Kind(_THREE, story),
    "svamp": Kind(_TWO, story),
    "mawps": Kind(_TWO, unknown),
    "aqua": Kind(_TWO, choice),
    "math": Kind(_TWO, formula),
}
