"""The subset, the encoding and the batches."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from tiny_run import make_records

import diablo.training.examples as examples


def test_subset_keeps_the_tasks_shares_and_the_order():
    records = make_records(200)
    subset = examples.select(records, 50, seed=1)
    assert Counter(r["task"] for r in subset) == {"boolq": 38, "piqa": 12}
    positions = [records.index(r) for r in subset]
    assert positions == sorted(positions)


def test_subset_depends_on_ids_and_seed_alone():
    records = make_records(200)
    shuffled = random.Random(0).sample(records, len(records))

    def chosen(data, seed):
        return {r["id"] for r in examples.select(data, 50, seed)}

    assert chosen(records, 1) == chosen(shuffled, 1) != chosen(records, 2)


@pytest.mark.parametrize("limit", [None, 20, 1000])
def test_no_limit_takes_all(limit):
    records = make_records(20)
    assert examples.select(records, limit, seed=0) == records


def test_every_limit_is_met_exactly():
    records = make_records(31)
    for limit in range(1, 32):
        assert len(examples.select(records, limit, seed=0)) == limit


def test_encoding_counts_what_was_cut_and_what_was_lost(monkeypatch):
    def encode_example(tokenizer, protocol, record, max_length, encoder_decoder):
        labels = [-100] * record["prompt"] + [7] * record["answer"]
        return {"input_ids": [1] * len(labels[:max_length]), "labels": labels[:max_length]}

    monkeypatch.setattr("diablo.data.encode.encode_example", encode_example)
    records = [
        {"prompt": 4, "answer": 2},
        {"prompt": 8, "answer": 2},  # exactly the maximal length
        {"prompt": 8, "answer": 3},  # loses a part of its answer
        {"prompt": 12, "answer": 3},  # loses all of it
    ]
    encoded = examples.encode(None, None, records, max_length=10)
    assert (len(encoded.examples), encoded.truncated, encoded.dropped) == (3, 2, 1)
    with pytest.raises(ValueError, match=r"none of 1 training examples.*raise max_length"):
        examples.encode(None, None, records[3:], max_length=10)


def example(length, labelled):
    ids = torch.arange(1, length + 1)
    labels = ids.clone()
    labels[: length - labelled] = -100
    return {"input_ids": ids, "labels": labels}


def test_batch_is_padded_to_its_micro_batches_longest():
    batch = examples.collate([example(n, 2) for n in (3, 9, 5, 8, 4)], micro_batch_size=2, pad=0)
    rows = [m["inputs"]["input_ids"] for m in batch["micro_batches"]]
    assert [row.shape for row in rows] == [(2, 9), (2, 5), (1, 3)]
    assert (batch["examples"], batch["tokens"], batch["targets"]) == (5, 29, 10)
    assert batch["computed"] == 18 + 10 + 3
    assert rows[1][1].tolist() == [1, 2, 3, 4, 0]
    second = batch["micro_batches"][1]
    # Position 2 and 3 of the first row predict 4 and 5; 1 and 2 of the second row (from 5 on) 3 and 4.
    assert second["positions"].tolist() == [2, 3, 6, 7]
    assert second["targets"].tolist() == [4, 5, 3, 4]


def test_first_token_of_a_row_is_no_target():
    assert examples.collate([example(3, 3)], micro_batch_size=1, pad=0)["targets"] == 2
