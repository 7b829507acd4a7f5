"""Decoding: what a task and a record have of their own."""

from __future__ import annotations

import dataclasses

import pytest

from diablo.data.decoding import Decoding
from diablo.data.protocol import load_protocol

CHAT = load_protocol("mtbench", "paper").decoding


@pytest.mark.parametrize(
    ("category", "temperature"),
    [
        ("writing", 0.7),
        ("roleplay", 0.7),
        ("stem", 0.1),
        ("humanities", 0.1),
        ("math", 0.0),
        ("coding", 0.0),
        (None, 0.0),
    ],
)
def test_a_record_is_decoded_at_its_category_s_temperature(category, temperature):
    record = {"task": "mtbench"} | ({"category": category} if category else {})
    own = CHAT.of_record(record)
    assert (own.temperature, own.max_new_tokens, own.temperature_by_task) == (temperature, 1024, {})
    assert own.drawn is (temperature > 0)


def test_a_category_wins_over_its_task_and_lengths_go_by_task():
    decoding = Decoding(
        temperature=0.5,
        temperature_by_task={"a": 0.2, "loud": 1.0},
        max_new_tokens_by_task={"a": 7},
    )
    assert decoding.of_record({"task": "a"}) == decoding.of("a")
    loud = decoding.of_record({"task": "a", "category": "loud"})
    assert loud == dataclasses.replace(decoding.of("a"), temperature=1.0)
    assert decoding.of_record({"task": "b", "category": "x"}).temperature == 0.5
