"""Ending a completion at its answer: never where the answer could still change, and said so."""

from __future__ import annotations

import dataclasses
import random

import pytest
from generation_cases import TASKS

from diablo.data.protocol import Decoding, load_protocol
from diablo.generation import generate
from diablo.generation.answers import StopAtAnswer, final, finished, steady, text_of
from diablo.generation.transformers_engine import TransformersEngine
from diablo.io import read_json, read_jsonl


@pytest.fixture
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def fallback_tokenizer():
    """A vocabulary of words and single bytes, decoded as Llama's tokenizer decodes."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    words = ["<eos>", "▁true", "true", "▁fal", "se", "▁the", "un", "é", "▁"]
    vocab = {token: i for i, token in enumerate([*words, *(f"<0x{b:02X}>" for b in range(256))])}
    tokenizer = Tokenizer(models.BPE(vocab, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.mark.parametrize(
    ("labels", "stops", "safe"),
    [
        (["true", "false"], [], True),
        (["answer1", "answer2"], ["\n\n", "###"], True),
        (["answer1", "answer10"], [], False),  # "answer1" may grow to another label
        (["rue", "true"], [], False),
        (["solution 1"], [], False),
        (["à"], [], False),
        (["true"], ["e\n"], False),  # the stop would cut the label's end
        (["true"], ["is true."], False),
        (["true"], ["true"], True),  # found with the label, and cut at once
    ],
)
def test_which_labels_are_final(labels, stops, safe):
    assert final(labels, stops) is safe


def test_every_task_of_the_protocols_is_decided_as_its_extraction_says(tokenizer):
    for variant, safe in (("paper", True), ("peer", True), ("released", False)):
        protocol = load_protocol("commonsense", variant)
        stop = StopAtAnswer.of(tokenizer, Decoding(), protocol, protocol.labels)
        assert (stop is not None) is safe
    paper = load_protocol("commonsense", "paper")
    assert StopAtAnswer.of(tokenizer, Decoding(num_beams=4), paper, TASKS) is None
    assert StopAtAnswer.of(tokenizer, Decoding(stop=("true!",)), paper, TASKS) is None
    assert StopAtAnswer.of(tokenizer, Decoding(stop=("true!",)), paper, ["piqa"]) is not None


@pytest.mark.parametrize("suite", ["glue", "glue_qnli", "humaneval", "hexphi", "mtbench"])
def test_labels_at_the_start_and_whole_texts_are_never_final(tokenizer, suite):
    """More letters can undo "entailment" at the start ("entailments"), and any whole text."""
    protocol = load_protocol(suite, "paper")
    assert StopAtAnswer.of(tokenizer, Decoding(), protocol, protocol.tasks) is None


def test_only_known_decoders_are_steady(tokenizer, fallback_tokenizer):
    from tokenizers import decoders

    assert steady(tokenizer)
    assert steady(fallback_tokenizer)
    for decoder in (decoders.WordPiece(), decoders.Replace("t", "x"), decoders.Strip(" ", 0, 1)):
        changed = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
        changed.backend_tokenizer.decoder = decoder
        assert not steady(changed)
    assert not steady(object())


@pytest.mark.parametrize("name", ["tokenizer", "fallback_tokenizer"])
@pytest.mark.parametrize("stops", [(), ("\n", "the")])
def test_nothing_that_follows_changes_the_answer(request, name, stops):
    """Random ids, rich in labels: wherever a row may end, the whole text has the same answer."""
    tokenizer = request.getfixturevalue(name)
    protocol, decoding = load_protocol("commonsense", "paper"), Decoding(stop=stops)
    stop = StopAtAnswer.of(tokenizer, decoding, protocol, ["boolq"])
    if name == "tokenizer":
        pieces = [tokenizer(text).input_ids for text in ("true", "false", " the", "é", "un", "\n")]
    else:
        words = (["▁true"], ["▁fal", "se"], ["▁the"], ["é"], ["un"], ["<0x0A>"], ["▁fal", "<0x73>"])
        pieces = [tokenizer.convert_tokens_to_ids(each) for each in words]
    draw, ended = random.Random(0), 0
    for _ in range(400):
        ids: list[int] = []
        while len(ids) < 12:
            any_id = [draw.randrange(len(tokenizer))]
            ids += draw.choice(pieces) if draw.random() < 0.7 else any_id
        whole = text_of(tokenizer, ids, decoding)
        for size in range(1, len(ids)):
            if stop(ids[:size], protocol.labels["boolq"]):
                early = text_of(tokenizer, ids[:size], decoding)
                assert protocol.extract("boolq", "", early) == protocol.extract("boolq", "", whole)
                assert protocol.extract("boolq", "", early) is not None
                ended += 1
    assert ended > 100


def test_a_label_with_a_byte_token_is_not_final(fallback_tokenizer):
    """One byte more can make the whole run unreadable, and the label with it."""
    protocol = load_protocol("commonsense", "paper")
    stop = StopAtAnswer.of(fallback_tokenizer, Decoding(), protocol, ["boolq"])
    ids = fallback_tokenizer.convert_tokens_to_ids(["▁fal", "<0x73>", "<0x65>", "<0xE2>"])
    texts = [text_of(fallback_tokenizer, ids[:size], Decoding()) for size in (3, 4)]
    assert "false" in texts[0]
    assert "false" not in texts[1]
    assert not stop(ids[:3], protocol.labels["boolq"])
    assert stop(fallback_tokenizer.convert_tokens_to_ids(["▁fal", "se"]), ["true", "false"])


def test_why_a_completion_ended(tokenizer):
    ids = tokenizer("one###two").input_ids
    assert finished(tokenizer, ids, Decoding(stop=("###",))) == ("one", "stop")
    assert finished(tokenizer, ids, Decoding()) == ("one###two", "eos")
    assert finished(tokenizer, ids, Decoding(max_new_tokens=len(ids))) == ("one###two", "length")
    assert finished(tokenizer, ids, Decoding(), at_answer=True) == ("one###two", "answer")


@pytest.fixture
def run_with_labels(make_run, make_suite, tmp_path, monkeypatch):
    """Generate with labels that the tiny model really says; returns rows and provenance."""

    def run(labels, out, **options):
        protocol = load_protocol("commonsense", "paper")
        changed = dataclasses.replace(protocol, labels=dict.fromkeys(TASKS, labels))
        monkeypatch.setattr("diablo.generation.run.protocol_of", lambda *_: changed)
        spec, folder = make_run()
        options = {"backend": "transformers", "threads": 1, **options}
        suite = make_suite(**options.pop("suite", {}))
        generate(spec, suite, folder, tmp_path / out, tmp_path / "work", **options)
        made = read_json((tmp_path / out).with_suffix(".provenance.json"))
        return changed, read_jsonl(tmp_path / out), made

    return run


def said(texts):
    """Two pairs of letters that some, not all, of the texts have in their middle."""
    pairs: dict[str, int] = {}
    for text in texts:
        for pair in {text[i : i + 2] for i in range(1, len(text) - 4)}:
            if pair.isascii() and pair.isalnum():
                pairs[pair] = pairs.get(pair, 0) + 1
    return tuple(sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:2])


def test_rows_end_at_their_answer_and_say_so(run_with_labels, capsys):
    _, rows, _ = run_with_labels(("true", "false"), "any.jsonl")
    labels = said([row["completions"][0] for row in rows])
    _, whole, made_whole = run_with_labels(labels, "whole.jsonl", stop_at_answer=False)
    protocol, early, made = run_with_labels(labels, "early.jsonl", batch_size=5)
    assert (made_whole["stop_at_answer"], made["stop_at_answer"]) == (False, True)
    shorter = 0
    for one, other in zip(whole, early, strict=True):
        full, cut = one["completions"][0], other["completions"][0]
        answer = protocol.extract(one["task"], "", full)
        assert protocol.extract(one["task"], "", cut) == answer
        assert full.startswith(cut)
        assert one["finish"][0] in ("eos", "length")
        assert other["finish"] == (["answer"] if answer else one["finish"])
        assert answer or cut == full
        shorter += cut != full
    reasons = [row["finish"][0] for row in early]
    assert shorter > 2
    assert {"answer", "length"} <= set(reasons)
    assert made["finish"] == {why: reasons.count(why) for why in sorted(set(reasons))}
    assert made["generated_tokens"] < made_whole["generated_tokens"]
    # Which prompts share a batch changes nothing.
    assert run_with_labels(labels, "again.jsonl", batch_size=1)[1] == early
    assert f"21 prompts, {made['generated_tokens']} tokens generated in " in capsys.readouterr().out


def test_beams_run_to_their_end(run_with_labels):
    _, rows, made = run_with_labels(("e", "a"), "beams.jsonl", suite={"num_beams": 2})
    assert made["stop_at_answer"] is False
    assert {row["finish"][0] for row in rows} <= {"eos", "length"}


def test_batch_ends_with_its_last_row(tiny_model, tokenizer, monkeypatch):
    """No forward pass is spent on rows that are all over."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    engine, decoding = TransformersEngine(model, tokenizer, [296]), Decoding(max_new_tokens=12)
    prompts = [[5, 6, 7, 8], [5, 6, 9], [40, 41, 42]]
    sizes = [1, 4, 2]
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    free = engine.complete(prompts, decoding)
    assert len(calls) == 12
    calls.clear()
    ended = engine.complete(prompts, decoding, lambda row, new: len(new) >= sizes[row])
    assert len(calls) == 4
    assert ended == [[row[:size]] for (row,), size in zip(free, sizes, strict=True)]

    with pytest.raises(ValueError, match="greedy decoding only"):
        engine.complete(prompts, Decoding(num_beams=2), lambda row, new: True)


def test_speed_counts_this_job_alone(run_with_labels, tmp_path):
    _, rows, made = run_with_labels(("true", "false"), "speed.jsonl")
    assert made["generated_tokens"] > len(rows)
    assert made["generating_seconds"] > 0
    for key, count in (
        ("prompts_per_second", len(rows)),
        ("generated_tokens_per_second", made["generated_tokens"]),
    ):
        assert made[key] == pytest.approx(count / made["generating_seconds"], rel=0.05)


def test_text_is_cut_at_the_first_stop(tokenizer):
    ids = tokenizer("one\n\ntwo###three").input_ids
    assert text_of(tokenizer, ids, Decoding(stop=("###", "\n\n"))) == "one"
    assert text_of(tokenizer, ids, Decoding()) == "one\n\ntwo###three"
