"""What is trained on: the subset, its tokens, and how a batch is padded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Label of a token without loss.
IGNORE = -100

#: A maximal length that cuts nothing.
UNLIMITED = 1 << 30

#: Labels of a bucketed micro batch are filled up to a multiple of this.
LABEL_BUCKET = 128

_FIRST = torch.tensor([0])

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


def split(records: Sequence[dict], held_out: int, seed: int) -> tuple[list[dict], list[dict]]:
    """(training, held out): `held_out` records are left out, of every task its share.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if held_out >= len(records):
        raise ValueError(
            f"held_out = {held_out} leaves nothing of {len(records)} training examples; lower it"
        )
    if not held_out:
        return list(records), []
    left_out = select(records, held_out, seed)
    ids = {(record["task"], record["id"]) for record in left_out}
    return [record for record in records if (record["task"], record["id"]) not in ids], left_out


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

    @property
    def mean_tokens(self) -> float:
        """Tokens of an example's `input_ids`, on average."""
        return sum(len(e["input_ids"]) for e in self.examples) / len(self.examples)


def encode(
    tokenizer: Any,
    protocol: Any,
    records: Sequence[dict],
    max_length: int,
    encoder_decoder: bool = False,
) -> Encoded:
    """Encode records by the protocol: `input_ids` and `labels`, both of shape (tokens,).

    For an encoder-decoder these are the encoder's tokens and the decoder's, of different numbers. An
    example whose labels are all cut away teaches nothing; it is dropped and counted.

    Raises:
        ValueError: if no example has a label left.
    """
    from diablo.data.encode import encode_example, has_labels

    examples, truncated, dropped = [], 0, 0
    for record in records:
        encoded = encode_example(tokenizer, protocol, record, max_length, encoder_decoder)
        if max(map(len, encoded.values())) >= max_length:
            whole = encode_example(tokenizer, protocol, record, UNLIMITED, encoder_decoder)
            truncated += max(map(len, whole.values())) > max_length
        if has_labels(encoded, encoder_decoder):
            examples.append({key: torch.tensor(encoded[key]) for key in ("input_ids", "labels")})
        else:
            dropped += 1
    if not examples:
        raise ValueError(
            f"none of {len(records)} training examples has a token to learn within max_length = "
            f"{max_length}; raise max_length"
        )
    return Encoded(examples, truncated, dropped)


def collate(
    examples: Sequence[Example],
    micro_batch_size: int,
    pad: int,
    packed: bool = False,
    bucket: int = 1,
    longest: int | None = None,
    encoder_decoder: bool = False,
) -> dict[str, Any]:
    """The batch of one optimiser step, split into micro batches.

    Padded micro batches hold examples of like length, each padded on the right to its longest example. A
    causal model needs no attention mask then: nothing that counts comes after the padding. Packed ones
    hold their examples end to end in one row, long ones with short ones, so that all cost the same. For
    an encoder-decoder both its texts are padded, and the encoder is given a mask.

    Args:
        packed: for models of `diablo.training.packing`.
        bucket: packed rows are filled up to a multiple of so many tokens, and labels to a multiple of
            :data:`LABEL_BUCKET`, so that few shapes occur (1: not at all).
        longest: no example is longer; None if unknown.

    Returns:
        `micro_batches`, each with `positions` and `targets` (labels,) as `summed_loss` takes them and
        `inputs`, the model's arguments; and the numbers of `examples`, `tokens` (padding not counted),
        `computed` (padding counted) and `targets` (tokens with a loss).
    """
    ordered = sorted(examples, key=lambda example: len(example["input_ids"]), reverse=True)
    if packed:
        count = -(-len(ordered) // micro_batch_size)
        # Dealt out like cards, there and back, which balances the tokens of the rows.
        turns = [list(range(count)), list(range(count))[::-1]]
        dealt: list[list[Example]] = [[] for _ in range(count)]
        for index, example in enumerate(ordered):
            dealt[turns[index // count % 2][index % count]].append(example)
        micro_batches = [_packed(group, pad, bucket, micro_batch_size, longest) for group in dealt]
    else:
        starts = range(0, len(ordered), micro_batch_size)
        padded = padded_pairs if encoder_decoder else padded_rows
        micro_batches = [padded(ordered[s : s + micro_batch_size], pad) for s in starts]
    texts = ("input_ids", "labels") if encoder_decoder else ("input_ids",)
    return {
        "micro_batches": micro_batches,
        "examples": len(examples),
        "tokens": sum(len(example[text]) for example in examples for text in texts),
        "computed": sum(b["inputs"][text].numel() for b in micro_batches for text in texts),
        "targets": sum(int((batch["targets"] != IGNORE).sum()) for batch in micro_batches),
    }


def padded_rows(group: list[Example], pad: int) -> dict[str, Any]:
    """A micro batch of a causal model: `positions`, `targets` and `inputs`, see `collate`."""
    input_ids = _padded([example["input_ids"] for example in group], pad)
    labels = _padded([example["labels"] for example in group], IGNORE)
    return {**labelled(labels), "inputs": {"input_ids": input_ids}}


def padded_pairs(group: list[Example], pad: int) -> dict[str, Any]:
    """The same of an encoder-decoder: a position predicts the label that stands there."""
    texts = [example["input_ids"] for example in group]
    labels = _padded([example["labels"] for example in group], IGNORE)
    places = (labels != IGNORE).flatten().nonzero().squeeze(1)
    inputs = {
        "input_ids": _padded(texts, pad),
        "attention_mask": _padded([torch.ones_like(text) for text in texts], 0),
        "labels": labels,
    }
    return {"positions": places, "targets": labels.flatten()[places], "inputs": inputs}


def _packed(
    group: list[Example], pad: int, bucket: int, sequences: int, longest: int | None
) -> dict[str, Any]:
    from .packing import packed_inputs

    lengths = [len(example["input_ids"]) for example in group]
    input_ids = torch.cat([example["input_ids"] for example in group])
    position_ids = torch.cat([torch.arange(length) for length in lengths])
    # The first token of a sequence must not be predicted from the last one of another.
    labels = torch.cat([example["labels"].index_fill(0, _FIRST, IGNORE) for example in group])
    batch = labelled(labels.unsqueeze(0))
    if bucket > 1:
        filled = -(-len(input_ids) // bucket) * bucket
        missing = filled - len(input_ids)
        input_ids = F.pad(input_ids, (0, missing), value=pad)
        position_ids = torch.cat([position_ids, torch.arange(missing)])
        # Always the same number of sequences: absent ones are empty, the last one is the filling.
        lengths += [0] * (sequences - len(lengths)) + [missing]
        batch = _filled(batch)
    longest = max(longest, bucket) if longest else None
    inputs = packed_inputs(input_ids.unsqueeze(0), position_ids.unsqueeze(0), lengths, longest)
    return {**batch, "inputs": inputs}


def labelled(labels: Tensor) -> dict[str, Tensor]:
    """Where the positions lie, in the flattened rows, whose next token has a label; and the labels."""
    rows, columns = (labels[:, 1:] != IGNORE).nonzero(as_tuple=True)
    return {
        "positions": rows * labels.shape[1] + columns,
        "targets": labels[rows, columns + 1],
    }


def _filled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    missing = -len(batch["targets"]) % LABEL_BUCKET
    return {
        "positions": F.pad(batch["positions"], (0, missing)),
        "targets": F.pad(batch["targets"], (0, missing), value=IGNORE),
    }


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
