"""Generated sentences in the five label formats of GLUE's tasks (the demo scale).

Each task can be learnt from about a hundred examples by a small model, from cues that a person sees at
once: they test little understanding. Every label is as frequent as the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from diablo.data.glue import LABELS, instruction
from diablo.data.making import Made, Stock

GOOD = ("great", "lovely", "superb", "charming", "brilliant", "funny", "moving", "wonderful")
BAD = ("awful", "boring", "dreadful", "dull", "terrible", "stupid", "painful", "horrible")
WORKS = ("film", "book", "play", "song", "show", "story", "dance", "joke", "speech", "game")
PARTS = ("the start", "the end", "the cast", "the music", "the plot", "every scene", "the hero")

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack")
ANIMALS = ("dog", "cat", "horse", "bird", "cow", "fox", "goat", "duck", "sheep", "mouse")
COLOURS = ("black", "white", "brown", "small", "big", "old", "young", "thin")  # three colours first
PLACES = ("in the garden", "by the river", "near the house", "on the hill", "behind the barn")
GOODS = (
    "apples",
    "pens",
    "books",
    "chairs",
    "cups",
    "flowers",
    "shirts",
    "tickets",
    "eggs",
    "keys",
)
CITIES = ("Rome", "Paris", "Oslo", "Cairo", "Lima", "Tokyo", "Delhi", "Quito", "Berlin", "Dublin")
#: Said in two ways.
SAME = (
    ("bought", "purchased"),
    ("got", "received"),
    ("lost", "could not find"),
    ("sold", "gave away for money"),
    ("made", "produced"),
)
#: A form for one and for several.
VERBS = (
    ("sleeps", "sleep"),
    ("runs", "run"),
    ("eats", "eat"),
    ("waits", "wait"),
    ("rests", "rest"),
)

#: A verb's past, and what it is not.
FORMS = (
    ("slept", "sleeped"),
    ("ran", "runned"),
    ("ate", "eated"),
    ("drank", "drinked"),
    ("fell", "falled"),
    ("stood", "standed"),
    ("sat", "sitted"),
    ("swam", "swimmed"),
)

Texts = list[str]


def sst2(label: str, rng: random.Random) -> Texts:
    """A verdict on a work and a part of it; one of three is put in the negative."""
    same, other = (GOOD, BAD) if label == "positive" else (BAD, GOOD)
    if rng.random() < 1 / 3:
        return [
            f"the {rng.choice(WORKS)} is not {rng.choice(other)} , {rng.choice(PARTS)} is not {rng.choice(other)} ."
        ]
    words = rng.sample(same, 2)
    return [f"a {words[0]} {rng.choice(WORKS)} , and {rng.choice(PARTS)} is {words[1]} ."]


def cola(label: str, rng: random.Random) -> Texts:
    """A sentence, or one with a verb form that there is not; in one of four two words are swapped instead."""
    (right, wrong), swap = rng.choice(FORMS), rng.random() < 0.25
    verb = right if label == "acceptable" or swap else wrong
    words = ["The", rng.choice(COLOURS), rng.choice(ANIMALS), verb, *rng.choice(PLACES).split()]
    if label == "unacceptable" and swap:
        first = rng.choice((0, 2, 4))
        words[first], words[first + 1] = words[first + 1], words[first]
    return [" ".join(words) + "."]


def mrpc(label: str, rng: random.Random) -> Texts:
    """The same news in other words, or other news: about someone else in half of them, else unrelated."""
    (person, else_), goods, city = rng.sample(PEOPLE, 2), rng.choice(GOODS), rng.choice(CITIES)
    number, (verb, other) = rng.randint(2, 99), rng.choice(SAME)
    first = f"{person} {verb} {number} {goods} in {city}."
    if label == "different" and rng.random() < 0.5:
        animal, place = rng.choice(ANIMALS), rng.choice(PLACES)
        return [first, f"The {rng.choice(COLOURS)} {animal} {rng.choice(VERBS)[0]} {place}."]
    who = person if label == "equivalent" else else_
    return [first, f"In {city}, {who} {other} {number} {goods}."]


def qnli(label: str, rng: random.Random) -> Texts:
    """A question with a sentence that answers it, or with one about someone and something else."""
    person, other = rng.sample(PEOPLE, 2)
    if rng.random() < 0.5:
        question, answer = f"Where does {person} live?", f"{person} lives in {rng.choice(CITIES)}."
    else:
        goods = rng.choice(GOODS)
        question = f"How many {goods} has {person}?"
        answer = f"{person} has {rng.randint(2, 99)} {goods}."
    if label == "entailment":
        return [question, answer]
    return [
        question,
        f"{other} saw the {rng.choice(COLOURS)} {rng.choice(ANIMALS)} {rng.choice(PLACES)}.",
    ]


def mnli(label: str, rng: random.Random) -> Texts:
    """What follows from a sentence, what is against it, and what it leaves open; two ways of each."""
    noun, place, verb = rng.choice(ANIMALS), rng.choice(PLACES), rng.choice(VERBS)[0]
    colour, other = rng.sample(COLOURS[:3], 2)
    hypotheses = {
        "entailment": (f"A {noun} {verb}.", f"The {noun} is {colour}."),
        "neutral": (f"{rng.choice(PEOPLE)} likes the {noun}.", f"The {noun} is hungry."),
        "contradiction": (f"No {noun} {verb} {place}.", f"The {noun} is {other}."),
    }
    return [f"A {colour} {noun} {verb} {place}.", rng.choice(hypotheses[label])]


SENTENCES: dict[str, Callable[[str, random.Random], Texts]] = {
    "mrpc": mrpc,
    "cola": cola,
    "sst2": sst2,
    "qnli": qnli,
    "mnli": mnli,
}


def make(rng: random.Random, task: str, train: int, test: int) -> dict[str, list[dict[str, Any]]]:
    """`test` and `train` texts of one task; no text twice."""
    stock = Stock([partial(_draw, task, label) for label in LABELS[task]], rng)
    tests = stock.take(test)
    return {"train": stock.take(train), "test": tests}


def _draw(task: str, label: str, rng: random.Random) -> Made:
    said = instruction(task, SENTENCES[task](label, rng))
    return Made(said, {"task": task, "instruction": said, "output": label})
