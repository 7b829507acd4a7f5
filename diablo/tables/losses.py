"""Held-out answer losses: read, checked, turned into an estimate.

The loss of a run on a task is the mean negative log-likelihood, in nats per token, of the test
examples' gold answers after their prompts (teacher forcing, no text is generated). It is measured
on the examples that were scored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diablo.io import read_json
from diablo.tables.checks import check_same, task_of
from diablo.tables.statistics import bootstrap_ratios, generator


@dataclass(frozen=True)
class Losses:
    """Losses of one run: (summed loss in nats, tokens of the answer) by task and example id."""

    path: Path
    examples: Mapping[str, Mapping[str, tuple[float, int]]]


def read_losses(
    path: Path,
    wanted: Mapping[str, Any],
    shown: Mapping[str, tuple[set[str], bool]],
    scored: Collection[str] = (),
) -> Losses:
    """Read a loss file: the losses of the tasks that the table shows, and of those that nothing scores.

    (Chat has instructions that are there for their answer loss alone.)

    Args:
        path: `losses/<suite>.json`.
        wanted: the run, suite and variant that it must be of.
        shown: by task the ids of the examples that were scored, and whether all of them have a gold
            answer; the losses must be of the same ones. A task of which none was scored, or none has a
            gold answer (harmless prompts of real data), may be left out of the file.
        scored: tasks of the run's score file; those that the table does not show are left out.

    Raises:
        ValueError: if the file has no provenance, belongs to another run or protocol,
            lacks a task, or says a number that its own examples do not give; it names the file.
    """
    content = read_json(path)
    if not content.get("provenance"):
        raise ValueError(f"{path}: has no provenance; run `diablo measure` again")
    check_same(path, content, wanted)
    alone = {task: (set[str](), True) for task in content["tasks"] if task not in {*shown, *scored}}
    found = {
        task: _examples(path, content, task, ids, complete)
        for task, (ids, complete) in {**shown, **alone}.items()
        if task in content["tasks"] or (ids and complete)
    }
    return Losses(path, found)


def _examples(
    path: Path, content: Mapping[str, Any], task: str, scored: set[str], complete: bool
) -> dict[str, tuple[float, int]]:
    entry = task_of(path, content, task)
    examples = {str(one["id"]): (one["nll"], one["tokens"]) for one in entry["examples"]}
    if len(examples) != len(entry["examples"]) or len(examples) != entry["n"]:
        raise ValueError(
            f"{path}: task {task} has n = {entry['n']}, {len(entry['examples'])} examples and "
            f"{len(examples)} distinct ids; all three must be equal"
        )
    other = set(examples) ^ scored if complete else set(examples) - scored
    if scored and other:
        raise ValueError(
            f"{path}: task {task} was measured on other examples than those that were scored "
            f"({min(other)!r} is in one of the two only); run `diablo measure` again"
        )
    for name, (nll, count) in examples.items():
        if not (math.isfinite(nll) and nll >= 0 and isinstance(count, int) and count > 0):
            raise ValueError(
                f"{path}: {task} {name!r} has nll = {nll!r} over tokens = {count!r}; expected nats "
                "that are not negative over at least one token"
            )
    total, tokens = (sum(column) for column in zip(*examples.values(), strict=True))
    if tokens != entry["tokens"] or not math.isclose(
        total / tokens, entry["value"], rel_tol=1e-6, abs_tol=1e-9
    ):
        raise ValueError(
            f"{path}: task {task} says value {entry['value']} over {entry['tokens']} tokens, its "
            f"examples give {total / tokens:.6f} over {tokens}"
        )
    return examples


def loss_draws(
    tasks: Sequence[tuple[str, Sequence[Losses]]], resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Answer loss of a row: the unweighted mean over tasks of nats per token of the gold answers.

    The bootstrap resamples the examples of each task, summed loss and tokens together, and the loss
    of an example is its mean over the seeds. Every row draws the same examples: the difference of
    two rows' draws is their paired bootstrap.

    Args:
        tasks: each task with the losses of its seeds, as many for every task.

    Returns:
        (the loss of each seed, shape (seeds,); the bootstrap's draws, shape (resamples,)).

    Raises:
        ValueError: if an answer has other tokens under another seed; names the file.
    """
    by_seed, draws = [], []
    for task, seeds in tasks:
        ids = sorted(seeds[0].examples[task])
        tokens = np.array([seeds[0].examples[task][one][1] for one in ids], dtype=np.float64)
        for one in seeds[1:]:
            check_tokens(one, seeds[0], task)
        nll = np.array([[one.examples[task][name][0] for name in ids] for one in seeds])
        by_seed.append(nll.sum(axis=1) / tokens.sum())
        rng = generator(seed, "answer loss", task)
        draws.append(bootstrap_ratios(nll.mean(axis=0), tokens, rng, resamples))
    return np.mean(by_seed, axis=0), np.mean(draws, axis=0)


def check_tokens(losses: Losses, other: Losses, task: str) -> None:
    """ValueError unless a task has the same examples with the same numbers of tokens in both files."""
    ours, theirs = losses.examples[task], other.examples[task]
    if unlike := set(ours) ^ set(theirs):
        raise ValueError(
            f"{losses.path}: task {task} was measured on other examples than in {other.path} "
            f"({min(unlike)!r} is in one of the two only)"
        )
    for name, (_, tokens) in ours.items():
        if tokens != theirs[name][1]:
            raise ValueError(
                f"{losses.path}: {task} {name!r} has {tokens} tokens, in {other.path} it has "
                f"{theirs[name][1]}; one model has one tokenizer: run "
                "`diablo measure` again for both"
            )
