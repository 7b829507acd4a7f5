"""A tiny random model with its tokenizer and a small data set, for the fast tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from generation_cases import TASKS, build_model, records

from diablo.io import write_json, write_jsonl
from diablo.specs import RunSpec, SuiteSpec


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of the tiny model."""
    folder = tmp_path_factory.mktemp("tiny-model")
    build_model(folder)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_jsonl(folder / "test.jsonl", records())
    return folder


@pytest.fixture
def make_suite(dataset):
    """SuiteSpec over the small data set; keyword arguments replace fields or decoding keys."""

    def make(num_beams=1, max_new_tokens=12, stop=(), **fields) -> SuiteSpec:
        decoding = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "stop": list(stop)}
        values = {
            "suite": "commonsense",
            "variant": "paper",
            "dataset": "small",
            "data_path": str(dataset),
            "tasks": TASKS,
            "decoding": decoding,
        }
        return SuiteSpec(**{**values, **fields})

    return make


@pytest.fixture
def make_run(tiny_model, tmp_path):
    """(spec, run folder) of a zero-shot run of the tiny model; keyword arguments replace fields."""

    def make(run="tiny", **fields) -> tuple[RunSpec, Path]:
        values = {
            "run": run,
            "scale": "demo",
            "model": "tiny",
            "model_path": str(tiny_model),
            "dataset": None,
            "data_path": None,
            "suite": "commonsense",
            "variant": "paper",
            "method": "zero-shot",
        }
        folder = tmp_path / "runs" / run
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        write_json(folder / "adapter" / "provenance.json", {"method": "zero-shot"})
        return RunSpec(**{**values, **fields}), folder

    return make
