"""What is trained on: the subset, its tokens, and how a batch is padded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Label of a token without loss.
IGNORE = -100

#: A maximal length that cuts nothing.
UNLIMITED = 1 << 30

Example = dict[str, Tensor]


def select(records: Sequence[dict], limit: int | None, seed: int) -> list[dict]:
    """A subset of `limit` records in which every task keeps its share, in the file's order.

    Which records of a task are taken depends on their ids and the seed alone, not on their order.
    """
    if limit is None or limit >= len(records):
        return list(records)
    by_task: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        by_task[record["task"]].append(index)
    chosen: list[int] = []
    for task, quota in _quotas({t: len(i) for t, i in by_task.items()}, limit).items():
        by_task[task].sort(key=lambda index: _draw(seed, records[index]["id"]))
        chosen += by_task[task][:quota]
    return [records[index] for index in sorted(chosen)]


def _quotas(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Split `limit` in proportion to `sizes`: rounded down, the rest to the largest remainders."""
    total = sum(sizes.values())
    quotas = {task: limit * size // total for task, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda task: (-(limit * sizes[task] % total), task))
    for task in by_remainder[: limit - sum(quotas.values())]:
        quotas[task] += 1
    return quotas


def _draw(seed: int, identifier: str) -> str:
    return hashlib.sha256(f"{seed}:{identifier}".encode()).hexdigest()


@dataclass(frozen=True)
class Encoded:
    """Encoded examples, and how many were cut to the maximal length or dropped for lack of a label."""

    examples: list[Example]
    truncated: int
    dropped: int


def encode(tokenizer: Any, protocol: Any, records: Sequence[dict], max_length: int) -> Encoded:
    """Encode records by the protocol: `input_ids` and `labels`, both of shape (tokens,).

    An example whose labels are all cut away teaches nothing; it is dropped and counted.

    Raises:
        ValueError: if no example has a label left.
    """
    from diablo.data.encode import encode_example

    examples, truncated, dropped = [], 0, 0
    for record in records:
        encoded = encode_example(tokenizer, protocol, record, max_length)
        if len(encoded["input_ids"]) >= max_length:
            whole = encode_example(tokenizer, protocol, record, UNLIMITED)
            truncated += len(whole["input_ids"]) > max_length
        example = {key: torch.tensor(encoded[key]) for key in ("input_ids", "labels")}
        if bool((example["labels"][1:] != IGNORE).any()):
            examples.append(example)
        else:
            dropped += 1
    if not examples:
        raise ValueError(
            f"none of {len(records)} training examples has a token to learn within max_length = "
            f"{max_length}; raise max_length"
        )
    return Encoded(examples, truncated, dropped)


def collate(examples: Sequence[Example], micro_batch_size: int, pad: int) -> dict[str, Any]:
    """The batch of one optimiser step, split into micro batches.

    Examples of like length share a micro batch, each padded on the right to its longest example. A
    causal model needs no attention mask then: nothing that counts comes after the padding.

    Returns:
        `micro_batches` (each `input_ids` and `labels` of shape (examples, tokens)), and the numbers
        of `examples`, `tokens` (padding not counted) and `targets` (tokens with a loss).
    """
    ordered = sorted(examples, key=lambda example: len(example["input_ids"]), reverse=True)
    groups = [
        ordered[start : start + micro_batch_size]
        for start in range(0, len(ordered), micro_batch_size)
    ]
    return {
        "micro_batches": [
            {
                "input_ids": _padded([example["input_ids"] for example in group], pad),
                "labels": _padded([example["labels"] for example in group], IGNORE),
            }
            for group in groups
        ],
        "examples": len(examples),
        "tokens": sum(len(example["input_ids"]) for example in examples),
        "targets": sum(int((example["labels"][1:] != IGNORE).sum()) for example in examples),
    }


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
