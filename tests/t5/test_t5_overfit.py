"""Every method learns 32 examples by heart, and its saved, loaded and merged model says them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from t5_cases import METHOD_SETTINGS, make_records, make_suite

from diablo.generation import generate
from diablo.io import read_jsonl
from diablo.methods import METHODS
from diablo.quantization.run import load_float

#: `zero-shot` and `retained` train nothing, and LoftQ needs a quantised base: encoder-decoders are not quantised.
LEFT_OUT = {"zero-shot", "loftq", "retained"}

LONG = {"epochs": 120.0, "batch_size": 32, "micro_batch_size": 32, "warmup_steps": 10}


def check(run, tiny_t5, tmp_path):
    assert run.log[0]["loss"] > 3
    assert run.log[-1]["loss"] < 0.1
    assert run.facts["acceleration"] == {
        "packing": False, "kernels": False, "graphs": False, "bucket": 1,
    }  # fmt: skip
    out = tmp_path / "out.jsonl"
    suite = make_suite(tiny_t5)
    generate(run.spec, suite, run.folder, out, tmp_path / "generating", backend="transformers")
    said = {(row["task"], row["id"]): row["completions"] for row in read_jsonl(out)}
    assert said == {(r["task"], r["id"]): [r["output"]] for r in make_records()}


def test_every_method_that_applies_has_a_case():
    assert set(METHOD_SETTINGS) | LEFT_OUT == set(METHODS)


def test_encoder_decoders_are_not_quantised(tiny_t5):
    spec = SimpleNamespace(name="t5-w4", model_path=str(tiny_t5 / "model"), precision="fp32")
    with pytest.raises(ValueError, match=r"t5-w4: .*model is an encoder-decoder"):
        load_float(spec)


@pytest.mark.slow
def test_diablo_learns_by_heart(finetuned, tiny_t5, tmp_path):
    check(finetuned(**LONG), tiny_t5, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHOD_SETTINGS if name != "diablo"])
def test_every_method_learns_by_heart(method, finetuned, tiny_t5, tmp_path):
    settings = {"method": method, **LONG}
    if method == "lori-s":
        dense = finetuned("dense", **{**settings, "method": "lori-d"})
        settings["mask_adapter"] = str(dense.folder / "adapter")
    check(finetuned(**settings), tiny_t5, tmp_path)
