"""A run as the workflow leaves it, of a tiny random model: adapter, provenance, generations, scores, losses."""

from __future__ import annotations

from pathlib import Path

import pytest
from publish_cases import TASKS, build_model, records

from diablo.io import read_jsonl, write_json, write_jsonl
from diablo.provenance import Provenance
from diablo.specs import RunSpec, SuiteSpec

METHODS = {"diablo": {"num_blocks": 4}, "lora": {"rank": 2, "alpha": 4.0}, "full": {}}


@pytest.fixture(scope="session")
def base_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    build_model(folder)
    write_json(folder / "provenance.json", {"verb": "download"})
    return folder


@pytest.fixture
def make_run(base_model, tmp_path):
    """(spec, run folder) of a trained run; keyword arguments replace fields of the spec."""

    def make(method="diablo", **fields) -> tuple[RunSpec, Path]:
        import torch

        from diablo.methods import get_method
        from diablo.methods.base import load_base

        values = {
            "run": f"smollm2-135m.made.{method}",
            "scale": "demo",
            "model": "smollm2-135m",
            "model_path": str(base_model),
            "dataset": "commonsense_generated",
            "data_path": None,
            "suite": "commonsense",
            "variant": "paper",
            "method": method,
            "modules": [] if method == "full" else ["q_proj", "v_proj"],
        }
        spec = RunSpec(**{**values, **METHODS[method], **fields})
        run = tmp_path / "results" / "demo" / "runs" / spec.run
        write_json(run / "spec.json", spec.model_dump())
        provenance = Provenance("finetune", [run / "spec.json"], seed=0)
        torch.manual_seed(0)
        model = get_method(method).prepare(load_base(spec.model_path, "cpu", torch.float32), spec)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        get_method(method).save(model, run / "adapter")
        provenance.add(method=method, trainable_parameters=64, base_parameters=10_000, steps=3)
        provenance.write(run / "adapter" / "provenance.json")
        return spec, run

    return make


@pytest.fixture
def score_run(tmp_path):
    """Generate, score and measure a run, by the verbs' own functions; two answers in three are right."""

    def score(spec: RunSpec, run: Path) -> None:
        from diablo.generation import generate
        from diablo.scoring import score as score_suite
        from diablo.scoring.answer_loss import measure_suite

        data = tmp_path / "data"
        write_jsonl(data / "test.jsonl", records())
        suite = SuiteSpec(
            suite=spec.suite,
            variant=spec.variant,
            dataset="commonsense_generated",
            data_path=str(data),
            tasks=TASKS,
            decoding={"num_beams": 1, "max_new_tokens": 4, "stop": []},
        )
        write_json(run.parent.parent / "suites" / f"{spec.suite_key}.json", suite.model_dump())
        generations = run / "generations" / "commonsense.jsonl"
        generate(spec, suite, run, generations, tmp_path / "work", backend="transformers")
        answers = {record["id"]: record["output"] for record in records()}
        rows = read_jsonl(generations)
        for index, row in enumerate(rows):
            row["completions"] = [answers[row["id"]] if index % 3 else "no answer"]
        write_jsonl(generations, rows)
        score_suite(spec, suite, generations, run / "scores" / "commonsense.json")
        measure_suite(spec, suite, run)

    return score
