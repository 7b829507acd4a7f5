"""Tokens from the cache are those that encoding gives, for the same inputs only."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import diablo.training.tokens as tokens
from diablo.io import read_jsonl
from diablo.training.examples import encode, select


@pytest.fixture(scope="module")
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny / "model")


@pytest.fixture
def call(tiny, tokenizer, protocol, tmp_path):
    """`cached_encode` on the tiny data; keywords replace arguments."""

    def run(**changes):
        arguments = {
            "tokenizer": tokenizer,
            "protocol": protocol,
            "data_path": tiny / "data",
            "model_path": tiny / "model",
            "limit": 15,
            "seed": 3,
            "max_length": 60,
            "cache_folder": tmp_path / "tokens",
        }
        return tokens.cached_encode(**{**arguments, **changes})

    return run


@pytest.fixture
def encodings(monkeypatch):
    """Counts the real encodings."""
    calls = []

    def counting(*arguments):
        calls.append(1)
        return encode(*arguments)

    monkeypatch.setattr(tokens, "encode", counting)
    return calls


def same(one, other):
    assert (one.truncated, one.dropped) == (other.truncated, other.dropped)
    assert len(one.examples) == len(other.examples)
    for a, b in zip(one.examples, other.examples, strict=True):
        assert list(a) == list(b)
        for key in a:
            assert a[key].dtype == b[key].dtype
            assert torch.equal(a[key], b[key])


@pytest.mark.parametrize("limit", [None, 15])
def test_cache_gives_what_encoding_gives(tiny, tokenizer, protocol, call, encodings, limit):
    records = select(read_jsonl(tiny / "data" / "train.jsonl"), limit, 3)
    sizes = [len(e["input_ids"]) for e in encode(tokenizer, protocol, records, 9999).examples]
    for cut in (max(sizes), sorted(sizes)[len(sizes) // 2]):
        expected = encode(tokenizer, protocol, records, cut)
        assert (expected.truncated > 0) == (expected.dropped > 0) == (cut < max(sizes))
        encodings.clear()
        same(call(limit=limit, max_length=cut), expected)
        same(call(limit=limit, max_length=cut), expected)
        assert len(encodings) == 1


def test_whatever_counts_is_in_the_key(tiny, protocol, call, encodings, tmp_path, monkeypatch):
    model, data = tmp_path / "model", tmp_path / "data"
    shutil.copytree(tiny / "model", model)
    shutil.copytree(tiny / "data", data)
    call()
    call(model_path=model, data_path=data)  # the same files elsewhere
    (model / "model.safetensors").write_bytes(b"other weights")
    call(model_path=model)
    call(limit=None)
    call(limit=None, seed=4)  # all are taken
    assert len(encodings) == 2

    config = model / "tokenizer_config.json"
    config.write_text(config.read_text() + "\n")
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(lines[::-1]))
    for changes in (
        {"model_path": model},
        {"data_path": data},
        {"limit": 14},
        {"seed": 4},
        {"max_length": 61},
        {"protocol": dataclasses.replace(protocol, mask_prompt=False)},
    ):
        before = len(encodings)
        call(**changes)
        assert len(encodings) == before + 1, changes
    other = tmp_path / "encode.py"
    other.write_text("# another encoder")
    monkeypatch.setattr(tokens, "CODE", (*tokens.CODE[1:], str(other)))
    before = len(encodings)
    call()
    assert len(encodings) == before + 1


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "folder"])
def test_damaged_file_is_made_again(call, encodings, tmp_path, capsys, damage):
    expected = call()
    (path,) = (tmp_path / "tokens").iterdir()
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "other":
        from safetensors.torch import save_file

        save_file({"input_ids": torch.zeros(3)}, path)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"empty": b"", "cut": whole[:-9], "flipped": flipped}[damage])
    same(call(), expected)
    assert len(encodings) == 2
    assert (f"{path}: unreadable" in capsys.readouterr().err) == (damage != "folder")
    same(call(), expected)
    assert len(encodings) == 2


def test_jobs_may_write_at_once(call, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(call) for _ in range(8)]]
    for each in results:
        same(each, results[0])
    assert len(list((tmp_path / "tokens").iterdir())) == 1  # nothing temporary is left


def test_nothing_is_kept_of_data_that_teach_nothing(call, tmp_path):
    with pytest.raises(ValueError, match="raise max_length"):
        call(max_length=2)
    assert not (tmp_path / "tokens").exists()


def test_runs_of_a_scale_share_a_folder():
    shared = Path("results/demo/.work/tokens")
    assert tokens.token_folder("results/demo/.work/a-run/finetune") == shared
    assert tokens.token_folder(Path("results/demo/.work/b-run/finetune")) == shared
    assert tokens.token_folder("somewhere/work") == Path("somewhere/tokens")
