"""The benchmarks themselves: that they run, check before they time, and render what they recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import patterns, report, several_gpus, train_step
from benchmarks.forms import FORMS
from benchmarks.timing import device_name, record
from diablo.io import sha256_file

TINY = [
    "--shape",
    "tiny",
    "--batch",
    "2",
    "--length",
    "12",
    "--blocks",
    "8",
    "--rank",
    "4",
    "--rounds",
    "1",
    "--repeats",
    "1",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    train_step.main([*TINY, "--labels", "3", "--results", str(folder)])
    return folder


def test_every_form_is_timed_beside_the_frozen_limit(measured: Path) -> None:
    (path,) = measured.glob("*.json")
    ((setting, result),) = json.loads(path.read_text())["train_step"].items()
    assert setting == "tiny 2x12 fp32 labels=3 N=8 r=4"
    assert set(result["forms"]) == {*FORMS, "trainer"}
    assert result["forms"]["frozen"]["x_frozen"] == 1
    for row in result["forms"].values():
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert result["forms"]["frozen"]["trainable"] == 0
    assert result["forms"]["inplace"]["trainable"] == result["forms"]["einsum"]["trainable"] > 0
    assert result["measured_with"]["versions"]["torch"] in torch.__version__
    assert result["checks"]["largest_gradient_difference"] <= train_step.GRADIENT


def test_a_form_alone_is_timed_beside_the_frozen_limit(tmp_path: Path) -> None:
    train_step.main([*TINY, "--forms", "trainer", "--results", str(tmp_path)])
    (path,) = tmp_path.glob("*.json")
    (result,) = json.loads(path.read_text())["train_step"].values()
    forms = result["forms"]
    assert set(forms) == {"frozen", "trainer"}
    ratio = forms["trainer"]["median_ms"] / forms["frozen"]["median_ms"]
    assert forms["trainer"]["x_frozen"] == pytest.approx(ratio, abs=1e-4)


@pytest.mark.parametrize("implementation", patterns.CHOICES)
def test_every_pattern_is_timed_beside_diablo(implementation: str, tmp_path: Path) -> None:
    options = [*TINY[:8], "--rounds", "2", "--repeats", "1", "--implementation", implementation]
    patterns.main([*options, "--results", str(tmp_path)])
    (path,) = tmp_path.glob("*.json")
    ((setting, result),) = json.loads(path.read_text())["patterns"].items()
    assert setting == f"tiny 2x12 fp32 N=8 {implementation}"
    rows = result["forms"]
    diablo, *others = patterns.CHOICES[implementation]
    assert set(rows) == {"frozen", diablo, *others}
    for name in others:  # 8 divides all widths
        assert rows[name]["trainable"] == rows[diablo]["trainable"] > 0
        ratio = rows[name]["median_ms"] / rows[diablo]["median_ms"]
        assert rows[name]["x_diablo"] == pytest.approx(ratio, abs=1e-3)
        assert len(rows[name]["x_diablo_rounds"]) == 2
    assert result["checks"]["largest_gradient_difference"] <= train_step.GRADIENT


def test_patterns_whose_gradients_are_wrong_are_not_timed(monkeypatch, tmp_path: Path) -> None:
    from diablo.tuner.lines import InputsLayout

    right = InputsLayout.block_grad
    monkeypatch.setattr(InputsLayout, "block_grad", lambda *args: 1.01 * right(*args))
    with pytest.raises(AssertionError, match=r"inputs: gradients differ by 0\.0"):
        patterns.main([*TINY[:8], "--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_the_processors_time_is_that_of_one_thread(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--threads 1"):
        patterns.main([*TINY[:8], "--cpu-time", "--results", str(tmp_path)])


def test_more_labels_than_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--labels 12: the first of 12 tokens"):
        train_step.main([*TINY, "--labels", "12", "--results", str(tmp_path)])


def test_forms_that_disagree_are_not_timed(monkeypatch, tmp_path: Path) -> None:
    class Wrong(train_step.Form):
        def loss(self, batch):
            return super().loss(batch) * (1.01 if self.name == "lora" else 1)

    monkeypatch.setattr(train_step, "Form", Wrong)
    with pytest.raises(AssertionError, match="lora: loss"):
        train_step.main([*TINY, "--forms", "frozen", "lora", "--results", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_the_table_names_the_device_of_each_row(measured: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    row = {"median_ms": 1.0, "min_ms": 1.0, "max_ms": 1.0, "x_frozen": 1.0}
    forms = {"frozen": row, "full": {"failed": "out of memory"}}
    other = {"forms": forms, "measured_with": {"device": "Another <device>"}}
    (recorded / "another.json").write_text(json.dumps({"train_step": {"a setting": other}}))
    out = tmp_path / "tables" / "speed"
    report.main(["--measured", str(measured), "--recorded", str(recorded), "--out", str(out)])
    for suffix in (".csv", ".md"):
        text = out.with_suffix(suffix).read_text()
        assert device_name() in text
        assert "Another <device>" in text
        assert "out of memory" in text
    assert "Another &lt;device&gt;" in out.with_suffix(".html").read_text()
    assert "DoRA 480 minutes" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".tex").read_text().count("frozen") >= 2
    made = json.loads(out.with_suffix(".provenance.json").read_text())
    assert set(made["outputs"]) == {f"{out.name}.{kind}" for kind in ("csv", "md", "html", "tex")}
    files = [*measured.glob("*.json"), *recorded.glob("*.json")]
    assert set(made["inputs"]) <= {str(path) for path in files}
    assert made["inputs"][str(files[0])] == sha256_file(files[0])


def test_a_report_without_measurements_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"benchmarks\.train_step"):
        report.main(["--measured", str(tmp_path), "--out", str(tmp_path / "speed")])


def test_records_are_merged_by_setting(tmp_path: Path) -> None:
    record("train_step", {"a": {"x": 1}}, tmp_path)
    path = record("train_step", {"a": {"x": 2}, "b": {"x": 3}}, tmp_path)
    found = json.loads(path.read_text())["train_step"]
    assert {key: value["x"] for key, value in found.items()} == {"a": 2, "b": 3}


def test_processes_import_nothing_that_starts_cuda_before_each_hides_the_other_gpus() -> None:
    """They import the file that was started; PEFT imports bitsandbytes, which starts it."""
    code = "import sys, benchmarks.several_gpus; sys.exit('peft' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")
@pytest.mark.parametrize("more", [[], ["--sharded"]])
def test_several_processes_have_the_losses_of_one(tmp_path: Path, more: list[str]) -> None:
    sizes = "--shape tiny --batch 4 --micro-batch 2 --steps 4 --blocks 8 --precision fp32"
    several_gpus.main([*sizes.split(), "--threads", "1", "--results", str(tmp_path), *more])
    (path,) = tmp_path.glob("*.json")
    ((key, result),) = json.loads(path.read_text())["several_gpus"].items()
    assert key.endswith(" on 1, 2 GPUs")
    assert list(result["gpus"]) == ["1", "2"]
    assert result["gpus"]["2"]["largest_loss_difference"] <= 1e-5
    assert len(result["gpus"]["2"]["losses"]) == 4
    assert result["gpus"]["1"]["speed_up"] == 1
