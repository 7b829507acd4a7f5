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


def rule(entry: Entry, rng: random.Random) -> Problem:
    """syllogism (inversions) -> does one statement follow from another?"""
    facts = entry["metadata"]
    premise = facts[f"premise{facts['selected_premise']}"].lower()
    conclusion = facts["conclusion"].lower()
    label = 0 if facts["is_valid"] else 1
    return Problem(f"if {premise}, then {conclusion}?", f"{premise}, {conclusion}", label=label)


def backward(entry: Entry, rng: random.Random) -> Problem | None:
    """spell_backward -> the reversed word, or the word itself."""
    word, answer = entry["metadata"]["word"].lower(), entry["answer"].lower()
    if word == answer:
        return None
    return Problem(f"spell {word} backward", word, (answer, word))


def digits(entry: Entry, rng: random.Random) -> Problem:
    """chain_sum -> how many digits the result has."""
    expression = entry["metadata"]["expression"]
    count = len(entry["answer"].lstrip("-"))
    return Problem(
        f"how many digits has {expression}?", expression, ("one", "two", "three"), count - 1
    )


def sequence(entry: Entry, rng: random.Random) -> Problem:
    """number_sequence -> the next number, among words."""
    terms = ", ".join(str(n) for n in entry["metadata"]["sequence"][:-1])
    return Problem(f"{terms},", terms, (entry["answer"], *rng.sample(WORDS, 3)))


def who(entry: Entry, rng: random.Random) -> Problem | None:
    """needle_haystack with two statements -> who of the two it is (hard: only full tuning gets far)."""
    text, ask = entry["question"].strip().rsplit("\n", 1)
    names = [statement.split()[0] for statement in text.strip().split(". ")]
    wrong = [name for name in names if name != entry["answer"]]
    if len(wrong) != 1:
        return None
    question = f"{text.strip()} {ask.split('?')[0]}?"
    return Problem(question, text.strip(), (entry["answer"], wrong[0]))


def total(entry: Entry, rng: random.Random) -> Problem:
    """chain_sum -> the result, among words."""
    expression = entry["metadata"]["expression"]
    return Problem(f"{expression} = ?", expression, (entry["answer"], *rng.sample(WORDS, 3)))


def length(entry: Entry, rng: random.Random) -> Problem:
    """spell_backward -> how many letters the word has."""
    word = entry["metadata"]["word"].lower()
    return Problem(f"how many letters has {word}?", word, ("3", "4", "5", "6"), len(word) - 3)


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

#: The stand-ins by the name of the task they stand in for. What a small model makes of them in 100 and
#: 400 steps is in docs/data.md: some are learnt at once, some slowly, one hardly at all.
TASKS: dict[str, Task] = {
    "boolq": Task(
        "syllogism",
        {"inversion_probability": 1.0},
        rule,
        "",
        2,
        "Answer true or false, question: {question}\n\nAnswer format: true/false",
    ),
    "piqa": Task(
        "spell_backward",
        {"min_word_len": 3, "max_word_len": 7},
        backward,
        "Solution",
        2,
        "Choose the correct solution: {question}\n\n{options}",
        between="\n\n",
    ),
    "social_i_qa": Task(
        "chain_sum",
        {"min_terms": 2, "max_terms": 2, "max_digits": 2},
        digits,
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
        "needle_haystack",
        {"min_num_statements": 2, "max_num_statements": 2},
        who,
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
        "spell_backward",
        {"min_word_len": 3, "max_word_len": 6},
        length,
        "Answer",
        4,
        CHOICE,
    ),
    "openbookqa": Task(
        "leg_counting",
        {"min_animals": 1, "max_animals": 1, "max_instances": 400},
        legs,
        "Answer",
        4,
        CHOICE,
    ),
}
