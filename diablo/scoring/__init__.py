"""Scores of stored generations, computed by lm-eval on the task files in `tasks/`, where there are any."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

from diablo.data.protocol import WITHOUT, protocol_of, strict_name
from diablo.generation.prompts import Prompt, suite_decoding, suite_prompts
from diablo.io import read_json, read_jsonl, write_json
from diablo.provenance import Provenance

TASKS = Path(__file__).with_name("tasks")


def score(spec: Any, suite: Any, generations_path: str | Path, out_path: str | Path) -> dict:
    """Score a run's stored generations and write `scores/<suite>.json`.

    Every example of the suite is scored, through lm-eval and a replay model: no GPU, no model.

    Args:
        spec: RunSpec.
        suite: SuiteSpec.
        generations_path: JSONL of `diablo.generation.generate`, its provenance beside it.
        out_path: written atomically.

    Returns:
        What was written: by task metrics with n, standard error and `available` (records of the
        task in the data before the cap), per-example outcomes, and the plain mean of the tasks. Where
        the protocol says so, a task has a second entry `<task>_strict`, judged by math-verify, with
        `reading_of` = the task; it is no part of the mean.

    Raises:
        ValueError: if a generation is missing, given twice, unexpected, for another prompt, or made
            for another run, suite or decoding. Nothing is scored then.
    """
    generations_path = Path(generations_path)
    made = generations_path.with_suffix(".provenance.json")
    data = Path(suite.data_path) / "test.jsonl"
    prompts = suite_prompts(suite)
    stored = _match(generations_path, prompts)
    _check_origin(made, spec, suite)
    provenance = Provenance("score", inputs=[generations_path, made, data])

    results = _evaluate(suite, stored)
    available = Counter(record["task"] for record in read_jsonl(data))
    tasks: dict[str, dict[str, Any]] = {}
    for task, entry in [(task, task) for task in suite.tasks] + _strict_entries(suite):
        tasks[entry] = {"available": available[task]}
        if entry != task:
            tasks[entry]["reading_of"] = task
        tasks[entry] |= _outcomes(results, task_name(entry, suite.variant), suite)
        value, stderr, n = (tasks[entry][key] for key in ("value", "stderr", "n"))
        print(
            f"{entry}: acc {value:.4f} ± {math.nan if stderr is None else stderr:.4f} (n = {n} of {available[task]})"
        )
    average = sum(tasks[task]["value"] for task in suite.tasks) / len(suite.tasks)
    print(f"average of {len(suite.tasks)} tasks: {average:.4f} (n = {len(prompts)})")

    provenance.add(limit_per_task=suite.limit_per_task, notes=list(suite.notes))
    scores = {
        "suite": suite.suite,
        "variant": suite.variant,
        "run": spec.run,
        "tasks": tasks,
        "average": average,
        "provenance": {**provenance.finish(), "generated": read_json(made)},
    }
    write_json(out_path, scores)
    return scores


def task_name(task: str, variant: str) -> str:
    """Name of the lm-eval task; the paper's variant has no suffix."""
    return f"diablo_{task}" if variant == "paper" else f"diablo_{task}_{variant}"


def _match(path: Path, prompts: list[Prompt]) -> dict[tuple[str, str], tuple[str, str]]:
    """(task, id) -> (prompt, completion), after checking that the file has what was asked.

    Raises:
        ValueError: names the first offending task and id, and how many there are.
    """
    rows = {}
    counts: Counter[tuple[str, str]] = Counter()
    for row in read_jsonl(path):
        key = (row["task"], row["id"])
        counts[key] += 1
        rows[key] = row
    asked = {(prompt.task, prompt.id): prompt for prompt in prompts}
    _refuse(path, [key for key, n in counts.items() if n > 1], "generated more than once")
    _refuse(path, [key for key in asked if key not in rows], "not generated")
    _refuse(path, [key for key in rows if key not in asked], "not in this suite")
    different = [key for key, prompt in asked.items() if rows[key]["prompt"] != prompt.text]
    _refuse(path, different, "generated for a prompt that is not the protocol's")
    several = [key for key, row in rows.items() if len(row["completions"]) != 1]
    _refuse(path, several, "accuracy needs exactly one completion")
    return {key: (row["prompt"], row["completions"][0]) for key, row in rows.items()}


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


def _evaluate(suite: Any, stored: dict[tuple[str, str], tuple[str, str]]) -> dict:
    """lm-eval's results for the suite's tasks."""
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from diablo.scoring.lm_tasks import suite_task
    from diablo.scoring.replay import Replay
    from diablo.scoring.strict import Strict

    # Its warnings are about models that are really run; errors still show.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    where = {"data": str(suite.data_path), "limit_per_task": suite.limit_per_task}
    # Only our own tasks: to index lm-eval's thousands would take longer than the scoring.
    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata=where)
    names = {task_name(task, suite.variant): task for task in suite.tasks}
    # The files have the whole variants; one without a flaw is made here.
    if (TASKS / suite.suite).is_dir() and WITHOUT not in suite.variant:
        for name in names:
            if name not in manager.all_subtasks:
                raise ValueError(f"{TASKS}: no lm-eval task {name!r}; add a task file for it")
        tasks = manager.load(list(names))
    else:
        configs = [suite_task(suite, task, name) for name, task in names.items()]
        for task, entry in _strict_entries(suite):
            configs.append(suite_task(suite, task, task_name(entry, suite.variant), Strict()))
        tasks = manager.load(configs)
    # Not `simple_evaluate`: its survey of the machine imports torch and takes longer than the scores.
    # The error of a mean has a closed form: one "iteration" of bootstrap switches it on.
    return evaluate(Replay(stored), tasks, bootstrap_iters=1)


def _strict_entries(suite: Any) -> list[tuple[str, str]]:
    """(task, name of its second entry) of the suite's tasks that math-verify judges too."""
    strict = protocol_of(suite).strict
    return [(task, strict_name(task)) for task in suite.tasks if task in strict]


def _outcomes(results: dict, name: str, suite: Any) -> dict:
    """One task's entry of the score file, from lm-eval's results."""
    metric = protocol_of(suite).metric
    outcomes = [
        {
            "id": sample["doc"]["id"],
            "correct": sample[metric],
            "extracted": sample["filtered_resps"][0],
            "answer": sample["target"],
        }
        for sample in results["samples"][name]
    ]
    stderr = results["results"][name][f"{metric}_stderr,label"]
    return {
        "n": len(outcomes),
        "metric": metric,
        "value": results["results"][name][f"{metric},label"],
        # lm-eval has none for a single example.
        "stderr": None if stderr == "N/A" else stderr,
        "outcomes": outcomes,
    }
