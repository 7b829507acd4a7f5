"""Decoding, answer loss and serving of an encoder-decoder."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from t5_cases import LABELS, build, make_records, make_suite

from diablo.analysis.serving import check_serving
from diablo.data.decoding import Decoding
from diablo.data.protocol import protocol_of
from diablo.generation import generate
from diablo.generation.draws import draw, prompt_seed
from diablo.generation.engines import choose_backend, merged_folder
from diablo.generation.transformers_engine import TransformersEngine
from diablo.io import read_json, read_jsonl
from diablo.methods import load_for_inference
from diablo.methods.base import load_base
from diablo.scoring.answer_loss import measure_suite


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """A T5 whose random weights are large enough for different answers to different texts."""
    return build(tmp_path_factory.mktemp("lively"), initializer_factor=2.0)


@pytest.fixture
def model(lively):
    return load_base(str(lively / "model"), "cpu", torch.float32).eval()


@pytest.fixture
def prompts(lively):
    """The encoder's texts of the first ten records: EOS and no padding."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(lively / "model")
    ids = [tokenizer(r["instruction"] + "\nresult: ").input_ids for r in make_records()[:10]]
    assert all(row[-1] == 1 and row.count(1) == 1 for row in ids)
    assert len({len(row) for row in ids}) > 2
    return tokenizer, ids


@pytest.fixture
def said(finetuned, lively, tmp_path):
    """Generate with the untouched lively T5; keywords change the decoding."""

    def run(out="out.jsonl", options=None, **decoding):
        zero = finetuned("zero", on=lively, method="diablo", max_steps=1, lr=0.0, warmup_steps=0)
        suite = make_suite(lively, decoding={"max_new_tokens": 8, **decoding})
        settings = {"backend": "transformers", "threads": 1, **(options or {})}
        generate(zero.spec, suite, zero.folder, tmp_path / out, tmp_path / "generating", **settings)
        return read_jsonl(tmp_path / out)

    return run


@pytest.mark.parametrize("num_beams", [1, 3])
def test_equals_one_text_at_a_time(num_beams, model, prompts):
    tokenizer, ids = prompts
    engine = TransformersEngine(model, tokenizer, [1])
    decoding = Decoding(num_beams=num_beams, max_new_tokens=8)
    expected = []
    for row in ids:
        out = model.generate(
            torch.tensor([row]), num_beams=num_beams, max_new_tokens=8, do_sample=False
        )
        new = out[0, 1:].tolist()  # after the decoder's start
        expected.append([new[: new.index(1)] if 1 in new else new])
    assert engine.complete(ids, decoding) == expected
    assert engine.complete(ids[3:5], decoding) == expected[3:5]
    assert len({tuple(new) for (new,) in expected}) >= 5


def test_samples_of_an_encoder_decoder(model, prompts):
    """One sample after the other, by the model's own forward pass."""
    tokenizer, ids = prompts
    decoding = Decoding(temperature=0.9, top_p=0.8, samples=3, seed=2, max_new_tokens=6)
    expected = []
    for row in ids:
        generator = torch.Generator().manual_seed(prompt_seed(2, row))
        numbers = torch.rand(3, 6, generator=generator).double()
        samples = []
        for own in numbers:
            new = [0]
            while len(new) <= 6:
                with torch.inference_mode():
                    logits = model(
                        input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([new])
                    ).logits[:, -1]
                token = draw(logits / 0.9, 0.8, own[len(new) - 1 : len(new)]).item()
                if token == 1:
                    break
                new.append(token)
            samples.append(new[1:])
        expected.append(samples)
    engine = TransformersEngine(model, tokenizer, [1])
    assert engine.complete(ids, decoding) == expected
    assert len({tuple(new) for samples in expected for new in samples}) > 15


def test_generate_writes_every_sample(said, tmp_path):
    rows = said(temperature=1.0, samples=2)
    assert len(rows) == 32
    assert all(len(row["completions"]) == len(row["finish"]) == 2 for row in rows)
    assert rows[0]["prompt"].endswith("\nresult: ")
    again = {row["id"]: row for row in said("again.jsonl", {"batch_size": 5}, temperature=1.0, samples=2)}  # fmt: skip
    assert all(again[row["id"]] == row for row in rows)
    made = read_json(tmp_path / "out.provenance.json")
    assert made["backend"] == "transformers"
    assert made["prompt_tokens"] > 32 * 3


def test_stop_strings_cut(said):
    free = said()
    letters = Counter(letter for row in free for letter in set(row["completions"][0]))
    stop = next(letter for letter, n in letters.most_common() if n < 32)
    for before, after in zip(free, said("cut.jsonl", stop=[stop]), strict=True):
        assert after["completions"] == [before["completions"][0].split(stop)[0]]


def test_vllm_is_refused_and_auto_is_transformers(finetuned, tiny_t5, tmp_path, monkeypatch):
    run = finetuned(max_steps=1)
    work = tmp_path / "generating"
    with pytest.raises(ValueError, match=r"vllm: .*encoder-decoder.*--backend transformers"):
        generate(run.spec, make_suite(tiny_t5), run.folder, tmp_path / "x", work, backend="vllm")
    with pytest.raises(ValueError, match=r"vllm: .*encoder-decoder"):
        check_serving(
            run.spec, make_suite(tiny_t5), run.folder / "serving" / "pairs.json", backend="vllm"
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_backend("auto", encoder_decoder=True) == ("transformers", "cuda")
    assert choose_backend("auto") == ("vllm", "cuda")


@pytest.mark.parametrize("method", ["lora", "diablo", "full"])
@pytest.mark.slow
def test_check_of_serving_finds_one_model_in_every_form(method, finetuned, tiny_t5):
    run = finetuned(method=method)
    out = run.folder / "serving" / "pairs.json"
    report = check_serving(run.spec, make_suite(tiny_t5), out, prompts=8, backend="transformers")
    assert report["status"] == "same"
    forms = {"merged/served"} | ({"adapter/merged", "adapter/served"} if method != "full" else set())  # fmt: skip
    assert set(report["pairs"]) == forms
    for pair in report["pairs"].values():
        assert pair["disagreement"] == 0
        assert pair["max_logprob_difference"] < 1e-4


def test_log_probabilities_are_of_the_first_new_token(model, prompts):
    tokenizer, ids = prompts
    found = TransformersEngine(model, tokenizer, [1]).next_logprobs(ids)
    for row, logprobs in zip(ids, found, strict=True):
        logits = model(input_ids=torch.tensor([row]), decoder_input_ids=torch.tensor([[0]])).logits[
            0, -1
        ]
        torch.testing.assert_close(logprobs, logits.log_softmax(-1), rtol=1e-4, atol=1e-4)


def test_answer_loss_is_the_decoders(finetuned, tiny_t5):
    """Against the model's own mean loss of one answer at a time, without its EOS."""
    from transformers import AutoTokenizer

    run = finetuned(method="lora", epochs=1.0)
    losses = measure_suite(run.spec, make_suite(tiny_t5), run.folder)
    model = load_for_inference(run.spec, run.folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(run.spec.model_path)
    protocol = protocol_of(run.spec)
    assert set(losses["tasks"]) == set(LABELS)
    by_id = {e["id"]: e for task in losses["tasks"].values() for e in task["examples"]}
    assert len(by_id) == 32
    for record in make_records():
        text = tokenizer(protocol.prompt_for_evaluation(record), return_tensors="pt")
        labels = tokenizer(record["output"], add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            loss = model(input_ids=text.input_ids, labels=labels.input_ids).loss.item()
        found = by_id[record["id"]]
        assert found["tokens"] == labels.input_ids.numel()
        assert found["nll"] == pytest.approx(loss * found["tokens"], rel=1e-4)
    assert math.isfinite(losses["value"])


def test_a_merged_folder_is_a_plain_t5(finetuned, tmp_path):
    run = finetuned(method="dora")
    merged = load_for_inference(run.spec, run.folder / "adapter")
    with merged_folder(run.spec, run.folder / "adapter", tmp_path / "merging", "float32") as folder:
        again = load_base(str(folder), "cpu", torch.float32)
    inputs = {"input_ids": torch.arange(3, 12)[None], "labels": torch.arange(3, 6)[None]}
    torch.testing.assert_close(again.eval()(**inputs).logits, merged(**inputs).logits)
    base = load_base(run.spec.model_path, "cpu", torch.float32).eval()
    assert not torch.allclose(base(**inputs).logits, merged(**inputs).logits, atol=1e-3)
