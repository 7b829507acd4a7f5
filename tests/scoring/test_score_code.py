"""pass@k of stored completions, from sandbox to score entry, through kills and reruns."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import code_cases
import pytest
from code_cases import JOINED, WRONG, many, prompts, right, score

from diablo.scoring import code
from diablo.scoring.sandbox import KINDS, SandboxError
from diablo.scoring.sandbox.choice import problem_of


@pytest.fixture(autouse=True)
def protocol(monkeypatch):
    if all(problem_of(kind) for kind in KINDS):
        pytest.skip("no sandbox holds on this system")
    monkeypatch.setattr(code, "protocol_of", None)  # put back at the end
    code_cases.with_protocol()


def test_entries_and_facts(tmp_path):
    completions = [[right(0), WRONG], [WRONG, WRONG], [right(2), right(2)], [JOINED, "    x ="]]
    scored = score(prompts(), completions, tmp_path)
    assert list(scored.entries) == ["adding_pass1", "adding_pass2", "joining_pass1"]
    first = scored.entries["adding_pass1"]
    assert {key: first[key] for key in ("n", "metric", "unit", "task")} == {
        "n": 3,
        "metric": "pass@1",
        "unit": "%",
        "task": "adding",
    }
    assert first["value"] == 0.5
    assert first["stderr"] == pytest.approx(0.5 / 3**0.5)
    assert first["outcomes"][0] == {
        "id": "a0",
        "correct": 0.5,
        "samples": 2,
        "passed": 1,
        "outcomes": {"passed": 1, "failed": 1},
        "by_sample": ["passed", "failed"],
    }
    assert [problem["correct"] for problem in first["outcomes"]] == [0.5, 0.0, 1.0]
    assert [p["correct"] for p in scored.entries["adding_pass2"]["outcomes"]] == [1.0, 0.0, 1.0]
    assert scored.entries["joining_pass1"]["stderr"] is None
    facts = scored.facts
    assert facts["sandbox"] in KINDS
    assert facts["outcomes"] == {"passed": 4, "failed": 4}
    assert facts["limits"] == dataclasses.asdict(code_cases.LIMITS)
    assert facts["workers"] == 2
    assert facts["candidates_per_second"] > 0
    # The same program for the same problem is run once.
    assert facts["programs"] == facts["programs_run"] == 6


def test_every_kind_of_outcome_is_counted(tmp_path):
    completions = [
        [right(0), WRONG],
        ["    while True: pass\n", "    return bytearray(10**10)\n"],
        ["    import os\n    os._exit(0)\n", right(2)],
        [JOINED],
    ]
    facts = score(prompts(), completions, tmp_path).facts
    assert facts["outcomes"] == {"passed": 3, "failed": 1, "timeout": 1, "memory": 1, "crashed": 1}
    assert list(facts["outcomes"]) == ["passed", "failed", "timeout", "memory", "crashed"]


def test_what_is_there_is_not_run_again(tmp_path):
    asked, completions = many(3)
    first = score(asked, completions, tmp_path)
    file = tmp_path / "outcomes.jsonl"
    before = file.read_bytes()
    again = score(asked, completions, tmp_path)
    assert again.entries == first.entries
    assert again.facts["programs_run"] == 0
    assert again.facts["candidates_per_second"] is None
    assert file.read_bytes() == before
    # Other limits, test or program: another outcome.
    changed = [[WRONG, WRONG], *completions[1:]]
    assert score(asked, changed, tmp_path).facts["programs_run"] == 0
    other = [["    return 0\n", WRONG], *completions[1:]]
    assert score(asked, other, tmp_path).facts["programs_run"] == 1
    asked[1].record["test"] += "\n"
    assert score(asked, other, tmp_path).facts["programs_run"] == 2


def test_a_torn_last_line_is_run_again_and_nothing_else(tmp_path):
    asked, completions = many(3)
    first = score(asked, completions, tmp_path)
    file = tmp_path / "outcomes.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (lines[-1][:-1], lines[-1][:20], b'{"key": 3}\n', b"\xff\n"):
        file.write_bytes(b"".join(lines[:-1]) + torn)
        again = score(asked, completions, tmp_path)
        assert again.facts["programs_run"] == 1
        assert again.entries == first.entries
        assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.parametrize("seen", [1, 7])
@pytest.mark.slow
def test_a_killed_scoring_goes_on_where_it_was(tmp_path, seen):
    asked, completions = many(10)
    script = Path(code_cases.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        for _ in range(seen):
            assert process.stdout.readline() == b"outcome\n"
        process.send_signal(signal.SIGKILL)
    file = tmp_path / "outcomes.jsonl"
    kept = [json.loads(line)["key"] for line in file.read_bytes().split(b"\n")[:-1]]
    assert seen <= len(kept) < 20
    scored = score(asked, completions, tmp_path)
    assert scored.facts["programs_run"] == 20 - len(kept)
    keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    assert keys[: len(kept)] == kept
    assert len(set(keys)) == len(keys) == 20
    assert scored.entries["adding_pass1"]["value"] == 0.5
    assert scored.facts["outcomes"] == {"passed": 10, "failed": 10}


def test_a_sandbox_error_is_no_outcome(tmp_path, monkeypatch):
    asked, completions = many(2)

    def breaks(jobs, *arguments):
        yield next(iter(jobs)), code.Result("passed")
        raise SandboxError("it broke")

    with monkeypatch.context() as patched:
        patched.setattr(code, "run_all", breaks)
        with pytest.raises(SandboxError, match="it broke"):
            score(asked, completions, tmp_path)
    assert len((tmp_path / "outcomes.jsonl").read_text().splitlines()) == 1
    assert score(asked, completions, tmp_path).facts["programs_run"] == 3


def test_too_few_samples_for_k(tmp_path):
    asked, completions = many(2)
    with pytest.raises(
        ValueError, match=r"adding_pass2 is pass@2, but adding 'a1' has 1 completions; draw 2"
    ):
        score(asked, [completions[0], [WRONG]], tmp_path)
    assert not (tmp_path / "outcomes.jsonl").exists()


def test_a_problem_that_cannot_be_run_is_named(tmp_path):
    asked, completions = many(2)
    del asked[1].record["test"]
    with pytest.raises(ValueError, match=r"adding 'a1': no 'test'"):
        score(asked, completions, tmp_path)
    asked[1].record["test"] = "def check(candidate): pass\n"
    with pytest.raises(ValueError, match=r"adding 'a1': its test never calls the function"):
        score(asked, completions, tmp_path)


def test_without_a_sandbox_nothing_is_run(tmp_path, monkeypatch):
    asked, completions = many(2)
    monkeypatch.setattr("diablo.scoring.sandbox.choice.problem_of", lambda kind: "not here")
    with pytest.raises(ValueError, match="unsafe_execution: true"):
        score(asked, completions, tmp_path)
    scored = score(asked, completions, tmp_path, unsafe_execution=True)
    assert scored.facts["sandbox"] == "none (unsafe_execution)"
    assert scored.facts["outcomes"] == {"passed": 2, "failed": 2}
