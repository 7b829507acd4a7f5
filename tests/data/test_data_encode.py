"""Tokens and labels by the protocol, with small tokenizers of our own."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diablo.data.encode import IGNORE, encode_answer, encode_example, encode_prompt, has_labels
from diablo.data.protocol import load_protocol

BOS, EOS = 1, 2
PAPER = load_protocol("commonsense", "paper")
RELEASED = load_protocol("commonsense", "released")
PEER = load_protocol("commonsense", "peer")
RECORD = {"instruction": "is 4 even?", "output": "the correct answer is true"}


class Letters:
    """One token a character but for "  " (two spaces) and " t", which are one token each."""

    eos_token_id = EOS

    def __init__(self, bos: bool = False, eos: bool = False):
        self.bos, self.eos = bos, eos

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids, at = [], 0
        while at < len(text):
            step = 2 if text[at : at + 2] in ("  ", " t") else 1
            ids.append(sum(ord(c) << (8 * i) for i, c in enumerate(text[at : at + step])))
            at += step
        if add_special_tokens:
            ids = [BOS] * self.bos + ids + [EOS] * self.eos
        return {"input_ids": ids}


def test_every_task_has_the_size_of_the_papers_test_set():
    for protocol in (PAPER, RELEASED, PEER):
        assert set(protocol.test_sizes) == set(protocol.labels)
    assert sum(PAPER.test_sizes.values()) == 22_419


TOKENIZERS = [Letters(), Letters(bos=True), Letters(bos=True, eos=True)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_separate_masks_the_prompt_and_learns_the_response_and_eos(tokenizer):
    made = encode_example(tokenizer, PAPER, RECORD, 10_000)
    response = tokenizer(RECORD["output"], add_special_tokens=False)["input_ids"]
    start = len(made["input_ids"]) - len(response) - 1
    assert made["labels"] == [IGNORE] * start + [*response, EOS]
    assert made["input_ids"][start:] == [*response, EOS]
    assert made["input_ids"].count(BOS) == tokenizer.bos
    assert made["input_ids"].count(EOS) == 1


text = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=60)


@given(instruction=text, output=text, tokenizer=st.sampled_from(TOKENIZERS))
def test_equal_frames_give_equal_prompts_in_training_and_evaluation(instruction, output, tokenizer):
    record = {"instruction": instruction, "output": output}
    assert PAPER.train_prompt == PAPER.eval_prompt
    assert PAPER.tokenize == "separate"
    prompt = encode_prompt(tokenizer, PAPER, record)
    made = encode_example(tokenizer, PAPER, record, 10_000)
    assert made["input_ids"][: len(prompt)] == prompt
    assert made["labels"][: len(prompt)] == [IGNORE] * len(prompt)
    assert made["labels"][len(prompt) :] == made["input_ids"][len(prompt) :]


def test_joint_takes_the_prompt_s_length_from_the_prompt_alone():
    tokenizer = Letters(bos=True)
    made = encode_example(tokenizer, RELEASED, RECORD, 10_000)
    prompt, response = RELEASED.prompt_for_training(RECORD), RECORD["output"]
    whole = tokenizer(prompt + response)["input_ids"]
    assert made["input_ids"] == [*whole, EOS]
    masked = len(tokenizer(prompt)["input_ids"])
    assert made["labels"] == [IGNORE] * masked + [*whole, EOS][masked:]


def test_joint_and_separate_differ_where_a_token_spans_the_border():
    odd = dataclasses.replace(RELEASED, train_prompt="{instruction} ")
    joint = encode_example(Letters(), odd, RECORD, 10_000)
    apart = encode_example(Letters(), dataclasses.replace(odd, tokenize="separate"), RECORD, 10_000)
    assert len(joint["input_ids"]) == len(apart["input_ids"]) - 1


def test_peer_learns_the_prompt_too():
    made = encode_example(Letters(bos=True), PEER, RECORD, 10_000)
    assert made["labels"] == made["input_ids"]


@given(max_length=st.integers(1, 400), variant=st.sampled_from([PAPER, RELEASED, PEER]))
def test_truncation_is_on_the_right_and_eos_only_if_there_is_room(max_length, variant):
    tokenizer = Letters(bos=True)
    whole = encode_example(tokenizer, variant, RECORD, 10_000)
    made = encode_example(tokenizer, variant, RECORD, max_length)
    assert made["input_ids"] == whole["input_ids"][:max_length]
    assert made["labels"] == whole["labels"][:max_length]
    assert (made["input_ids"][-1] == EOS) == (max_length >= len(whole["input_ids"]))


def test_example_without_labels_is_recognised():
    prompt = len(encode_prompt(Letters(), PAPER, RECORD))
    assert not has_labels(encode_example(Letters(), PAPER, RECORD, prompt))
    assert has_labels(encode_example(Letters(), PAPER, RECORD, prompt + 1))


@pytest.mark.parametrize("variant", [PAPER, RELEASED, PEER])
@pytest.mark.parametrize("tokenizer", [Letters(), Letters(eos=True), Letters(bos=True, eos=True)])
def test_an_encoder_decoder_has_prompt_and_response_apart(tokenizer, variant):
    """However the two would share a sequence: the encoder's text as the tokenizer ends it, no mask."""
    made = encode_example(tokenizer, variant, RECORD, 10_000, encoder_decoder=True)
    assert made["input_ids"] == tokenizer(variant.prompt_for_training(RECORD))["input_ids"]
    assert made["input_ids"].count(EOS) == tokenizer.eos
    response = tokenizer(variant.target(RECORD), add_special_tokens=False)["input_ids"]
    assert made["labels"] == [*response, EOS]
    prompt, answer = encode_answer(tokenizer, variant, RECORD, encoder_decoder=True)
    assert prompt == tokenizer(variant.prompt_for_evaluation(RECORD))["input_ids"]
    assert prompt == encode_prompt(tokenizer, variant, RECORD, encoder_decoder=True)
    assert answer == response
    plain = dataclasses.replace(variant, append_eos=False)
    assert encode_example(tokenizer, plain, RECORD, 10_000, True)["labels"] == response


@given(max_length=st.integers(1, 400), eos=st.booleans())
def test_an_encoder_keeps_its_end_when_it_is_cut(max_length, eos):
    tokenizer = Letters(eos=eos)
    whole = encode_example(tokenizer, PAPER, RECORD, 10_000, encoder_decoder=True)
    made = encode_example(tokenizer, PAPER, RECORD, max_length, encoder_decoder=True)
    ids, labels = made["input_ids"], made["labels"]
    assert len(ids) == min(max_length, len(whole["input_ids"]))
    assert ids[: len(ids) - eos] == whole["input_ids"][: len(ids) - eos]
    assert (ids[-1] == EOS) is eos
    assert labels == whole["labels"][:max_length]
    assert has_labels(made, encoder_decoder=True)


def test_an_encoder_decoder_without_special_tokens_has_none_in_its_encoder():
    bare = dataclasses.replace(PAPER, special_tokens=False)
    made = encode_example(Letters(bos=True, eos=True), bare, RECORD, 10_000, encoder_decoder=True)
    assert not {BOS, EOS} & set(made["input_ids"])
    assert made["labels"][-1] == EOS


def test_the_first_label_of_a_decoder_counts():
    only = {"labels": [7]}
    assert has_labels(only, encoder_decoder=True)
    assert not has_labels(only)
    assert not has_labels({"labels": []}, encoder_decoder=True)


def test_no_eos_if_the_protocol_says_so():
    plain = dataclasses.replace(PAPER, append_eos=False)
    assert EOS not in encode_example(Letters(), plain, RECORD, 10_000)["input_ids"]


def test_unknown_tokenize_is_refused():
    odd = dataclasses.replace(PAPER, tokenize="jointly")
    with pytest.raises(ValueError, match="did you mean 'joint'"):
        encode_example(Letters(), odd, RECORD, 10)


@pytest.mark.slow
def test_real_tokenizer_keeps_the_border_of_every_variant(smollm2):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    made = encode_example(tokenizer, PAPER, RECORD, 256)
    prompt = encode_prompt(tokenizer, PAPER, RECORD)
    assert made["input_ids"][: len(prompt)] == prompt
    learnt = [token for token in made["labels"] if token != IGNORE]
    assert tokenizer.decode(learnt[:-1]) == RECORD["output"]
    assert learnt[-1] == tokenizer.eos_token_id
