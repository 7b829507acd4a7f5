"""Data sets of instructions (code, safety, chat): files in several formats -> training and test records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diablo.data.arithmetic import without_overlaps
from diablo.data.catalog import Dataset
from diablo.data.commonsense import Parts, Record, Splits, expect, joined, read_parts
from diablo.data.instruction_formats import READERS
from diablo.data.protocol import load_protocol, unknown

#: What a data set may say, beside its files.
OPTIONS = ("expect_test", "without", "shorter_than", "rows", "held_out", "proportion")

#: Task of the instructions that are held out of training and have an answer loss.
HELD_OUT = "held_out"


def build(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read all parts; drop, hold out, compare and mix as the options say, in this order.

    Args:
        dataset: the catalogue's entry. Its options:
            `without`: texts; rows whose output has one of them, in any case, are dropped.
            `shorter_than`: {tokens, tokenizer, suite}; rows whose prompt and output, in the suite's
            training frame of the variant `peer`, have as many tokens of that model or more are dropped.
            `rows`: {task: [first, end]}; of a part only these rows, of those that are left.
            `held_out`: so many training rows become test records of task `held_out`.
            `proportion`: {task: share}; training rows of the task for each row of all others.
            `expect_test`: size of each test set.
        files: path of each source by its name, and of the folder with the `tokenizer`.

    Returns:
        The records of each split, and facts for the provenance: how many rows each step removed.

    Raises:
        ValueError: an unknown option or format, a test set of another size, too few rows.
    """
    options = dataset.options
    for name in options:
        if name not in OPTIONS:
            raise ValueError(unknown("option", name, OPTIONS, f"data set {dataset.title!r}"))
    parts = read_parts(dataset, files, READERS)
    records = {
        split: {task: as_records(task, rows) for task, rows in found.items()}
        for split, found in parts.items()
    }
    removed: dict[str, dict[str, int]] = {"phrases": {}, "long": {}, "empty": {}}
    for found in records.values():
        if "without" in options:
            removed["phrases"] |= _keep(found, _without(found, options["without"]))
        if "shorter_than" in options:
            short = _shorter(found, options["shorter_than"], files["tokenizer"])
            removed["long"] |= _keep(found, short)
        _slice(found, options.get("rows", {}))
    removed["empty"] = _keep(records["train"], _with_output(records["train"]))
    if "held_out" in options:
        _hold_out(records, options["held_out"])
    expect(records["test"], options.get("expect_test", {}))
    facts: dict[str, Any] = {f"{why}_removed": count for why, count in removed.items() if count}
    if records["train"] and records["test"]:
        kept, facts["overlaps_removed"] = without_overlaps(records["train"], records["test"])
        records["train"] = kept
    _mix(records["train"], options.get("proportion", {}))
    return joined(records), facts


def as_records(task: str, rows: list[dict[str, Any]]) -> list[Record]:
    """Rows as records of the pipeline: an `id` (counted from 0 where the row has none), `answer`.

    Rows with an id that an earlier row has add their fields to it.
    """
    found: dict[str, Record] = {}
    for number, row in enumerate(rows):
        name = row.get("id", f"{task}/{number}")
        record = found.setdefault(name, {"id": name, "task": task})
        record.update(row)
    for record in found.values():
        if "instruction" not in record:
            raise ValueError(f"{task} {record['id']!r}: has an answer, but no instruction")
        record.setdefault("answer", record["output"])
    return list(found.values())


def _keep(parts: Parts, kept: Parts) -> dict[str, int]:
    """Put the tasks of `kept` into `parts`; how many rows of each are gone, where any are."""
    gone = {task: len(parts[task]) - len(rows) for task, rows in kept.items()}
    parts.update(kept)
    return {task: count for task, count in gone.items() if count}


def _with_output(parts: Parts) -> Parts:
    """Not the rows that teach nothing."""
    return {task: [r for r in rows if r["output"].strip()] for task, rows in parts.items()}


def _without(parts: Parts, phrases: list[str]) -> Parts:
    lower = [phrase.lower() for phrase in phrases]
    return {
        task: [row for row in rows if not any(text in row["output"].lower() for text in lower)]
        for task, rows in parts.items()
        if _is_instructions(rows)
    }


def _shorter(parts: Parts, limit: Mapping[str, Any], tokenizer_folder: Path) -> Parts:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    protocol = load_protocol(limit["suite"], "peer")

    def length(row: Record) -> int:
        return len(tokenizer.encode(protocol.prompt_for_training(row) + protocol.target(row)).ids)

    return {
        task: [row for row in rows if length(row) < limit["tokens"]]
        for task, rows in parts.items()
        if _is_instructions(rows)
    }


def _is_instructions(rows: list[Record]) -> bool:
    """Whether these are instructions with answers, not MT-Bench's questions of two turns."""
    return "instruction2" not in rows[0]


def _slice(parts: Parts, wanted: Mapping[str, list[int]]) -> None:
    for task, (first, end) in wanted.items():
        if task in parts:
            parts[task] = parts[task][first:end]
            if not parts[task]:
                raise ValueError(f"option rows: {task} has no rows {first} to {end}")


def _hold_out(records: dict[str, Parts], count: int) -> None:
    """Move `count` training records, chosen by the hash of their ids, to the test task `held_out`."""
    everything = [record for rows in records["train"].values() for record in rows]
    if count >= len(everything):
        raise ValueError(
            f"option held_out: {count} of {len(everything)} rows leaves none to train on"
        )
    chosen = {record["id"] for record in first_by_hash(everything, count, "held out: ")}
    records["test"][HELD_OUT] = [
        {**record, "task": HELD_OUT} for record in everything if record["id"] in chosen
    ]
    for task, rows in records["train"].items():
        records["train"][task] = [record for record in rows if record["id"] not in chosen]


def _mix(parts: Parts, shares: Mapping[str, float]) -> None:
    """Of each task in `shares`, keep so many records for each one of the other tasks."""
    others = sum(len(rows) for task, rows in parts.items() if task not in shares)
    for task, share in shares.items():
        count = round(others * share)
        if task not in parts or count > len(parts[task]):
            raise ValueError(
                f"option proportion: {count} records of task {task} are needed for {others} others, "
                f"there are {len(parts.get(task, []))}"
            )
        parts[task] = first_by_hash(parts[task], count, "proportion: ")


def first_by_hash(records: list[Record], count: int, salt: str = "") -> list[Record]:
    """`count` records chosen by the SHA-256 of `salt` and their ids, in the order of `records`.

    A salt makes the choice independent of an order by the ids' own hashes.
    """
    ranked = sorted(records, key=lambda r: hashlib.sha256(f"{salt}{r['id']}".encode()).digest())
    chosen = {record["id"] for record in ranked[:count]}
    return [record for record in records if record["id"] in chosen]
