"""Scores of stored generations: checked, handed to the suite's scorer, written with their provenance."""

from __future__ import annotations

import importlib
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from diablo.data.protocol import protocol_of, unknown
from diablo.generation.prompts import Prompt, suite_decoding, suite_prompts
from diablo.generation.turns import second_prompts, second_task
from diablo.io import read_json, read_jsonl, write_json
from diablo.provenance import Provenance
from diablo.scoring.options import ScoreOptions, Stored

#: A protocol's `scorer`: module and function here, which take and give what `options` says.
SCORERS = {
    "lm-eval": ("accuracy", "score_accuracy"),
    "code": ("code", "score_code"),
    "refusal": ("refusal", "score_refusal"),
    "chat": ("chat", "score_chat"),
}


def score(
    spec: Any,
    suite: Any,
    generations_path: str | Path,
    out_path: str | Path,
    work_folder: str | Path | None = None,
    options: ScoreOptions | None = None,
) -> dict:
    """Score a run's stored generations and write `scores/<suite>.json`.

    Args:
        spec: RunSpec.
        suite: SuiteSpec; every example of it is scored.
        generations_path: JSONL of `diablo.generation.generate`, its provenance beside it.
        out_path: written atomically.
        work_folder: where a scorer keeps what a kill must not lose; removed at the end. None: beside
            the scores.
        options: what the user decides about scoring; None: the defaults.

    Returns:
        What was written: by entry the metric with n, standard error and `available` (records of the
        task in the data before the cap), per-example outcomes, and the plain mean of the tasks, which
        suites other than lm-eval's do not have. Second readings are no part of the mean.

    Raises:
        ValueError: if a generation is missing, given twice, unexpected, for another prompt, or made
            for another run, suite or decoding. Nothing is scored then; nor if the scorer refuses.
    """
    generations_path, out_path = Path(generations_path), Path(out_path)
    work = out_path.with_suffix(".work") if work_folder is None else Path(work_folder)
    made = generations_path.with_suffix(".provenance.json")
    data = Path(suite.data_path) / "test.jsonl"
    prompts = suite_prompts(suite)
    stored = _match(generations_path, suite, prompts)
    _check_origin(made, spec, suite)
    provenance = Provenance("score", inputs=[generations_path, made, data])

    scorer = protocol_of(suite).scorer
    if scorer not in SCORERS:
        raise ValueError(unknown("scorer", scorer, SCORERS, f"protocol {suite.suite!r}"))
    module, function = SCORERS[scorer]
    run = getattr(importlib.import_module(f"diablo.scoring.{module}"), function)
    scored = run(suite, prompts, stored, work, options or ScoreOptions())
    available = Counter(record["task"] for record in read_jsonl(data))
    # Of all the task's records, where the scorer does not say that fewer could be asked.
    entries = {
        name: {"available": available[entry["task"]], **entry}
        for name, entry in scored.entries.items()
    }
    for name, entry in entries.items():
        value, stderr = (
            math.nan if entry[key] is None else entry[key] for key in ("value", "stderr")
        )
        of = f"n = {entry['n']} of {entry['available']}"
        print(f"{name}: {entry['metric']} {value:.4f} ± {stderr:.4f} ({of})")
    average = None
    if scorer == "lm-eval":
        # The first entry of each task: its accuracy.
        means = {entry["task"]: entry["value"] for entry in reversed(entries.values())}
        average = sum(means.values()) / len(means)
        print(f"average of {len(means)} tasks: {average:.4f} (n = {len(prompts)})")

    provenance.add(limit_per_task=suite.limit_per_task, notes=list(suite.notes), **scored.facts)
    scores = {
        "suite": suite.suite,
        "variant": suite.variant,
        "run": spec.run,
        "tasks": entries,
        "average": average,
        "provenance": {**provenance.finish(), "generated": read_json(made)},
    }
    write_json(out_path, scores)
    shutil.rmtree(work, ignore_errors=True)
    return scores


def _match(path: Path, suite: Any, prompts: list[Prompt]) -> Stored:
    """(task, id) -> (prompt, completions), after checking that the file has what was asked.

    Raises:
        ValueError: names the first offending task and id, and how many there are.
    """
    rows = {}
    counts: Counter[tuple[str, str]] = Counter()
    for row in read_jsonl(path):
        key = (row["task"], row["id"])
        counts[key] += 1
        rows[key] = row
    _refuse(path, [key for key, n in counts.items() if n > 1], "generated more than once")
    asked = {(prompt.task, prompt.id): prompt.text for prompt in prompts}
    _refuse(path, [key for key in asked if key not in rows], "not generated")
    if suite.second_turn:
        first = [rows[key] for key in asked]
        second = second_prompts(suite, first)
        asked |= {(second_task(prompt.task), prompt.id): prompt.text for prompt in second}
        _refuse(path, [key for key in asked if key not in rows], "not generated")
    _refuse(path, [key for key in rows if key not in asked], "not in this suite")
    different = [key for key, text in asked.items() if rows[key]["prompt"] != text]
    _refuse(path, different, "generated for a prompt that is not the protocol's")
    samples = suite_decoding(suite).samples
    wrong = [key for key, row in rows.items() if len(row["completions"]) != samples]
    _refuse(path, wrong, f"has another number of completions than {samples}")
    return {key: (row["prompt"], row["completions"]) for key, row in rows.items()}


def _refuse(path: Path, keys: list[tuple[str, str]], problem: str) -> None:
    if keys:
        task, name = keys[0]
        others = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        raise ValueError(f"{path}: {task} {name!r}: {problem}{others}; run `diablo generate` again")


def _check_origin(path: Path, spec: Any, suite: Any) -> None:
    """ValueError if the generations were made for another run, suite or decoding."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; generations without provenance are not scored")
    made = read_json(path)
    decoding = suite_decoding(suite)
    expected = {
        "run": spec.run,
        "suite": suite.suite,
        "variant": suite.variant,
        "decoding": decoding.as_dict(),
    }
    for key, value in expected.items():
        if made.get(key) != value:
            raise ValueError(
                f"{path}: {key} is {made.get(key)!r}, to be scored is {value!r}; "
                "run `diablo generate` again"
            )
