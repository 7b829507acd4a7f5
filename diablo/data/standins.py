"""Generated stand-ins for the commonsense and the arithmetic tasks (the demo scale).

They have the answer formats of the tasks they stand in for, but test no common sense and little
arithmetic: they show that training, generation, scoring and the table work. Some can be learnt in 60 steps, some hardly.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from diablo.data.arithmetic import with_phrase
from diablo.data.catalog import Dataset
from diablo.data.commonsense import Record, Splits, normalised
from diablo.data.exercises import KINDS, Exercise
from diablo.data.protocol import unknown
from diablo.data.source_kinds import GeneratedSource
from diablo.data.standin_tasks import TASKS, Problem, Task

#: Entries looked at before a generator is given up as too small.
MOST_ENTRIES = 60_000


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
    held: dict[int, list[tuple[int, Problem]]] = defaultdict(list)
    groups, first = [], 0
    for size in sizes:
        labels = [number % task.labels for number in range(size)]
        rng.shuffle(labels)
        group = []
        for number, label in enumerate(labels, start=first):
            index, problem = _take(stream, held, label)
            group.append(_record(name, task, number, label, index, problem))
        groups.append(group)
        first += size
    return groups


def _take(
    stream: Iterator[tuple[int, Problem]], held: dict[int, list[tuple[int, Problem]]], label: int
) -> tuple[int, Problem]:
    """The next problem that can have this label; others wait in `held`."""
    while not held[label]:
        index, problem = next(stream)
        if problem.label is None:
            return index, problem
        held[problem.label].append((index, problem))
    return held[label].pop(0)


class Keyed(Protocol):
    """What is generated: `key` says which two are the same problem."""

    @property
    def key(self) -> str: ...


Made = TypeVar("Made", bound=Keyed, covariant=True)


class Generated(Protocol[Made]):
    """A task: a generator of reasoning-gym, its settings, and what is made of one of its entries."""

    @property
    def generator(self) -> str: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def make(self) -> Callable[[dict[str, Any], random.Random], Made | None]: ...


def problems(task: Generated[Made], seed: int, rng: random.Random) -> Iterator[tuple[int, Made]]:
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
    placed = list(problem.options)
    if problem.label is None:
        right, *wrong = placed
        placed = [*wrong[:label], right, *wrong[label:]]
    answer = f"{task.word.lower()}{label + 1}" if task.word else ("true", "false")[label]
    options = task.between.join(f"{task.word}{i}: {text}" for i, text in enumerate(placed, start=1))
    return {
        "id": f"{name}/{number}",
        "task": name,
        "instruction": task.frame.format(question=problem.question, options=options),
        "output": f"the correct answer is {answer}",
        "answer": answer,
        "source": f"{task.generator}/{index}",
    }


def build_exercises(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Generate both splits of a data set's arithmetic tasks; the same seed gives the same bytes.

    Args:
        dataset: the catalogue's entry: one generated source; options `tasks` (names in `KINDS`),
            `train_per_task`, `test_per_task` and perhaps `phrase` (see `diablo.data.arithmetic`).
        files: none are needed.

    Raises:
        ValueError: if a task is unknown, or its generator has too few problems.
    """
    (source,) = dataset.sources
    assert isinstance(source, GeneratedSource), "exercises are generated"
    train, test = dataset.options["train_per_task"], dataset.options["test_per_task"]
    splits: Splits = {"train": [], "test": []}
    for name in dataset.options["tasks"]:
        if name not in KINDS:
            raise ValueError(unknown("task", name, KINDS, "options tasks"))
        found = problems(KINDS[name], source.seed, random.Random(f"{source.seed}/{name}"))
        made = [_exercise(name, n, *next(found)) for n in range(test + train)]
        splits["test"] += made[:test]
        splits["train"] += made[test:]
    random.Random(f"{source.seed}/mix").shuffle(splits["train"])
    return with_phrase(splits, dataset), {
        "generators": {name: KINDS[name].generator for name in dataset.options["tasks"]},
        "generator_version": version(source.package),
        "disjoint": "training and test share no problem of a task",
    }


def _exercise(task: str, number: int, index: int, exercise: Exercise) -> Record:
    return {
        "id": f"{task}/{number}",
        "task": task,
        "instruction": exercise.question,
        "output": exercise.output,
        "answer": exercise.answer,
        "source": f"{KINDS[task].generator}/{index}",
    }
