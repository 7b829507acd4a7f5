"""Folders of results made up for the report: real tables of made-up scores, and everything beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium_pipe import Page, browser
from report_cases import BENCHMARK, FACTS, write_table

from diablo.io import write_json, write_text


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, figures, claims, a check of what is served, a run and benchmarks; read only."""
    results = tmp_path_factory.mktemp("results") / "demo"
    write_table(results)
    run = results / "runs" / "one.paper.s7"
    write_json(
        run / "spec.json", {"run": run.name, "method": "diablo", "num_blocks": 64, "lr": 1e-3}
    )
    write_json(run / "adapter" / "provenance.json", FACTS)
    facts = {**FACTS, "verb": "check-serving"}
    nested = {"pairs": {"a/b": {"disagreement": 0.25}}, "provenance": facts}
    served = {"run": run.name, "suite": "toy", "status": "same", "prompts": 4, "backend": "vllm"}
    write_json(run / "serving" / "toy.json", served | nested)
    write_text(results / "tables" / "claims.csv", "claim,verdict,gap\nIt is <good>,holds,0.5\n")
    write_text(results.parent / "benchmarks/demo/runs/one.paper.s7/finetune.tsv", BENCHMARK)
    return results


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One tab for all tests of the file."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            with browser(path, tmp_path_factory.mktemp("profile")) as page:
                yield page
            return
    pytest.skip("chromium is not installed")
