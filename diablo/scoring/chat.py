"""Scores of a chat suite: the llm judge grades each answer from 1 to 10, turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.generation.prompts import Prompt
from diablo.scoring.judges.llm import LlmJudge
from diablo.scoring.measures import mean_entry, only_completion, suite_records
from diablo.scoring.options import Scored, ScoreOptions, Stored

TASK = "mtbench"
#: The task under which completions of the second turn are stored, and the entry of their ratings.
SECOND = "mtbench_turn2"
#: Categories whose answers are right or wrong: graded beside a reference answer, as MT-Bench does.
WITH_REFERENCE = ("math", "reasoning", "coding")


def score_chat(
    suite: Any,
    prompts: Sequence[Prompt],
    stored: Stored,
    work_folder: Path,
    options: ScoreOptions,
) -> Scored:
    """Grade every answer of the first turn, and of the second where that was generated.

    Args: see `diablo.scoring.options`. Nothing is written to `work_folder`: the judge's replies are
        kept in the cache folder, because they cost money.

    Returns:
        Entries `mtbench` and, with completions of task `mtbench_turn2`, `mtbench_turn2`: metric `rating`,
        the mean in points, with the ids of `malformed` replies, which have no rating. Without a
        judge there is no entry at all. Facts: `judge`, and `without_reference`: by entry, ids of
        questions of `WITH_REFERENCE` that have none and were graded like the others.

    Raises:
        ValueError: if a completion is missing, or a file of the user's does not fit.
        JudgeError: if the judge has no reply for an example; nothing is scored then.
    """
    if options.judge is None:
        return Scored({})
    judge = LlmJudge(options.judge, options.cache)
    turns = {TASK: list(prompts)}
    if any(task == SECOND for task, _ in stored):
        turns[SECOND] = [prompt for prompt in prompts if prompt.record.get("instruction2")]
    graded = [(entry, prompt) for entry, asked in turns.items() for prompt in asked]
    ratings = judge.ratings([_question(entry, prompt, stored) for entry, prompt in graded])

    entries, without = {}, {}
    records = suite_records(suite)
    for entry, asked in turns.items():
        rated = [
            (prompt, rating)
            for (turn, prompt), rating in zip(graded, ratings, strict=True)
            if turn == entry
        ]
        outcomes = [
            {"id": prompt.id, "correct": rating, "category": prompt.record.get("category")}
            for prompt, rating in rated
            if rating is not None
        ]
        malformed = [prompt.id for prompt, rating in rated if rating is None]
        available = sum(_is_asked(record, entry) for record in records)
        entries[entry] = mean_entry(TASK, "rating", "points", outcomes, available, malformed)
        without[entry] = [
            prompt.id
            for prompt in asked
            if _needs_reference(prompt.record) and not _has_reference(prompt.record, entry)
        ]
    return Scored(entries, {"judge": judge.facts(), "without_reference": without})


def _is_asked(record: Mapping[str, Any], entry: str) -> bool:
    return record["task"] == TASK and (entry == TASK or bool(record.get("instruction2")))


def _needs_reference(record: Mapping[str, Any]) -> bool:
    return str(record.get("category", "")).lower() in WITH_REFERENCE


def _has_reference(record: Mapping[str, Any], entry: str) -> bool:
    return bool(record.get("reference")) and (entry == TASK or bool(record.get("reference2")))


def _question(entry: str, prompt: Prompt, stored: Stored) -> tuple[str, str, dict[str, str]]:
    """What `LlmJudge.ratings` takes: the prompt's name, the example's, and the fields."""
    record = prompt.record
    reference = _needs_reference(record) and _has_reference(record, entry)
    _, first = only_completion(stored, TASK, prompt.id)
    where = f"{entry} {prompt.id!r}"
    if entry == TASK:
        fields = {"question": record["instruction"], "answer": first}
        name = "grade"
    else:
        _, second = only_completion(stored, SECOND, prompt.id)
        fields = {
            "question1": record["instruction"],
            "answer1": first,
            "question2": record["instruction2"],
            "answer2": second,
        }
        name = "grade_turn2"
    if not reference:
        return name, where, fields
    if entry == TASK:
        fields["reference"] = record["reference"]
    else:
        fields |= {"reference1": record["reference"], "reference2": record["reference2"]}
    return f"{name}_reference", where, fields
