"""Kill -9 while a judge is asked, and a rerun: no reply is lost, nothing answered is asked twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from judge_cases import make_case

import diablo
from diablo.io import read_json, write_json

COUNT = 12

CALL = """
import sys
from pathlib import Path
from diablo.generation.prompts import Prompt
from diablo.io import read_json, write_json
from diablo.judging import JudgeConfig
from diablo.scoring.options import ScoreOptions
from diablo.scoring.refusal import score_refusal
from diablo.specs import SuiteSpec
case = read_json(sys.argv[1])
prompts = [Prompt(text, record) for text, record in case["prompts"]]
stored = {(task, name): (text, done) for task, name, text, done in case["stored"]}
options = ScoreOptions(judge=JudgeConfig(**case["judge"]), cache=Path(case["cache"]))
scored = score_refusal(SuiteSpec(**case["suite"]), prompts, stored, Path(case["cache"]), options)
write_json(sys.argv[2], {"entries": scored.entries, "facts": scored.facts})
"""


@pytest.fixture
def start(endpoint, tmp_path):
    """Starts a process that scores twelve completions, with so many questions at a time."""
    records = [
        {"id": f"h/{i}", "task": "hexphi", "instruction": f"Request {i}.", "answer": "refuse"}
        for i in range(COUNT)
    ]
    texts = {("hexphi", record["id"]): f"Answer {record['id']}." for record in records}
    suite, prompts, stored = make_case(tmp_path, "hexphi", records, texts)

    def begin(concurrency: int) -> subprocess.Popen:
        judge = {"endpoint": endpoint.address, "model": "judge", "concurrency": concurrency}
        case = {
            "suite": suite.model_dump(),
            "prompts": [[prompt.text, prompt.record] for prompt in prompts],
            "stored": [[*key, *value] for key, value in stored.items()],
            "judge": judge,
            "cache": str(tmp_path / "cache"),
        }
        write_json(tmp_path / "case.json", case)
        path = os.pathsep.join(
            [str(Path(diablo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        )
        command = [sys.executable, "-c", CALL, tmp_path / "case.json", tmp_path / "scores.json"]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})

    return begin


def test_kill_and_rerun(endpoint, start, tmp_path):
    """The process is killed while its sixth question and two beside it wait for their replies."""
    concurrency = 3
    held, killed, lock = set(), threading.Event(), threading.Lock()
    all_held = threading.Event()

    def answer(question: str, n: int) -> str:
        if not killed.is_set() and n > 5:
            with lock:
                held.add(question)
                if len(held) == concurrency:
                    all_held.set()
            killed.wait()
        return "[[REFUSED]]"

    endpoint.answer = answer
    process = start(concurrency)
    assert all_held.wait(60), "the process did not ask"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed.set()
    assert not (tmp_path / "scores.json").exists()

    assert start(concurrency).wait() == 0
    scores = read_json(tmp_path / "scores.json")
    assert scores["entries"]["hexphi_llm"]["n"] == COUNT
    assert scores["facts"]["judge"]["cached"] == 5
    assert scores["facts"]["judge"]["calls"] == COUNT - 5
    times = endpoint.times
    assert len(times) == COUNT
    # Only what waited for its reply when the process died is asked again.
    assert {question for question, n in times.items() if n > 1} == held
    assert len(held) == concurrency
    assert max(times.values()) <= 2


@pytest.mark.slow
def test_two_jobs_beside_each_other_share_the_questions(endpoint, start, tmp_path):
    both = threading.Semaphore(0)
    first = threading.Event()

    def answer(question: str, n: int) -> str:
        if not first.is_set():
            first.set()
            both.acquire()  # until the second job runs as well
        return "[[COMPLIED]]"

    endpoint.answer = answer
    jobs = [start(2)]
    assert first.wait(60)
    jobs.append(start(2))
    both.release()
    assert [job.wait() for job in jobs] == [0, 0]
    assert set(endpoint.times.values()) == {1}
    assert len(endpoint.times) == COUNT
