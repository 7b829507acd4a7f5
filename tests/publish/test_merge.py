"""`diablo merge`: the model that is evaluated, as a plain folder; and runs that cannot be merged."""

from __future__ import annotations

import pytest

from diablo.cli import main
from diablo.io import read_json, sha256_file, write_json


def merge(run, out) -> int:
    return main(["merge", str(run), "--out", str(out)])


@pytest.mark.parametrize("method", ["diablo", "lora", "full"])
def test_the_merged_folder_is_the_model_that_is_evaluated(make_run, tmp_path, method) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from diablo.methods import load_for_inference

    spec, run = make_run(method)
    out = tmp_path / "merged"
    assert merge(run, out) == 0
    expected = load_for_inference(spec, run / "adapter").state_dict()
    plain = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert type(plain).__name__ == "LlamaForCausalLM"
    assert plain.state_dict().keys() == expected.keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(out).eos_token == "</s>"


def test_weights_have_the_type_that_they_had_in_training(make_run, tmp_path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    _, run = make_run(precision="fp16")
    assert merge(run, tmp_path / "merged") == 0
    assert (
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").dtype
        == torch.float16
    )
    assert read_json(tmp_path / "merged" / "provenance.json")["dtype"] == "float16"


def test_provenance_has_what_went_in_and_what_came_out(make_run, tmp_path) -> None:
    spec, run = make_run()
    out = tmp_path / "merged"
    merge(run, out)
    facts = read_json(out / "provenance.json")
    assert (facts["verb"], facts["run"], facts["method"]) == ("merge", spec.run, "diablo")
    adapter = run / "adapter" / "adapter_model.safetensors"
    assert facts["inputs"][str(adapter)] == sha256_file(adapter)
    assert facts["inputs"][f"{spec.model_path}/provenance.json"]
    assert facts["outputs"]["model.safetensors"] == sha256_file(out / "model.safetensors")
    # Nothing is left beside it.
    assert [path.name for path in tmp_path.iterdir() if path.name != "results"] == ["merged"]


def test_mistakes_are_named(make_run, tmp_path, capsys) -> None:
    _, run = make_run()
    (tmp_path / "there").mkdir()
    cases = [
        (run, tmp_path / "there", "is there already"),
        (run.parent / f"{run.name}x", tmp_path / "out", f"did you mean '{run.name}'"),
        (tmp_path / "nowhere", tmp_path / "out", "results/<scale>/runs/<run>"),
    ]
    for folder, out, words in cases:
        assert merge(folder, out) == 2
        assert words in capsys.readouterr().err


def test_a_zero_shot_run_is_refused(make_run, tmp_path, capsys) -> None:
    _, run = make_run()
    spec = read_json(run / "spec.json")
    write_json(run / "spec.json", {**spec, "method": "zero-shot"})
    assert merge(run, tmp_path / "out") == 2
    assert "trains nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "provenance"])
def test_an_adapter_that_is_not_what_was_trained_is_refused(
    make_run, tmp_path, capsys, damage
) -> None:
    _, run = make_run()
    weights = run / "adapter" / "adapter_model.safetensors"
    if damage == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif damage == "added":
        weights.with_name("model.safetensors").write_bytes(b"")
    elif damage == "removed":
        weights.unlink()
    else:
        (run / "adapter" / "provenance.json").unlink()
    assert merge(run, tmp_path / "out") == 2
    assert "run/adapter" in capsys.readouterr().err.replace(run.name, "run")
    assert not (tmp_path / "out").exists()


def test_a_spec_that_is_not_what_was_trained_is_refused(make_run, tmp_path, capsys) -> None:
    spec, run = make_run()
    write_json(run / "spec.json", {**spec.model_dump(), "lr": 1.0})
    assert merge(run, tmp_path / "merged") == 2
    assert "spec.json: was another when this was trained" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()
