"""From a record to token ids, for training and for evaluation, by one protocol.

A causal model reads prompt and response as one sequence. An encoder-decoder (T5, say) has its prompt in the
encoder, as the tokenizer ends a text, and its response in the decoder: how the two would share a sequence
(`tokenize`, `mask_prompt`, `mask_suffix`, `max_prompt_length`) means nothing there.

This module does not import torch; it needs only a Hugging Face tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diablo.data.protocol import Protocol, unknown

#: The label of a token that has no loss (torch's default `ignore_index`).
IGNORE = -100


def prompt_ids(tokenizer: Any, text: str, special_tokens: bool = True) -> list[int]:
    """Token ids of a framed prompt: special tokens as the tokenizer adds them, but no final EOS.

    Training ("separate") and evaluation both go through here, so equal text gives equal ids.

    Args:
        special_tokens: False for none at all, as protocols without BOS want it.
    """
    ids = encoder_ids(tokenizer, text, special_tokens)
    return ids[: len(ids) - len(_own_eos(tokenizer, ids))]


def encoder_ids(tokenizer: Any, text: str, special_tokens: bool = True) -> list[int]:
    """Token ids of an encoder's whole text: with the EOS that T5's tokenizer ends every text with."""
    return list(tokenizer(text, add_special_tokens=special_tokens)["input_ids"])


def encode_prompt(
    tokenizer: Any, protocol: Protocol, record: Mapping[str, Any], encoder_decoder: bool = False
) -> list[int]:
    """Token ids of the prompt that the model is given when it is evaluated on `record`."""
    frame, start = protocol.parts_for_evaluation(record)
    encode = encoder_ids if encoder_decoder else prompt_ids
    if encoder_decoder or not start or protocol.tokenize == "joint":
        return encode(tokenizer, frame + start, protocol.special_tokens)
    begun = tokenizer(start, add_special_tokens=False)["input_ids"]
    return prompt_ids(tokenizer, frame, protocol.special_tokens) + list(begun)


def encode_answer(
    tokenizer: Any, protocol: Protocol, record: Mapping[str, Any], encoder_decoder: bool = False
) -> tuple[list[int], list[int]]:
    """Token ids of the evaluation prompt and of the gold answer after it (no EOS, nothing cut)."""
    answer = tokenizer(protocol.target(record), add_special_tokens=False)["input_ids"]
    return encode_prompt(tokenizer, protocol, record, encoder_decoder), list(answer)


def encode_example(
    tokenizer: Any,
    protocol: Protocol,
    record: Mapping[str, Any],
    max_length: int,
    encoder_decoder: bool = False,
) -> dict[str, list[int]]:
    """Token ids and labels of a training example, cut on the right to `max_length` tokens.

    EOS is appended if the protocol says so and there is room for it. Labels are -100 where no loss
    is taken; where truncation leaves a label nowhere (`has_labels` is false), the caller drops the
    example and counts it.

    Returns:
        `input_ids` and `labels`, each at most `max_length`. Of a causal model they are equally long; of
        an encoder-decoder `input_ids` are the encoder's and `labels` the response alone, which the
        decoder learns.
    """
    prompt, response = protocol.prompt_for_training(record), protocol.target(record)
    if encoder_decoder:
        return _encode_pair(tokenizer, protocol, prompt, response, max_length)
    start = prompt_ids(tokenizer, prompt, protocol.special_tokens)
    if protocol.tokenize == "separate":
        answer = list(tokenizer(response, add_special_tokens=False)["input_ids"])
        if protocol.max_prompt_length and len(start) + len(answer) >= max_length:
            start = start[: protocol.max_prompt_length]
        ids = start + answer
    elif protocol.tokenize == "joint":
        # As the released code does: a token that spans the border counts as prompt.
        ids = prompt_ids(tokenizer, prompt + response, protocol.special_tokens)
    else:
        raise ValueError(
            unknown("tokenize", protocol.tokenize, ("separate", "joint"), protocol.suite)
        )
    ids = _ended(tokenizer, protocol, ids, max_length)
    if protocol.mask_suffix:
        start = prompt_ids(tokenizer, prompt + protocol.mask_suffix, protocol.special_tokens)
    masked = min(len(start), len(ids)) if protocol.mask_prompt else 0
    return {"input_ids": ids, "labels": [IGNORE] * masked + ids[masked:]}


def has_labels(encoded: Mapping[str, list[int]], encoder_decoder: bool = False) -> bool:
    """Whether a model can learn from the example (a causal one never predicts its first token)."""
    return any(label != IGNORE for label in encoded["labels"][0 if encoder_decoder else 1 :])


def _encode_pair(
    tokenizer: Any, protocol: Protocol, prompt: str, response: str, max_length: int
) -> dict[str, list[int]]:
    """The encoder's text, whose EOS is kept when it is cut, and the decoder's."""
    ids = encoder_ids(tokenizer, prompt, protocol.special_tokens)
    end = _own_eos(tokenizer, ids)
    if len(ids) > max_length:
        ids = ids[: max_length - len(end)] + end
    labels = list(tokenizer(response, add_special_tokens=False)["input_ids"])
    return {"input_ids": ids, "labels": _ended(tokenizer, protocol, labels, max_length)}


def _ended(tokenizer: Any, protocol: Protocol, ids: list[int], max_length: int) -> list[int]:
    """`ids`, cut to `max_length`, with EOS if the protocol says so and there is room."""
    ids = ids[:max_length]
    if protocol.append_eos and len(ids) < max_length and ids[-1:] != [tokenizer.eos_token_id]:
        ids.append(tokenizer.eos_token_id)
    return ids


def _own_eos(tokenizer: Any, ids: list[int]) -> list[int]:
    """The EOS at the end of `ids` if the tokenizer ends every text with it, else nothing."""
    end = [tokenizer.eos_token_id]
    own = ids[-1:] == end and tokenizer("")["input_ids"][-1:] == end
    return end if own else []
