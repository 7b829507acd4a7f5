"""The functions that `diablo.data.made_code` asks for: families that differ in what they do."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WORDS = (
    *(
        "apple",
        "bird",
        "blue",
        "book",
        "cake",
        "car",
        "cat",
        "chair",
        "cloud",
        "coat",
        "cup",
        "dog",
    ),
    *("door", "duck", "egg", "farm", "fish", "fox", "frog", "game", "gold", "green", "hat", "hill"),
    *(
        "horse",
        "house",
        "ice",
        "key",
        "king",
        "lake",
        "lamp",
        "leaf",
        "lion",
        "milk",
        "moon",
        "mouse",
    ),
    *("nest", "owl", "park", "pen", "pig", "rain", "red", "ring", "road", "rock", "rose", "salt"),
    *(
        "sand",
        "shoe",
        "silk",
        "snow",
        "sock",
        "star",
        "stone",
        "sun",
        "tree",
        "wind",
        "wolf",
        "wood",
    ),
)

Constants = dict[str, Any]
Draw = Callable[[random.Random], Any]


@dataclass(frozen=True)
class Family:
    """Functions that differ in their constants.

    Attributes:
        wordings: what the function does, with the constants in it.
        argument: the name of its argument.
        body: its one statement.
        constants: how each is drawn.
        inputs: arguments that the tests call it with, by the constants; what it returns differs.
    """

    wordings: tuple[str, ...]
    argument: str
    body: str
    constants: Mapping[str, Draw]
    inputs: Callable[[random.Random, Constants], list[Any]]


def _whole(first: int, last: int) -> Draw:
    return lambda rng: rng.randint(first, last)


def _word(rng: random.Random) -> str:
    return rng.choice(WORDS)


def _letter(rng: random.Random) -> str:
    return rng.choice("abcdefghijklmnoprstuwy")


def _numbers(rng: random.Random, c: Constants) -> list[Any]:
    return [0, -rng.randint(1, 9), *rng.sample(range(1, 120), 3)]


def _near(rng: random.Random, c: Constants) -> list[Any]:
    return [c["a"] - 1, c["a"], c["a"] + 1, c["a"] + rng.randint(2, 40)]


def _multiples(rng: random.Random, c: Constants) -> list[Any]:
    times = c["a"] * rng.randint(2, 9)
    return [0, times, times + 1, times - 1]


def _texts(rng: random.Random, c: Constants) -> list[Any]:
    return [" ".join(rng.sample(WORDS, n)) for n in (1, 2, 3)]


def _with_words(rng: random.Random, c: Constants) -> list[Any]:
    word, other = c["w"], _word(rng)
    return [f"{word} {other}", f"{other} {word}", f"x{word}", "", word]


def _with_letters(rng: random.Random, c: Constants) -> list[Any]:
    letter, words = c["c"], rng.sample(WORDS, 3)
    return [letter.join(words), f"{letter}{words[0]}{letter}", "x", "", letter * 5]


def _lists(rng: random.Random, c: Constants) -> list[Any]:
    return [rng.choices(range(-20, 60), k=n) for n in (3, 4, 6)]


def _lists_near(rng: random.Random, c: Constants) -> list[Any]:
    a = c["a"]
    near = [[a, a - 1, a + 1, a], [a - 3, a - 1], [a + 2, a, a, a, a + 9], []]
    return [rng.sample(values, len(values)) for values in near]


_A_AND_B = {"a": _whole(2, 30), "b": _whole(1, 60)}
_A = {"a": _whole(2, 400)}

FAMILIES = (
    Family(
        ("multiplies x by {a} and adds {b}", "returns {b} more than {a} times x"),
        "x",
        "return x * {a} + {b}",
        _A_AND_B,
        _numbers,
    ),
    Family(
        ("multiplies x by {a} and subtracts {b}", "returns {b} less than {a} times x"),
        "x",
        "return x * {a} - {b}",
        _A_AND_B,
        _numbers,
    ),
    Family(
        ("adds {b} to x and multiplies the sum by {a}",),
        "x",
        "return (x + {b}) * {a}",
        _A_AND_B,
        _numbers,
    ),
    Family(
        ("returns the larger of x and {a}", "returns x, but at least {a}"),
        "x",
        "return max(x, {a})",
        _A,
        _near,
    ),
    Family(
        ("returns the smaller of x and {a}", "returns x, but at most {a}"),
        "x",
        "return min(x, {a})",
        _A,
        _near,
    ),
    Family(("says whether x is greater than {a}",), "x", "return x > {a}", _A, _near),
    Family(("says whether x is less than {a}",), "x", "return x < {a}", _A, _near),
    Family(
        ("says whether x is divisible by {a}", "says whether {a} divides x"),
        "x",
        "return x % {a} == 0",
        _A,
        _multiples,
    ),
    Family(
        ("puts '{w}' behind s and repeats that {n} times",),
        "s",
        "return (s + {w!r}) * {n}",
        {"w": _word, "n": _whole(2, 9)},
        _texts,
    ),
    Family(
        ("returns the first {n} characters of s and then '{w}'",),
        "s",
        "return s[:{n}] + {w!r}",
        {"w": _word, "n": _whole(1, 9)},
        _texts,
    ),
    Family(
        ("returns '{w}' and then the last {n} characters of s",),
        "s",
        "return {w!r} + s[-{n}:]",
        {"w": _word, "n": _whole(1, 9)},
        _texts,
    ),
    Family(
        ("returns s in capital letters with '{w}' before it",),
        "s",
        "return {w!r} + s.upper()",
        {"w": _word},
        _texts,
    ),
    Family(
        ("replaces each '{c}' in s by '{w}'",),
        "s",
        "return s.replace({c!r}, {w!r})",
        {"c": _letter, "w": _word},
        _with_letters,
    ),
    Family(
        ("counts how often '{c}' is in s and adds {b}",),
        "s",
        "return s.count({c!r}) + {b}",
        {"c": _letter, "b": _whole(1, 60)},
        _with_letters,
    ),
    Family(
        ("says whether s starts with '{w}'",),
        "s",
        "return s.startswith({w!r})",
        {"w": _word},
        _with_words,
    ),
    Family(
        ("says whether s ends with '{w}'",),
        "s",
        "return s.endswith({w!r})",
        {"w": _word},
        _with_words,
    ),
    Family(
        ("returns the numbers that are greater than {a}",),
        "numbers",
        "return [n for n in numbers if n > {a}]",
        _A,
        _lists_near,
    ),
    Family(
        ("returns the numbers that are less than {a}",),
        "numbers",
        "return [n for n in numbers if n < {a}]",
        _A,
        _lists_near,
    ),
    Family(
        ("adds {a} to each of the numbers",),
        "numbers",
        "return [n + {a} for n in numbers]",
        _A,
        _lists,
    ),
    Family(
        ("multiplies each of the numbers by {a}",),
        "numbers",
        "return [n * {a} for n in numbers]",
        _A,
        _lists,
    ),
    Family(
        ("returns the sum of the numbers plus {a}", "adds {a} to the sum of the numbers"),
        "numbers",
        "return sum(numbers) + {a}",
        _A,
        _lists,
    ),
    Family(
        ("counts how often {a} is among the numbers",),
        "numbers",
        "return numbers.count({a})",
        _A,
        _lists_near,
    ),
    Family(
        ("says whether {a} is among the numbers",),
        "numbers",
        "return {a} in numbers",
        _A,
        _lists_near,
    ),
)
