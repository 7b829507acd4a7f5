"""Generated stand-ins for the eight commonsense tasks (the demo scale).

Each task takes its problems and answers from its own reasoning-gym generator and puts them into
the answer format of the task it stands in for, in LLM-Adapters' wording cut short: a CPU trains a
few hundred tokens a second. Wrong options are ours. The tasks test no common sense; they show that
training, generation, scoring and the table work, and some of them can be learnt in 60 steps.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diablo.data.catalog import Dataset, GeneratedSource
from diablo.data.commonsense import Record, Splits, normalised

#: Entries looked at before a generator is given up as too small.
MOST_ENTRIES = 20_000

#: Wrong endings of number sequences: no number at all.
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
    """One problem: `options` has the right one first; without options `correct` is true or false.

    `key` is what must not be shared between training and test.
    """

    question: str
    key: str
    options: tuple[str, ...] = ()
    correct: bool = True


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
    return Problem(f"is {number} even?", str(number), correct=2 in entry["metadata"]["factors"])


def backward(entry: Entry, rng: random.Random) -> Problem | None:
    """spell_backward -> the reversed word, or the word itself."""
    word, answer = entry["metadata"]["word"].lower(), entry["answer"].lower()
    if word == answer:
        return None
    return Problem(f"spell {word} backward", word, (answer, word))


def extreme(entry: Entry, rng: random.Random) -> Problem | None:
    """number_sorting -> the first of the sorted numbers."""
    numbers = [str(int(float(n))) for n in entry["metadata"]["sorted_numbers"]]
    if len(set(numbers)) < len(numbers):
        return None
    which = {"ascending": "smallest", "descending": "largest"}[entry["metadata"]["direction"]]
    return Problem(f"which is {which}?", " ".join(sorted(numbers)), tuple(numbers))


def sequence(entry: Entry, rng: random.Random) -> Problem:
    """number_sequence -> the next number, among words."""
    terms = ", ".join(str(n) for n in entry["metadata"]["sequence"][:-1])
    return Problem(f"{terms},", terms, (entry["answer"], *rng.sample(WORDS, 3)))


def who(entry: Entry, rng: random.Random) -> Problem | None:
    """needle_haystack with two statements -> the person of one of them."""
    statements = entry["question"].split("\n")[0].strip()
    asked = entry["metadata"]["question"].split("?")[0].removeprefix("Who ")
    names = [statement.split()[0] for statement in statements.split(". ")]
    other = next((name for name in names if name != entry["answer"]), None)
    if other is None or not "".join(names).isalpha() or len(statements) > 52:
        return None
    return Problem(f"{statements} _ {asked}.", statements, (entry["answer"], other))


def total(entry: Entry, rng: random.Random) -> Problem | None:
    """chain_sum with a result of two digits -> that result, among single digits."""
    expression, answer = entry["metadata"]["expression"], entry["answer"]
    if not 10 <= int(answer) <= 99:
        return None
    return Problem(f"{expression} = ?", expression, (answer, *_numbers(rng, range(10), 3)))


def product(entry: Entry, rng: random.Random) -> Problem:
    """products -> the result, among numbers close to it."""
    expression, answer = entry["metadata"]["expression"], int(entry["answer"])
    near = range(max(0, answer - 9), answer + 10)
    wrong = _numbers(rng, [n for n in near if n != answer], 3)
    return Problem(f"{expression} = ?", expression, (str(answer), *wrong))


def legs(entry: Entry, rng: random.Random) -> Problem:
    """leg_counting with one kind of animal -> its legs, among those of other kinds."""
    (animal, count), answer = next(iter(entry["metadata"]["animals"].items())), int(entry["answer"])
    wrong = [count * n for n in (0, 2, 4, 5, 6, 8, 10, 14) if count * n != answer]
    noun = animal if count == 1 else f"{animal}s"
    return Problem(
        f"legs of {count} {noun}?", f"{count} {animal}", (str(answer), *_numbers(rng, wrong, 3))
    )


def _numbers(rng: random.Random, values: Any, count: int) -> list[str]:
    return [str(value) for value in rng.sample(list(values), count)]


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
        "Choose the correct answer: {question}\n\n{options}",
    ),
    "hellaswag": Task(
        "number_sequence",
        {"min_terms": 4, "max_terms": 4, "min_value": 0, "max_value": 99, "max_complexity": 1},
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
        "Choose the correct answer: {question}\n\n{options}",
    ),
    "arc_challenge": Task(
        "products",
        {"max_digits": 2},
        product,
        "Answer",
        4,
        "Choose the correct answer: {question}\n\n{options}",
    ),
    "openbookqa": Task(
        "leg_counting",
        {"min_animals": 1, "max_animals": 1, "max_instances": 9},
        legs,
        "Answer",
        4,
        "Choose the correct answer: {question}\n\n{options}",
    ),
}


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Generate both splits of all eight tasks; the same seed gives the same bytes.

    Args:
        dataset: the catalogue's entry: one generated source; options `train` (in all, a multiple
            of 8) and `test_per_task`.
        files: none are needed.

    Raises:
        ValueError: if another version of the generator is installed, or a size is impossible.
    """
    (source,) = dataset.sources
    assert isinstance(source, GeneratedSource), "stand-ins are generated"
    train, test = dataset.options["train"], dataset.options["test_per_task"]
    if train % len(TASKS) or train < 0 or test < 1:
        raise ValueError(
            f"options train={train}, test_per_task={test}: train must be a multiple of 8"
        )
    splits: Splits = {"train": [], "test": []}
    for name, task in TASKS.items():
        tests, trains = records(name, task, source.seed, [test, train // len(TASKS)])
        splits["test"] += tests
        splits["train"] += trains
    random.Random(f"{source.seed}/mix").shuffle(splits["train"])
    facts = {
        "generators": {name: task.generator for name, task in TASKS.items()},
        "generator_version": version(source.package),
        "disjoint": "training and test share no problem of a generator",
    }
    return splits, facts


def records(name: str, task: Task, seed: int, sizes: list[int]) -> list[list[Record]]:
    """Records of one task for each size; no two share a problem; each label is as frequent."""
    rng = random.Random(f"{seed}/{name}")
    stream = problems(task, seed, rng)
    held: dict[bool, list[tuple[int, Problem]]] = defaultdict(list)
    groups, first = [], 0
    for size in sizes:
        labels = [number % task.labels for number in range(size)]
        rng.shuffle(labels)
        group = []
        for number, label in enumerate(labels, start=first):
            index, problem = _take(stream, held, None if task.word else label == 0)
            group.append(_record(name, task, number, label, index, problem))
        groups.append(group)
        first += size
    return groups


def _take(
    stream: Iterator[tuple[int, Problem]],
    held: dict[bool, list[tuple[int, Problem]]],
    wanted: bool | None,
) -> tuple[int, Problem]:
    """The next problem; where the answer is true or false, the next one with the wanted answer."""
    if wanted is None:
        return next(stream)
    while not held[wanted]:
        index, problem = next(stream)
        held[problem.correct].append((index, problem))
    return held[wanted].pop(0)


def problems(task: Task, seed: int, rng: random.Random) -> Iterator[tuple[int, Problem]]:
    """Problems of a task's generator, none twice, with the entry's index."""
    import reasoning_gym

    entries = reasoning_gym.create_dataset(
        task.generator, size=MOST_ENTRIES, seed=seed, **task.config
    )
    seen: set[str] = set()
    for index in itertools.count():
        if index == MOST_ENTRIES:
            raise ValueError(
                f"generator {task.generator}: only {len(seen)} different problems in "
                f"{MOST_ENTRIES} entries; ask for fewer examples or widen its config"
            )
        problem = task.make(entries[index], rng)
        if problem and normalised(problem.key) not in seen:
            seen.add(normalised(problem.key))
            yield index, problem


def _record(name: str, task: Task, number: int, label: int, index: int, problem: Problem) -> Record:
    if task.word:
        right, *wrong = problem.options
        placed = [*wrong[:label], right, *wrong[label:]]
        answer = f"{task.word.lower()}{label + 1}"
    else:
        placed, answer = [], "true" if problem.correct else "false"
    options = task.between.join(f"{task.word}{i}: {text}" for i, text in enumerate(placed, start=1))
    return {
        "id": f"{name}/{number}",
        "task": name,
        "instruction": task.frame.format(question=problem.question, options=options),
        "output": f"the correct answer is {answer}",
        "answer": answer,
        "source": f"{task.generator}/{index}",
    }
