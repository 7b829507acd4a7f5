"""The tiny T5's folder, and a run to fine-tune on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from t5_cases import build, make_spec

from diablo.io import read_json, read_jsonl, write_json


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory) -> Path:
    """`model/` and `data/` of the tiny T5."""
    return build(tmp_path_factory.mktemp("tiny-t5"))


@pytest.fixture
def finetuned(tiny_t5, tmp_path):
    """Fine-tunes; keywords change the run's settings. Has spec, folder, log and facts.

    `options` are those of `finetune`, `on` the folder with model and data.
    """
    from diablo.data.protocol import protocol_of
    from diablo.training import finetune

    def run(name="tiny", options=None, on=tiny_t5, **changes) -> SimpleNamespace:
        spec = make_spec(on, run=name, **changes)
        folder = tmp_path / "runs" / name
        write_json(folder / "spec.json", spec.model_dump())
        work = tmp_path / "work" / name
        finetune(spec, folder, work, protocol_of(spec), threads=1, **(options or {}))
        return SimpleNamespace(
            spec=spec,
            folder=folder,
            work=work,
            log=read_jsonl(folder / "log.jsonl"),
            facts=read_json(folder / "adapter" / "provenance.json"),
        )

    return run
