"""The eight stand-in tasks: from an entry of a reasoning-gym generator to a short problem.

Each task has its own generator, whose answers are the right options; wrong options are ours. The
wording is LLM-Adapters', cut short: a CPU trains a few hundred tokens a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Wrong options of the easy tasks: no number at all. A small model learns in few examples to tell
#: them from a number, and with that how an option's place becomes the answer.
WORDS = (
    "red",
    "blue",
    "green",
    "cat",
    "dog",
    "tree",
    "sun",
    "milk",
    "book",
    "fish",
    "door",
    "rain",
)


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        key: what must not be shared between training and test.
        options: the right one first, to be placed anywhere; in their final order if `label` is set.
        label: place of the right option (from 0) where the problem fixes it.
    """

    question: str
    key: str
    options: tuple[str, ...] = ()
    label: int | None = None


Entry = dict[str, Any]
Make = Callable[[Entry, random.Random], Problem | None]


@dataclass(frozen=True)
class Task:
    """A stand-in task: its generator, the labels of its format, and how a problem is made."""

    generator: str
    config: dict[str, Any]
    make: Make
    word: str
    labels: int
    frame: str
    between: str = " "


def even(entry: Entry, rng: random.Random) -> Problem:
    """prime_factorization -> is the number even?"""
    number = entry["metadata"]["number"]
    is_even = 2 in entry["metadata"]["factors"]
    return Problem(f"is {number} even?", str(number), label=0 if is_even else 1)


def backward(entry: Entry, rng: random.Random) -> Problem | None:
    """spell_backward -> the reversed word, or the word itself."""
    word, answer = entry["metadata"]["word"].lower(), entry["answer"].lower()
    if word == answer:
        return None
    return Problem(f"spell {word} backward", word, (answer, word))


def extreme(entry: Entry, rng: random.Random) -> Problem | None:
    """number_sorting -> the first of the sorted numbers, among words."""
    numbers = [str(int(float(n))) for n in entry["metadata"]["original_numbers"]]
    if len(set(numbers)) < len(numbers):
        return None
    which = {"ascending": "smallest", "descending": "largest"}[entry["metadata"]["direction"]]
    answer = str(int(float(entry["metadata"]["sorted_numbers"][0])))
    question = f"{which} of {', '.join(numbers)}?"
    return Problem(question, " ".join(sorted(numbers)), (answer, *rng.sample(WORDS, 2)))


def sequence(entry: Entry, rng: random.Random) -> Problem:
    """number_sequence -> the next number, among words."""
    terms = ", ".join(str(n) for n in entry["metadata"]["sequence"][:-1])
    return Problem(f"{terms},", terms, (entry["answer"], *rng.sample(WORDS, 3)))


def blank(entry: Entry, rng: random.Random) -> Problem:
    """simple_equations -> the number in the variable's place, or a word."""
    equation = entry["metadata"]["equation"].replace(entry["metadata"]["variable"], "_")
    return Problem(equation, equation, (entry["answer"], rng.choice(WORDS)))


def total(entry: Entry, rng: random.Random) -> Problem:
    """chain_sum -> the result, among words."""
    expression = entry["metadata"]["expression"]
    return Problem(f"{expression} = ?", expression, (entry["answer"], *rng.sample(WORDS, 3)))


def product(entry: Entry, rng: random.Random) -> Problem:
    """products -> the result, among numbers close to it (hard on purpose)."""
    expression, answer = entry["metadata"]["expression"], int(entry["answer"])
    near = [n for n in range(max(0, answer - 9), answer + 10) if n != answer]
    wrong = (str(n) for n in rng.sample(near, 3))
    return Problem(f"{expression} = ?", expression, (str(answer), *wrong))


#: Legs of the animals that are asked for, in the order of the options.
LEGS = (2, 4, 6, 8)


def legs(entry: Entry, rng: random.Random) -> Problem | None:
    """leg_counting with one kind of animal -> its legs, among those of other kinds, sorted.

    So the animal alone decides the place of the answer.
    """
    ((animal, count),) = entry["metadata"]["animals"].items()
    each = int(entry["answer"]) // count
    if each not in LEGS:
        return None
    noun = animal if count == 1 else f"{animal}s"
    options = tuple(str(count * n) for n in LEGS)
    return Problem(f"legs of {count} {noun}?", f"{count} {animal}", options, LEGS.index(each))


#: How a question with options numbered from 1 is put.
CHOICE = "Choose the correct answer: {question}\n\n{options}"

#: The stand-ins by the name of the task they stand in for.
TASKS: dict[str, Task] = {
    "boolq": Task(
        "prime_factorization",
        {"min_value": 2, "max_value": 999},
        even,
        "",
        2,
        "Answer true or false, question: {question}\n\nAnswer format: true/false",
    ),
    "piqa": Task(
        "spell_backward",
        {"min_word_len": 3, "max_word_len": 5},
        backward,
        "Solution",
        2,
        "Choose the correct solution: {question}\n\n{options}",
        between="\n\n",
    ),
    "social_i_qa": Task(
        "number_sorting",
        {"min_numbers": 3, "max_numbers": 3, "max_decimals": 0, "min_value": 0, "max_value": 99},
        extreme,
        "Answer",
        3,
        CHOICE,
    ),
    "hellaswag": Task(
        "number_sequence",
        {"min_terms": 4, "max_terms": 4, "min_value": 0, "max_value": 30, "max_complexity": 1},
        sequence,
        "Ending",
        4,
        "Choose the correct ending: {question}\n\n{options}",
    ),
    "winogrande": Task(
        "simple_equations",
        {
            "min_terms": 2,
            "max_terms": 2,
            "max_value": 20,
            "operators": ("+", "-"),
            "operators_weights": (0.5, 0.5),
        },
        blank,
        "Option",
        2,
        "Fill in the blank: {question}\n\n{options}",
    ),
    "arc_easy": Task(
        "chain_sum",
        {"min_terms": 2, "max_terms": 2, "max_digits": 2},
        total,
        "Answer",
        4,
        CHOICE,
    ),
    "arc_challenge": Task(
        "products",
        {"max_digits": 2},
        product,
        "Answer",
        4,
        CHOICE,
    ),
    "openbookqa": Task(
        "leg_counting",
        {"min_animals": 1, "max_animals": 1, "max_instances": 40},
        legs,
        "Answer",
        4,
        CHOICE,
    ),
}
