"""How many examples a data set trains and tests, and where that number comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diablo.data.catalog import Dataset
from diablo.data.local import count_by_task, count_records
from diablo.data.protocol import protocol_of
from diablo.specs import RunSpec, SuiteSpec

from .facts import Assumptions

CATALOGUE = "workflow/catalog.yaml"
ASSUMED = "assumptions.yaml"


@dataclass(frozen=True)
class Count:
    """A number of examples and what it rests on."""

    examples: int
    source: str


def train_size(name: str, dataset: Dataset, known: Assumptions) -> Count:
    """Training examples of a data set: those of a user's own file, else its options, what is recorded, an assumption."""
    options = dataset.options
    if own := _own_file(dataset, "train"):
        return Count(count_records(own), f"{name}: records of {own}")
    if "train_per_task" in options:
        each = options["train_per_task"]
        return Count(each * len(options["tasks"]), f"{name}: options of {CATALOGUE}")
    if isinstance(options.get("train"), int):
        return Count(options["train"], f"{name}: options of {CATALOGUE}")
    if name in known.train_examples:
        size = known.train_examples[name]
        return Count(
            size, f"{name}: {size:,} training examples as published or in docs/data.md ({ASSUMED})"
        )
    size = known.unknown_train
    return Count(size, f"{name}: unknown, {size:,} training examples assumed")


def trained_examples(run: RunSpec, size: int) -> float:
    """Examples that a run is shown in all its epochs; a limit of steps ends it earlier.

    Limits hold for the examples that are there: `train_limit`, of which `held_out` are left out.
    """
    there = min(size, run.train_limit or size)
    shown = max(0, there - run.held_out) * run.epochs
    return min(shown, run.max_steps * run.batch_size) if run.max_steps else shown


def test_sizes(suite: SuiteSpec, dataset: Dataset, known: Assumptions) -> dict[str, Count]:
    """Test examples of each task of a suite, after its cap.

    A user's own file, `expect_test` of the data set, its options, what is recorded, the protocol's
    `test_sizes` (the paper's own test sets), an assumption: the first that says it.
    """
    options, whole = dataset.options, protocol_of(suite).test_sizes
    own = _own_file(dataset, "test")
    counted = count_by_task(own, options["task"]) if own else {}
    found = {}
    for task in suite.tasks:
        recorded = known.test_examples.get(suite.dataset, {})
        cap = options.get("most", {}).get(task)
        if task in counted:
            size, source = counted[task], f"records of {own}"
        elif task in options.get("expect_test", {}):
            size, source = options["expect_test"][task], f"expect_test of {CATALOGUE}"
        elif task == "held_out" and isinstance(options.get("held_out"), int):
            size, source = options["held_out"], f"options of {CATALOGUE}"
        elif cap or isinstance(options.get("test_per_task", options.get("test")), int):
            size = cap or options.get("test_per_task") or options["test"]
            source = f"options of {CATALOGUE}"
        elif task in recorded:
            size, source = recorded[task], f"recorded in {ASSUMED}"
        elif task in whole:
            size, source = whole[task], "test_sizes of the protocol"
        else:
            size, source = known.unknown_test, f"unknown, {known.unknown_test:,} assumed"
        text = f"{suite.dataset}: test sizes: {source}"
        found[task] = Count(min(size, suite.limit_per_task or size), text)
    return found


def _own_file(dataset: Dataset, split: str) -> Path | None:
    """The file of a user's own data set."""
    own = [one for one in dataset.sources if one.kind == "local" and one.split == split]
    return Path(own[0].path) if own else None
