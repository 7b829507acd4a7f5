"""Runs: their scores, their answer losses and the provenance behind both, read and checked.

A number only enters a table through here, and only together with the provenance of the run that made it.
Score files are read by `diablo.tables.scores`, answer losses by `diablo.tables.losses`; what the runs of a
row say together is estimated in `diablo.tables.estimates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.io import read_json
from diablo.tables.checks import check_same
from diablo.tables.losses import Losses, read_losses
from diablo.tables.measures import Measure, entry_measures
from diablo.tables.scores import Entry, read_entry

#: Metrics of completions that no gold answer is needed for.
WITHOUT_GOLD = ("rating", "refusal")


@dataclass(frozen=True)
class Training:
    """How one run was trained, as the provenance of its adapter says; `files` were read for it.

    `part` is the part of the experiment that it is of, "" where there is one only.
    """

    name: str
    part: str
    seed: int
    learning_rate: float | None
    provenance: Mapping[str, Any]
    files: tuple[Path, ...]

    @property
    def device(self) -> str:
        """What the run was trained on, as its provenance says."""
        return self.provenance.get("device", "not recorded")


@dataclass(frozen=True)
class Run(Training):
    """One run with what was measured on it.

    Attributes:
        scores: the score file; None where no entry of the part can be scored.
        entries: what was scored, by column; columns that cannot have numbers are left out.
        losses: answer losses by prompt task; None where they were not measured.
        scoring: provenance of the score file: sandbox, judge, agreement of judges, how it was generated.
    """

    scores: Path | None
    entries: Mapping[str, Entry]
    losses: Losses | None
    scoring: Mapping[str, Any] = field(default_factory=dict)


def read_run(entry: Mapping[str, Any], plan: Mapping[str, Any], row: Mapping[str, Any]) -> Run:
    """Read one entry of the `runs` of a row of a plan (`diablo.tables.measures.read_plan`).

    Raises:
        ValueError: if a file is missing, belongs to another run, protocol or method, lacks an entry,
            says a value that its own outcomes do not give, or was trained with another learning
            rate than the plan says. The message names the file.
    """
    part = next(part for part in plan["parts"] if part["name"] == entry["part"])
    measures = [one for one in entry_measures(plan).values() if one.part == entry["part"]]
    wanted = {"run": entry["run"], "suite": part["suite"], "variant": part["variant"]}
    scores = _path(entry, "scores", "score")
    losses = _path(entry, "losses", "measure")
    result = scores or losses
    if result is None:
        raise ValueError(f"{plan['name']}: run {entry['run']} has neither scores nor losses")
    training = read_training(entry, row, result)
    entries: dict[str, Entry] = {}
    content: dict[str, Any] = {"provenance": {}, "tasks": {}}
    if scores:
        content = read_json(scores)
        if not content.get("provenance"):
            raise ValueError(f"{scores}: has no provenance; run `diablo score` again")
        check_same(scores, content, wanted)
        entries = {one.key: read_entry(scores, content, one) for one in measures if not one.missing}
    elif unsaid := [one.key for one in measures if not one.missing]:
        raise ValueError(
            f"{plan['name']}: run {entry['run']} has no scores, but the plan's `missing` does not say "
            f"why there is no {', '.join(unsaid)}"
        )
    read = None
    if losses:
        scored = {one.get("task", key) for key, one in content["tasks"].items()}
        read = read_losses(losses, wanted, examples_scored(measures, entries), scored)
    files = (scores, *training.files, losses)
    return Run(
        **{**vars(training), "files": tuple(path for path in files if path)},
        scores=scores,
        entries=entries,
        losses=read,
        scoring=content["provenance"],
    )


def _path(entry: Mapping[str, Any], what: str, verb: str) -> Path | None:
    """A run's file of scores or losses; None where the plan has none."""
    if not entry[what]:
        return None
    path = Path(entry[what])
    if not path.is_file():
        kind = {"scores": "score", "losses": "loss"}[what]
        raise ValueError(f"{path}: no such {kind} file; run `diablo {verb}` for {entry['run']}")
    return path


def examples_scored(
    measures: list[Measure], entries: Mapping[str, Entry]
) -> dict[str, tuple[set[str], bool]]:
    """By prompt task: the examples that were scored, and whether all of them have a gold answer.

    Chat questions have a reference answer for some categories only, prompts whose refusals are counted for
    some data sets only: neither is scored by it.
    """
    found: dict[str, tuple[set[str], bool]] = {}
    for one in measures:
        ids, complete = found.get(one.task, (set(), True))
        scored = entries[one.key].ids if one.key in entries else set()
        # Of several entries of a task the first: a second turn has fewer questions.
        found[one.task] = (ids or scored, complete and one.metric not in WITHOUT_GOLD)
    return found


def read_training(entry: Mapping[str, Any], row: Mapping[str, Any], result: Path) -> Training:
    """Read the provenance of a run's adapter, without which the numbers in `result` do not count.

    Raises:
        ValueError: if it is missing, incomplete, of another method or of another learning rate than
            the plan says. The message names the file.
    """
    path = Path(entry["adapter"]) / "provenance.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: missing, so the numbers in {result} have no provenance and cannot "
            "enter a table; delete them and run the workflow again"
        )
    provenance = read_json(path)
    check_same(path, provenance, {"method": row["method"]})
    for key in ("trainable_parameters", "base_parameters"):
        if not isinstance(provenance.get(key), int):
            raise ValueError(f"{path}: {key} = {provenance.get(key)!r} is not a count")
    learning_rate = _learning_rate(path, provenance, row, entry)
    return Training(entry["run"], entry["part"], entry["seed"], learning_rate, provenance, (path,))


def _learning_rate(
    path: Path, provenance: Mapping[str, Any], row: Mapping[str, Any], entry: Mapping[str, Any]
) -> float | None:
    """The learning rate that was used; only a tuned one may differ from the plan's.

    Where the parts of an experiment have rates of their own, the plan says them with the runs.
    """
    planned, source = entry.get("lr", row["setting_used"]["lr"]), row["lr_from"]
    # Adapters of before learning rates were recorded were trained with the plan's.
    used = provenance.get("learning_rate", planned)
    if source == "tuned" and not provenance.get("tuning"):
        raise ValueError(
            f"{path}: has no `tuning`, but the plan says that the learning rate of "
            f"{row['label']!r} was tuned; delete the run's folder and run the workflow again"
        )
    if source not in ("tuned", None) and not math.isclose(used, planned):
        raise ValueError(f"{path}: learning_rate is {used!r}, the plan says {planned!r}")
    return None if source is None else used
