"""From a record to token ids, for training and for evaluation, by one protocol.

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
    ids = list(tokenizer(text, add_special_tokens=special_tokens)["input_ids"])
    # T5's tokenizer ends every text with EOS; Llama's does not.
    if ids and ids[-1] == tokenizer.eos_token_id and _adds_eos(tokenizer):
        ids.pop()
    return ids


def encode_prompt(tokenizer: Any, protocol: Protocol, record: Mapping[str, Any]) -> list[int]:
    """Token ids of the prompt that the model is given when it is evaluated on `record`."""
    frame, start = protocol.parts_for_evaluation(record)
    if not start or protocol.tokenize == "joint":
        return prompt_ids(tokenizer, frame + start, protocol.special_tokens)
    begun = tokenizer(start, add_special_tokens=False)["input_ids"]
    return prompt_ids(tokenizer, frame, protocol.special_tokens) + list(begun)


def encode_answer(
    tokenizer: Any, protocol: Protocol, record: Mapping[str, Any]
) -> tuple[list[int], list[int]]:
    """Token ids of the evaluation prompt and of the gold answer after it (no EOS, nothing cut)."""
    answer = tokenizer(protocol.target(record), add_special_tokens=False)["input_ids"]
    return encode_prompt(tokenizer, protocol, record), list(answer)


def encode_example(
    tokenizer: Any, protocol: Protocol, record: Mapping[str, Any], max_length: int
) -> dict[str, list[int]]:
    """Token ids and labels of a training example, cut on the right to `max_length` tokens.

    EOS is appended if the protocol says so and there is room for it. Labels are -100 where no loss
    is taken; where truncation leaves a label nowhere (`has_labels` is false), the caller drops the
    example and counts it.

    Returns:
        `input_ids` and `labels`, of equal length, at most `max_length`.
    """
    prompt, response = protocol.prompt_for_training(record), protocol.target(record)
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
    ids = ids[:max_length]
    if protocol.append_eos and len(ids) < max_length and ids[-1:] != [tokenizer.eos_token_id]:
        ids.append(tokenizer.eos_token_id)
    if protocol.mask_suffix:
        start = prompt_ids(tokenizer, prompt + protocol.mask_suffix, protocol.special_tokens)
    masked = min(len(start), len(ids)) if protocol.mask_prompt else 0
    return {"input_ids": ids, "labels": [IGNORE] * masked + ids[masked:]}


def has_labels(encoded: Mapping[str, list[int]]) -> bool:
    """Whether a causal model can learn from the example (its first token is never predicted)."""
    return any(label != IGNORE for label in encoded["labels"][1:])


def _adds_eos(tokenizer: Any) -> bool:
    """Whether the tokenizer itself ends every text with EOS."""
    return tokenizer("")["input_ids"][-1:] == [tokenizer.eos_token_id]
