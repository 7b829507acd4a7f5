"""`diablo verify`: tampered, missing, broken and unrecorded files are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diablo.cli import main
from diablo.io import write_json
from diablo.provenance import Provenance
from diablo.verify import verify


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, a run with generations and scores, a table with a figure, as the verbs write them."""
    monkeypatch.chdir(tmp_path)
    root = Path("results/demo")
    data, run = root / "data" / "toy", root / "runs" / "a"
    for folder in (data, run / "adapter", run / "generations", root / "tables", root / "figures"):
        folder.mkdir(parents=True)
    (data / "train.jsonl").write_text("{}\n")
    Provenance("download").write(data / "provenance.json")
    (run / "spec.json").write_text("{}")
    (run / "log.jsonl").write_text("{}\n")
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    trained = Provenance("finetune", [run / "spec.json", data / "train.jsonl"])
    trained.write(run / "adapter" / "provenance.json", {"../log.jsonl": run / "log.jsonl"})
    (run / "generations" / "s.jsonl").write_text("{}\n")
    made = Provenance("generate", [run / "adapter" / "provenance.json"])
    made.write(run / "generations" / "s.provenance.json")
    scored = Provenance("score", [run / "generations" / "s.jsonl"])
    write_json(run / "scores" / "s.json", {"provenance": scored.finish()})
    for form in ("csv", "html"):
        (root / "tables" / f"table1.{form}").write_text("1")
    table = Provenance("aggregate", [run / "scores" / "s.json"])
    table.write(root / "tables" / "table1.provenance.json")
    (root / "figures" / "table1-lr.png").write_bytes(b"png")
    table.add(captions={"table1-lr": "What it shows."})
    table.write(root / "figures" / "table1.provenance.json")
    return root


def test_untouched_results_are_all_vouched_for(results: Path) -> None:
    found = verify(results)
    assert found.good
    assert found.records == 6
    assert not found.not_recorded
    assert {Path(name).name for name in found.verified} >= {
        *("train.jsonl", "spec.json", "log.jsonl", "adapter_model.safetensors", "s.jsonl"),
        *("s.json", "table1.csv", "table1.html", "table1-lr.png"),
    }
    assert main(["verify", str(results)]) == 0


@pytest.mark.parametrize(
    ("file", "recorded_by"),
    [
        ("data/toy/train.jsonl", {"data/toy/provenance.json", "runs/a/adapter/provenance.json"}),
        ("runs/a/spec.json", {"runs/a/adapter/provenance.json"}),
        ("runs/a/log.jsonl", {"runs/a/adapter/provenance.json"}),
        ("runs/a/adapter/adapter_model.safetensors", {"runs/a/adapter/provenance.json"}),
        ("tables/table1.html", {"tables/table1.provenance.json"}),
        ("figures/table1-lr.png", {"figures/table1.provenance.json"}),
    ],
)
def test_a_tampered_or_missing_file_is_named_with_who_recorded_it(
    results: Path, file: str, recorded_by: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / file
    path.write_bytes(path.read_bytes() + b"x")
    changed = verify(results).changed
    assert {Path(one.file).name for one in changed} == {path.name}
    assert {one.recorded_by for one in changed} == {str(results / name) for name in recorded_by}
    assert all(one.expected != one.found for one in changed)
    assert main(["verify", str(results), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["good"]
    assert told["changed"][0]["found"] == changed[0].found
    path.unlink()
    found = verify(results)
    assert not found.changed
    assert {one.recorded_by for one in found.missing} == {str(results / n) for n in recorded_by}
    assert main(["verify", str(results)]) == 1
    assert f"missing: {found.missing[0].file}" in capsys.readouterr().out


def test_a_tampered_provenance_is_changed_for_the_next_stage(results: Path) -> None:
    path = results / "runs/a/adapter/provenance.json"
    path.write_text(path.read_text().replace('"finetune"', '"fine-tune"'))
    (changed,) = verify(results).changed
    assert changed.recorded_by.endswith("s.provenance.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"inputs": {"a": 1}}', '{"outputs": []}x'])
def test_broken_records_are_named_and_the_rest_is_verified(
    results: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / "tables" / "table1.provenance.json"
    path.write_text(text)
    found = verify(results)
    assert list(found.broken) == [str(path)]
    assert found.verified
    assert main(["verify", str(results)]) == 1
    assert f"broken: {path}" in capsys.readouterr().out


def test_what_nothing_vouches_for_is_listed_and_hidden_files_are_not(results: Path) -> None:
    (results / "runs" / "a" / "notes.txt").write_text("mine")
    (results / ".work").mkdir()
    (results / ".work" / "checkpoint").write_text("half")
    found = verify(results)
    assert found.good
    assert found.not_recorded == [str(results / "runs/a/notes.txt")]


def test_older_provenance_without_outputs_is_checked_by_its_inputs(results: Path) -> None:
    for path in results.rglob("*provenance.json"):
        facts = json.loads(path.read_text())
        del facts["outputs"]
        path.write_text(json.dumps(facts))
    found = verify(results)
    assert {Path(one.file).name for one in found.changed} == {"provenance.json"}
    assert any(name.endswith("s.jsonl") for name in found.verified)
    assert any(name.endswith("table1.csv") for name in found.not_recorded)


def test_a_copy_is_compared_with_its_own_files(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "kept" / "mini"
    copy.parent.mkdir()
    results.rename(copy)
    assert verify(copy).good


def test_no_folder_is_a_mistake_of_the_user_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "results/nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_folder_without_results_is_not_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo" / "logs").mkdir(parents=True)
    assert main(["verify", str(tmp_path / "demo")]) == 2
    assert "nothing in it has provenance" in capsys.readouterr().err


def test_a_copy_of_results_elsewhere_is_compared_with_its_own_files_too(
    results: Path, tmp_path: Path
) -> None:
    record = results / "runs" / "a" / "generations" / "s.provenance.json"
    facts = json.loads(record.read_text())
    absolute = {f"/elsewhere/{name}": digest for name, digest in facts["inputs"].items()}
    record.write_text(json.dumps({**facts, "inputs": absolute}))
    assert verify(results).good
