"""Answer losses of tasks that need no gold answer: there where the data set has one, absent where not."""

from __future__ import annotations

import pytest

from diablo.io import write_json
from diablo.tables.losses import read_losses

WANTED = {"run": "r", "suite": "hexphi", "variant": "paper"}


def loss_file(folder, *tasks):
    example = {"id": "a", "nll": 2.0, "tokens": 4}
    entry = {"n": 1, "tokens": 4, "value": 0.5, "examples": [example]}
    content = {**WANTED, "provenance": {"verb": "measure"}, "tasks": dict.fromkeys(tasks, entry)}
    path = folder / "losses.json"
    write_json(path, content)
    return path


def test_a_task_without_gold_answers_may_be_absent(tmp_path):
    shown = {"hexphi": ({"a"}, False), "harmless": ({"b"}, False)}
    assert list(read_losses(loss_file(tmp_path, "hexphi"), WANTED, shown).examples) == ["hexphi"]


def test_a_task_with_gold_answers_may_not(tmp_path):
    shown = {"hexphi": ({"a"}, True), "harmless": ({"b"}, True)}
    with pytest.raises(ValueError, match=r"losses\.json: task harmless is missing"):
        read_losses(loss_file(tmp_path, "hexphi"), WANTED, shown)
