"""Scores of answers that are right or wrong, computed by lm-eval on the stored generations.

The tasks are the files in `tasks/`, where there are any, else made here. Statistics of a whole task (F1,
Matthews' correlation) follow from the same outcomes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.data.protocol import WITHOUT, Entry, Protocol, protocol_of, strict_name
from diablo.generation.prompts import Prompt
from diablo.scoring.options import Scored, ScoreOptions, Stored
from diablo.scoring.set_metrics import Pair, Statistic, f1, matthews, with_error

TASKS = Path(__file__).with_name("tasks")


def score_accuracy(
    suite: Any,
    prompts: Sequence[Prompt],
    stored: Stored,
    work_folder: Path,
    options: ScoreOptions,
) -> Scored:
    """Score every completion through lm-eval and a replay model: no GPU, no model.

    Args: see `diablo.scoring.options`. Nothing is written to `work_folder`: it takes seconds.

    Returns:
        Entries with metric `acc`, and `<task>_strict`, judged by math-verify (with `reading_of` = the
        task), where the protocol says so; `f1` (of the task's second label, which `positive` names) and
        `matthews` where it declares them.

    Raises:
        ValueError: if an example has several completions, or a task's file is missing.
    """
    for (task, name), (_, completions) in stored.items():
        if len(completions) != 1:
            raise ValueError(
                f"{task} {name!r}: {len(completions)} completions; accuracy needs exactly one "
                "completion: decode with samples = 1"
            )
    replayed = {key: (prompt, completions[0]) for key, (prompt, completions) in stored.items()}
    results = _evaluate(suite, replayed)
    protocol = protocol_of(suite)
    entries = {}
    for name, declared in _entries(suite, protocol).items():
        task = declared.task
        of_task = name if _is_strict(name, declared, protocol) else task
        entries[name] = {
            **({"reading_of": task} if of_task != task else {}),
            **_entry(declared, protocol, results, task_name(of_task, suite.variant)),
        }
    return Scored(entries)


def task_name(task: str, variant: str) -> str:
    """Name of the lm-eval task; the paper's variant has no suffix."""
    return f"diablo_{task}" if variant == "paper" else f"diablo_{task}_{variant}"


def _entries(suite: Any, protocol: Protocol) -> dict[str, Entry]:
    """What is measured on the suite's tasks; a user's own protocol has one accuracy for each."""
    declared = protocol.entries or {task: Entry(task, protocol.metric) for task in suite.tasks}
    return {name: entry for name, entry in declared.items() if entry.task in suite.tasks}


def _is_strict(name: str, entry: Entry, protocol: Protocol) -> bool:
    return entry.task in protocol.strict and name == strict_name(entry.task)


def _evaluate(suite: Any, stored: Mapping[tuple[str, str], tuple[str, str]]) -> dict:
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
        protocol = protocol_of(suite)
        for entry, declared in _entries(suite, protocol).items():
            if _is_strict(entry, declared, protocol):
                name = task_name(entry, suite.variant)
                configs.append(suite_task(suite, declared.task, name, Strict()))
        tasks = manager.load(configs)
    # Not `simple_evaluate`: its survey of the machine imports torch and takes longer than the scores.
    # The error of a mean has a closed form: one "iteration" of bootstrap switches it on.
    return evaluate(Replay(stored), tasks, bootstrap_iters=1)


def _entry(entry: Entry, protocol: Protocol, results: dict, name: str) -> dict[str, Any]:
    """One entry of the score file, from lm-eval's results for its task `name`."""
    outcomes = [
        {
            "id": sample["doc"]["id"],
            "correct": sample[protocol.metric],
            "extracted": sample["filtered_resps"][0],
            "answer": sample["target"],
        }
        for sample in results["samples"][name]
    ]
    more: dict[str, Any] = {}
    stderr: float | None
    if entry.metric in ("f1", "matthews"):
        pairs: list[Pair] = [(one["answer"], one["extracted"]) for one in outcomes]
        statistic: Statistic = matthews
        if entry.metric == "f1":
            more["positive"] = _positive(protocol, entry.task)
            statistic = f1(more["positive"])
        value, stderr = with_error(statistic, pairs)
    else:
        value = results["results"][name][f"{protocol.metric},label"]
        found = results["results"][name][f"{protocol.metric}_stderr,label"]
        # lm-eval has none for a single example.
        stderr = None if found == "N/A" else found
    return {
        "task": entry.task,
        "n": len(outcomes),
        "metric": entry.metric,
        "unit": entry.unit,
        **more,
        "value": value,
        "stderr": stderr,
        "outcomes": outcomes,
    }


def _positive(protocol: Protocol, task: str) -> str:
    """The label that F1 is about: the second of two, as GLUE numbers them 0 and 1."""
    labels = protocol.labels.get(task, ())
    if len(labels) != 2:
        raise ValueError(
            f"protocol {protocol.suite!r}: f1 of {task} needs two labels, it has {list(labels)}"
        )
    return labels[1]
