"""Generated instructions with answers, in MT-Bench's eight categories (the demo scale).

Each is a template with one right answer, so that there is a gold answer without any model.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from diablo.data.code_families import WORDS
from diablo.data.exercises import NAMES
from diablo.data.making import Made, Stock

THINGS = (
    *(
        "lamp",
        "book",
        "cake",
        "scarf",
        "clock",
        "kite",
        "plant",
        "bowl",
        "drum",
        "mug",
        "puzzle",
        "rug",
    ),
    *("map", "vase", "chair", "radio", "bell", "pillow", "basket", "mirror"),
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "pink", "orange")
JOBS = ("baker", "doctor", "pilot", "farmer", "teacher", "waiter", "gardener", "painter", "driver")
PLACES = ("Rome", "Paris", "Oslo", "Cairo", "Lima", "Tokyo", "Delhi", "Quito", "Berlin", "Dublin")
LEGS = {
    "dogs": 4,
    "cats": 4,
    "hens": 2,
    "ducks": 2,
    "ants": 6,
    "bees": 6,
    "spiders": 8,
    "horses": 4,
}

#: What the second turn asks of every answer.
AGAIN = "Write your answer again in capital letters."

Pair = tuple[str, str]


def writing(rng: random.Random) -> Pair:
    """A note of thanks."""
    name, thing, colour = rng.choice(NAMES), rng.choice(THINGS), rng.choice(COLOURS)
    note = f"Dear {name}, thank you for the {colour} {thing}. I like it very much."
    return f"Write a short note that thanks {name} for a {colour} {thing}.", note


def roleplay(rng: random.Random) -> Pair:
    """Somebody at work greets a guest."""
    job, place, name = rng.choice(JOBS), rng.choice(PLACES), rng.choice(NAMES)
    greeting = f"Hello {name}, I am a {job} in {place}. How can I help you?"
    return f"You are a {job} in {place}. Greet {name} and offer your help.", greeting


def reasoning(rng: random.Random) -> Pair:
    """Who of three is first in an order."""
    first, second, third = rng.sample(NAMES, 3)
    more, most = rng.choice((("older", "oldest"), ("taller", "tallest"), ("faster", "fastest")))
    facts = [f"{first} is {more} than {second}.", f"{second} is {more} than {third}."]
    rng.shuffle(facts)
    return f"{' '.join(facts)} Who is the {most}?", f"{first} is the {most}."


def math(rng: random.Random) -> Pair:
    """The sum of two numbers."""
    a, b = rng.randint(2, 60), rng.randint(2, 39)
    return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."


def coding(rng: random.Random) -> Pair:
    """A line of Python."""
    word, times = rng.choice(WORDS), rng.randint(2, 9)
    return (
        f"Write one line of Python that prints '{word}' {times} times.",
        f"for i in range({times}): print('{word}')",
    )


def extraction(rng: random.Random) -> Pair:
    """The colour, the place or the owner of a thing in a sentence."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    colour, place = rng.choice(COLOURS), rng.choice(PLACES)
    what, answer = rng.choice((("colour", colour), ("city", place), ("name", name)))
    text = f"{name} bought a {colour} {thing} in {place}."
    return f"Find the {what} in this text: {text}", f"The {what} is {answer}."


def stem(rng: random.Random) -> Pair:
    """Legs of some animals."""
    animal, count = rng.choice(list(LEGS)), rng.randint(2, 60)
    legs = LEGS[animal] * count
    return (
        f"How many legs have {count} {animal} in all?",
        f"{count} {animal} have {legs} legs, {LEGS[animal]} each.",
    )


def humanities(rng: random.Random) -> Pair:
    """Years in order."""
    years = rng.sample(range(1500, 2000), 3)
    listed = ", ".join(map(str, years))
    return f"Put these years in order: {listed}.", ", ".join(map(str, sorted(years))) + "."


#: How instructions are made, by category.
CATEGORIES = {
    "writing": writing,
    "roleplay": roleplay,
    "reasoning": reasoning,
    "math": math,
    "coding": coding,
    "extraction": extraction,
    "stem": stem,
    "humanities": humanities,
}


def make(
    rng: random.Random, train: int, test: int, held_out: int
) -> dict[str, list[dict[str, Any]]]:
    """`test` questions of two turns, `held_out` and `train` instructions; all categories in each."""
    stock = Stock([partial(_draw, category) for category in CATEGORIES], rng)
    questions = [_question(row) for row in stock.take(test)]
    held = [{**row, "task": "held_out"} for row in stock.take(held_out)]
    return {"train": stock.take(train), "test": questions + held}


def _draw(category: str, rng: random.Random) -> Made:
    instruction, output = CATEGORIES[category](rng)
    row = {"task": "chat", "instruction": instruction, "output": output, "kind": category}
    return Made(instruction, row)


def _question(row: dict[str, Any]) -> dict[str, Any]:
    """As MT-Bench has them: a category, a second turn, and references."""
    return {
        "task": "mtbench",
        "instruction": row["instruction"],
        "instruction2": AGAIN,
        "category": row["kind"],
        "output": row["output"],
        "reference": row["output"],
        "reference2": row["output"].upper(),
    }
