"""A tiny model, tokenizer and data set on disk, and a run to fine-tune on them."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from tiny_run import METHOD_SETTINGS, SETTINGS, make_model, make_records, make_tokenizer


@pytest.fixture(scope="session")
def protocol():
    from diablo.data.protocol import load_protocol

    return load_protocol("commonsense", "paper")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, protocol):
    """The folder with model, tokenizer and data."""
    from diablo.io import write_jsonl

    folder = tmp_path_factory.mktemp("tiny")
    records = make_records(22)
    texts = [protocol.prompt_for_training(r) + protocol.target(r) for r in records]
    tokenizer = make_tokenizer(texts)
    assert len(tokenizer) <= 200
    make_model().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_jsonl(folder / "data" / "train.jsonl", records)
    return folder


@pytest.fixture(scope="session")
def lori_d_adapter(tiny):
    """A LoRI-D adapter with something in its B, as a finished run leaves it."""
    import torch

    from diablo.methods import METHODS

    spec = SimpleNamespace(**SETTINGS | {"method": "lori-d"})
    model = METHODS["lori-d"].prepare(make_model(), spec)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    METHODS["lori-d"].save(model, tiny / "lori-d")
    return tiny / "lori-d"


@pytest.fixture(scope="session")
def loftq_base(tiny):
    """The tiny model's folder with LoftQ's adapter in it; its factors are random and small."""
    import torch
    from peft import LoraConfig, get_peft_model

    shutil.copytree(tiny / "model", tiny / "loftq-base")
    rank, modules = SETTINGS["rank"], SETTINGS["modules"]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=modules, init_lora_weights=False)
    torch.manual_seed(1)
    model = get_peft_model(make_model(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.mul_(0.05)
    folder = tiny / "loftq-base" / "loftq"
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return tiny / "loftq-base"


@pytest.fixture
def make_run(tiny, tmp_path, request):
    """Builds a run's spec and folders; the keywords change settings."""

    def build(name="tiny", **changes):
        settings = {**SETTINGS, **METHOD_SETTINGS[changes.get("method", "lora")], **changes}
        settings |= {"model_path": str(tiny / "model"), "data_path": str(tiny / "data")}
        if settings["method"] == "loftq":
            settings["model_path"] = str(request.getfixturevalue("loftq_base"))
        if settings["method"] == "lori-s":
            settings["mask_adapter"] = str(request.getfixturevalue("lori_d_adapter"))
        folder = tmp_path / name
        folder.mkdir()
        (folder / "spec.json").write_text(json.dumps(settings))
        return SimpleNamespace(
            spec=SimpleNamespace(**settings), folder=folder, work=tmp_path / f"{name}.work"
        )

    return build


@pytest.fixture
def finetune(protocol):
    """Fine-tunes a run on one thread; returns its log."""
    from diablo.io import read_jsonl
    from diablo.training import finetune

    def call(run, **options):
        finetune(run.spec, run.folder, run.work, protocol, threads=1, **options)
        return read_jsonl(run.folder / "log.jsonl")

    return call
