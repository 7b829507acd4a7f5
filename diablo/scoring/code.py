"""pass@k of stored completions: each becomes a program, which is run in a sandbox against its test."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diablo.data.protocol import Entry, protocol_of
from diablo.generation.prompts import Prompt
from diablo.scoring.options import Scored, ScoreOptions, Stored
from diablo.scoring.passk import mean_and_error, pass_at_k
from diablo.scoring.programs import check_record, program_of
from diablo.scoring.sandbox import OUTCOMES, UNSAFE, Job, Limits, Result, choose, run_all

#: (task, id of the problem) -> the key of each sample's job.
Keys = dict[tuple[str, str], list[str]]


def score_code(
    suite: Any,
    prompts: Sequence[Prompt],
    stored: Stored,
    work_folder: Path,
    options: ScoreOptions,
    limits: Limits | None = None,
) -> Scored:
    """Run every completion of a suite and estimate pass@k.

    Outcomes are kept in `work_folder` as they come, so that a scoring which was killed goes on where it
    was. The same program for the same test is run once.

    Args:
        suite: SuiteSpec; its protocol has entries with the metric `pass@K`.
        prompts: the problems; their records have `prompt`, `entry_point` and `test`.
        limits: of each candidate; None: the usual ones.

    Returns:
        By entry: n problems, value, stderr over problems, and each problem's estimate, samples and
        outcomes (`by_sample` in the samples' order). The facts say which sandbox was used.

    Raises:
        ValueError: if there is no sandbox and `unsafe_execution` is not set, a problem cannot be run, or
            pass@k is asked of fewer than k samples.
        SandboxError: if the sandbox failed; then no outcome is made up.
    """
    limits = limits or Limits()
    entries = _entries(suite)
    _check(prompts, stored, entries)
    kind = choose(options.unsafe_execution)
    keys: Keys = {}
    jobs: dict[str, Job] = {}
    for prompt in prompts:
        keys[prompt.task, prompt.id] = []
        for completion in stored[prompt.task, prompt.id][1]:
            job = _job(prompt, completion)
            key = _key(job, limits)
            keys[prompt.task, prompt.id].append(key)
            jobs[key] = job
    outcomes = Outcomes(Path(work_folder) / "outcomes.jsonl")
    workers = options.workers or len(os.sched_getaffinity(0))
    facts = _run(jobs, outcomes, kind, limits, workers)
    counts = Counter(outcomes[key].outcome for row in keys.values() for key in row)
    facts["outcomes"] = _ordered(counts)
    print(
        f"{suite.suite}: {sum(counts.values())} samples: {facts['outcomes']} ({facts['sandbox']})"
    )
    results = {name: _entry(entry, prompts, keys, outcomes) for name, entry in entries.items()}
    for name, result in results.items():
        error = "" if result["stderr"] is None else f" ± {result['stderr']:.4f}"
        print(f"{name}: {result['metric']} {result['value']:.4f}{error} (n = {result['n']})")
    return Scored(results, facts)


class Outcomes:
    """An append-only file of outcomes by the key of their job; a killed scoring loses none that it has.

    Args:
        path: made if missing. A last line that was being written is cut off.
    """

    def __init__(self, path: Path):
        self.path = path
        self._results: dict[str, Result] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load()

    def _load(self) -> None:
        good = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                kept = json.loads(line)
                key, result = kept["key"], Result(kept["outcome"], kept["detail"])
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            self._results[key] = result
            good += len(line)
        os.truncate(self.path, good)

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __getitem__(self, key: str) -> Result:
        return self._results[key]

    def add(self, key: str, result: Result) -> None:
        """Keep an outcome (on disk before this returns)."""
        line = json.dumps({"key": key, "outcome": result.outcome, "detail": result.detail})
        with self.path.open("a", encoding="ascii") as out:
            out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())
        self._results[key] = result


def _entries(suite: Any) -> dict[str, Entry]:
    """The suite's entries that are measured by running code."""
    entries = protocol_of(suite).entries
    return {
        name: entry
        for name, entry in entries.items()
        if entry.metric.startswith("pass@") and entry.task in suite.tasks
    }


def _k(entry: Entry) -> int:
    return int(entry.metric.removeprefix("pass@"))


def _check(prompts: Sequence[Prompt], stored: Stored, entries: dict[str, Entry]) -> None:
    for prompt in prompts:
        check_record(prompt)
        samples = len(stored[prompt.task, prompt.id][1])
        for name, entry in entries.items():
            if entry.task == prompt.task and samples < _k(entry):
                raise ValueError(
                    f"{name} is {entry.metric}, but {prompt.task} {prompt.id!r} has {samples} "
                    f"completions; draw {_k(entry)} or more (samples of the suite's decoding)"
                )


def _job(prompt: Prompt, completion: str) -> Job:
    record = prompt.record
    return Job(
        name=f"{prompt.task} {prompt.id!r}",
        program=program_of(prompt, completion),
        prompt=record["prompt"],
        test=record["test"],
        entry_point=record["entry_point"],
    )


def _key(job: Job, limits: Limits) -> str:
    """Hash of all that an outcome depends on."""
    what = dataclasses.asdict(job) | {"limits": dataclasses.asdict(limits)}
    del what["name"]
    what["python"] = platform.python_version()
    # ASCII, since a completion may be no valid Unicode.
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode("ascii")).hexdigest()


def _run(
    jobs: dict[str, Job], outcomes: Outcomes, kind: str, limits: Limits, workers: int
) -> dict[str, Any]:
    """Run what has no outcome yet; the facts about it."""
    from tqdm import tqdm

    todo = {key: job for key, job in jobs.items() if key not in outcomes}
    start = time.monotonic()
    kept = len(jobs) - len(todo)
    with tqdm(
        total=len(jobs), initial=kept, desc="run programs", unit="program", mininterval=1
    ) as bar:
        for key, result in run_all(todo, kind, limits, workers):
            outcomes.add(key, result)
            bar.update()
    seconds = time.monotonic() - start
    return {
        "sandbox": "none (unsafe_execution)" if kind == UNSAFE else kind,
        "limits": dataclasses.asdict(limits),
        "python": platform.python_version(),
        "workers": workers,
        "programs": len(jobs),
        "programs_run": len(todo),
        "candidates_per_second": round(len(todo) / seconds, 1) if todo else None,
    }


def _entry(
    entry: Entry, prompts: Sequence[Prompt], keys: Keys, outcomes: Outcomes
) -> dict[str, Any]:
    """One entry of the score file."""
    problems: list[dict[str, Any]] = []
    for prompt in prompts:
        if prompt.task != entry.task:
            continue
        words = [outcomes[key].outcome for key in keys[prompt.task, prompt.id]]
        passed = words.count("passed")
        problems.append(
            {
                "id": prompt.id,
                "correct": pass_at_k(len(words), passed, _k(entry)),
                "samples": len(words),
                "passed": passed,
                "outcomes": _ordered(Counter(words)),
                "by_sample": words,
            }
        )
    value, stderr = mean_and_error([problem["correct"] for problem in problems])
    return {
        "n": len(problems),
        "metric": entry.metric,
        "value": value,
        "stderr": stderr,
        "unit": entry.unit,
        "task": entry.task,
        "outcomes": problems,
    }


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return {word: counts[word] for word in OUTCOMES if counts[word]}
