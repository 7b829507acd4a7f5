"""A user's own files: records, refusals, and the size of a model from its config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diablo.data.catalog import Dataset
from diablo.data.local import build_jsonl, model_shapes
from diablo.data.prepare import download_dataset, download_model
from diablo.data.source_kinds import LocalSource
from diablo.io import read_json, read_jsonl, sha256_file
from diablo.planning import user_catalog

QKVOGUD = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def built(folder: Path, train: list[dict | None], test: list[dict], task: str | None = "t") -> dict:
    """The splits of two files; None is an empty line."""
    sources = []
    for split, records in (("train", train), ("test", test)):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(f"{json.dumps(r) if r else ''}\n" for r in records))
        sources.append(LocalSource(kind="local", path=str(path), split=split))
    options = {"prompt": "{q} is", "response": "{answer}", "task": task}
    dataset = Dataset(
        title="d", stand_in=None, builder="jsonl", options=options, sources=sources, licence="own"
    )
    splits, _ = build_jsonl(dataset, {source.path: Path(source.path) for source in sources})
    return splits


def test_records_get_id_task_and_answer_as_texts(tmp_path: Path) -> None:
    train = [{"q": "a", "answer": 3, "more": [1]}, None, {"q": "b", "answer": " x ", "id": 7}]
    splits = built(tmp_path, train, [{"q": "c", "answer": 0.5, "task": "other", "id": "e"}])
    assert splits["train"] == [
        {"id": "train/1", "task": "t", "q": "a", "answer": "3", "more": [1]},
        {"id": "7", "task": "t", "q": "b", "answer": "x"},
    ]
    assert splits["test"] == [{"id": "e", "task": "other", "q": "c", "answer": "0.5"}]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([{"q": "a", "answer": "1"}, {"answer": "1"}], [{"q": "b", "answer": "1"}],
         r"train\.jsonl:2: prompt: unknown field 'q'"),
        ([{"q": "a", "answer": "1"}], [{"q": "b", "answer": "1", "id": 1}, {"q": "c", "answer": "1", "id": "1"}],
         r"test\.jsonl:2: line 1 has the id '1' too"),
        ([{"q": "a", "answer": "1"}, {"q": "b", "answer": "1"}],
         [{"q": "x", "answer": "1"}, {"q": "b", "answer": "2"}, {"q": "a ", "answer": "1"}, {"q": "a", "answer": "1"}],
         r"^2 of 4 test questions occur in the training file too, the first is 'test/2' \('train/2' in training\): remove"),
    ],
)  # fmt: skip
def test_files_that_do_not_do_are_refused(tmp_path: Path, train, test, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(tmp_path, train, test)


def test_equal_ids_of_different_tasks_are_different_records(tmp_path: Path) -> None:
    test = [{"q": "c", "answer": "1", "id": "1", "task": task} for task in "ab"]
    assert len(built(tmp_path, [{"q": "a", "answer": "1", "task": "a"}], test, None)["test"]) == 2


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
        ("mistral", {"num_key_value_heads": 2}),
        ("qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    ],
)
def test_sizes_are_those_of_the_model_itself(tmp_path: Path, family: str, fields: dict) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4,
    }  # fmt: skip
    config = AutoConfig.for_model(family, **{**sizes, **fields})
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").touch()
    shapes = model_shapes(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shapes.base_parameters == sum(p.numel() for p in model.parameters())
    layer = model.model.layers[0]
    linear = {
        name.split(".")[-1]: (module.in_features, module.out_features)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    found = (shapes.hidden, shapes.kv, shapes.ffn, shapes.layers)
    assert found == (*linear["k_proj"], linear["up_proj"][1], len(model.model.layers))
    assert set(linear) == set(QKVOGUD)
    assert linear["q_proj"] == linear["o_proj"] == (shapes.hidden, shapes.hidden)


def experiment(folder: Path) -> Path:
    """A minimal YAML file with its model and data."""
    model = folder / "model"
    model.mkdir(parents=True)
    sizes = dict.fromkeys(
        ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size"), 2
    )  # fmt: skip
    (model / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "tokenizer.json").write_text("{}")
    (model / "provenance.json").write_text("{}")
    (model / "optimizer.pt").write_bytes(b"not needed")
    (folder / "a.jsonl").write_text('{"q": "1", "answer": "1"}\n')
    (folder / "b.jsonl").write_text('{"q": "2", "answer": "2"}\n')
    path = folder / "own.yaml"
    path.write_text(
        "{name: own, title: Own, train: d, columns: {t: T}, models: {m: {path: model}},"
        " data: {d: {train: a.jsonl, test: b.jsonl}}, protocol: {prompt: '{q}', response: '{answer}',"
        " pattern: '.*', max_new_tokens: 1, max_length: 8},"
        " groups: [{model: m, label: M, rows: [{label: Z, method: zero-shot}]}]}"
    )
    return path


def test_what_is_built_and_recorded(tmp_path: Path) -> None:
    path = experiment(tmp_path / "mine")
    catalog, given = user_catalog(path), path.parent
    download_dataset("d", tmp_path / "d", catalog=catalog)
    made = read_json(tmp_path / "d" / "provenance.json")
    assert made["stand_in"] is None
    assert [(s["path"], s["sha256"], s["origin"]) for s in made["sources"]] == [
        (str(given / name), sha256_file(given / name), "local") for name in ("a.jsonl", "b.jsonl")
    ]
    assert read_jsonl(tmp_path / "d" / "test.jsonl") == [
        {"id": "test/1", "task": "t", "q": "2", "answer": "2"}
    ]
    download_model("m", tmp_path / "m", catalog=catalog)
    made = read_json(tmp_path / "m" / "provenance.json")
    names = ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(file.name for file in (tmp_path / "m").iterdir()) == sorted([*names, "provenance.json"])  # fmt: skip
    assert made["folder"] == str(given / "model")
    assert made["sources"] == {name: sha256_file(given / "model" / name) for name in names}
    assert (given / "model" / "provenance.json").read_text() == "{}"
    for name in names:
        assert (tmp_path / "m" / name).read_bytes() == (given / "model" / name).read_bytes()
