"""The table of quantisers: what it says follows from the files, and a wrong file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diablo.io import write_json
from diablo.tables.quantizers import aggregate_quantizers


def entry(folder: Path, name: str, reason: str | None = None, **quantize: Any) -> dict[str, Any]:
    setting = {"quantizer": "gptq", "bits": 2, "group_size": 64, "form": "fake"} | quantize
    return {
        "model": "small",
        "title": "Small-1M",
        "paper_model": "big",
        "quantize": setting,
        "label": f"{setting['quantizer']}{setting['bits']}",
        "name": None if reason else name,
        "path": None if reason else str(folder / name / "quantization.json"),
        "reason": reason,
    }


def quality(folder: Path, name: str, errors: list[tuple[float, float]], perplexity: float) -> Path:
    path = folder / name / "quantization.json"
    layers = {f"layer.{i}": {"error": e, "rtn_error": r} for i, (e, r) in enumerate(errors)}
    text = {"text": "a text", "tokens": 1234, "float": 8.0, "quantised": perplexity}
    write_json(
        path, {"spec": {"name": name}, "layers": layers, "perplexity": text, "seconds": 90.0}
    )
    write_json(path.with_name("provenance.json"), {"rule": "quantize"})
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    quality(tmp_path, "one", [(0.10, 0.20), (0.30, 0.25)], 10.0)
    write_json(
        path := tmp_path / "tables" / "toy.plan.json",
        {
            "name": "toy",
            "scale": "demo",
            "stand_ins": ["Small-1M stands in for Big"],
            "quantizers": [
                entry(tmp_path, "one"),
                entry(tmp_path, "two", reason="excluded: on the grid", bits=4),
            ],
        },
    )
    return path


def test_numbers_are_those_of_the_files(plan: Path) -> None:
    aggregate_quantizers(plan)
    table = pd.read_csv(plan.with_name("toy-quantizers.csv"))
    first, second = table.to_dict("records")
    assert first["error"] == pytest.approx(20.0)
    assert first["error_max"] == pytest.approx(30.0)
    assert first["rounding_error"] == pytest.approx(22.5)
    assert first["layers_below_rounding"] == pytest.approx(50.0)
    assert first["perplexity_change"] == pytest.approx(25.0)
    assert first["minutes"] == pytest.approx(1.5)
    assert second["status"] == "not run: excluded: on the grid"
    assert pd.isna(second["perplexity"])


def test_every_format_names_text_stand_ins_and_reason(plan: Path) -> None:
    aggregate_quantizers(plan)
    for suffix in (".md", ".html", ".tex"):
        text = plan.with_name(f"toy-quantizers{suffix}").read_text(encoding="utf-8")
        for word in ("a text", "1,234", "Small-1M stands in for Big", "excluded: on the grid"):
            assert word in text, (suffix, word)


def test_missing_provenance_is_refused(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "one" / "provenance.json").unlink()
    with pytest.raises(ValueError, match=r"one/provenance\.json: missing"):
        aggregate_quantizers(plan)
    assert not plan.with_name("toy-quantizers.csv").exists()


def test_file_of_another_setting_is_refused(plan: Path, tmp_path: Path) -> None:
    path = quality(tmp_path, "other", [(0.1, 0.2)], 9.0)
    path.replace(tmp_path / "one" / "quantization.json")
    with pytest.raises(ValueError, match="is of 'other', the plan says 'one'"):
        aggregate_quantizers(plan)
