"""The tiny model and the small data set of the generation tests; a judge's endpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "generation"))

from generation_cases import build_model, records
from judge_cases import FakeEndpoint

from diablo.io import write_jsonl


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
def endpoint(monkeypatch):
    """A judge's endpoint whose answers a test decides; retries wait for nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("diablo.scoring.judges.endpoint.FIRST_PAUSE", 0.0)
    fake = FakeEndpoint()
    yield fake
    fake.close()
