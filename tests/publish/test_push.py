"""`diablo push`: the folder that is uploaded, its card read by huggingface_hub, and what is refused."""

from __future__ import annotations

import re

import pytest

from diablo.cli import main
from diablo.data.catalog import load_catalog
from diablo.io import read_json, write_json
from diablo.publish.card import base_of

REPO = "someone/tiny-diablo"


def push(run, *more) -> int:
    return main(["push", str(run), "--repo", REPO, *map(str, more)])


@pytest.fixture
def pushed(make_run, score_run, tmp_path):
    """(spec, run folder, what would be uploaded) of a run with scores and losses."""
    spec, run = make_run()
    score_run(spec, run)
    out = tmp_path / REPO
    assert push(run, "--dry-run", out) == 0
    return spec, run, out


def test_the_card_is_read_by_the_hub_and_has_every_number(pushed) -> None:
    from huggingface_hub import ModelCard

    _, run, out = pushed
    card = ModelCard.load(out / "README.md")
    data = card.data
    assert (data.base_model, data.library_name) == (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "peft",
    )
    assert (data.base_model_relation, data.license) == ("adapter", "apache-2.0")
    assert "diablo" in data.tags
    found = {one.dataset_config: one for one in data.eval_results}
    scores = read_json(run / "scores" / "commonsense.json")["tasks"]
    assert set(found) == {*scores, "loss"}
    for name, entry in scores.items():
        assert found[name].metric_value == pytest.approx(100 * entry["value"], abs=0.05)
        assert f"n = {entry['n']}" in found[name].metric_name
        assert "interval" in found[name].metric_name
        assert "stand-in" in found[name].dataset_name
        assert found[name].metric_value == 66.7
        assert re.search(
            rf"\| {name} \| acc \| % \| [\d.]+ \| \[[\d., ]+\] \| 6 \| 6 \|", card.text
        )
    assert "Made with stand-ins" in card.text
    assert "SmolLM2-135M-Instruct stands in for" in card.text
    assert "| num_blocks | 4 |" in card.text
    assert read_json(run / "adapter" / "provenance.json")["code"]["commit"][:12] in card.text


def test_the_card_says_how_to_load_the_model(pushed, base_model, tmp_path, monkeypatch) -> None:
    import torch

    from diablo.methods import load_for_inference

    spec, run, out = pushed
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    # Where `base` and the repository's name are folders, they are what the code loads.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(base_model)
    names: dict = {}
    exec(compile(code, "card", "exec"), names)
    ids = names["tokenizer"]("Question number 3 of piqa", return_tensors="pt").input_ids
    expected = load_for_inference(spec, run / "adapter")
    with torch.no_grad():
        logits = names["model"](ids).logits
        torch.testing.assert_close(logits, expected(ids).logits, rtol=1e-4, atol=1e-5)
        plain = names["model"].disable_adapter()
        with plain:
            assert (names["model"](ids).logits - logits).abs().max() > 0.01


def test_the_adapter_names_the_base_model_on_the_hub(pushed) -> None:
    _, run, out = pushed
    config = read_json(out / "adapter_config.json")
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    ours = {**read_json(run / "adapter" / "adapter_config.json"), "revision": None}
    ours["base_model_name_or_path"] = config["base_model_name_or_path"]
    assert config == ours
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (run / "adapter" / weights).read_bytes()
    for name, source in {
        "spec.json": "spec.json",
        "provenance.json": "adapter/provenance.json",
        "scores.json": "scores/commonsense.json",
        "losses.json": "losses/commonsense.json",
    }.items():
        assert (out / "run" / name).read_bytes() == (run / source).read_bytes()


def test_upload_makes_the_repository_and_sends_the_folder(make_run, monkeypatch) -> None:
    import huggingface_hub

    calls: list = []

    class FakeApi:
        def create_repo(self, repo_id, **more):
            calls.append(("create", repo_id, more))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            files = {p.relative_to(folder_path).as_posix() for p in folder_path.rglob("*")}
            calls.append(("upload", repo_id, files))

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    _, run = make_run()
    assert push(run) == 0
    (_, made, more), (_, repo, files) = calls
    assert (made, repo, more) == (REPO, REPO, {"exist_ok": True})
    adapter = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert files == {*adapter, "run", "run/spec.json", "run/provenance.json"}


def test_a_refusal_of_the_hub_is_explained(make_run, monkeypatch, capsys) -> None:
    # Nothing listens there.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    _, run = make_run()
    assert push(run) == 2
    error = capsys.readouterr().err
    assert REPO in error
    assert "--dry-run" in error


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_merged_model_needs_no_peft(make_run, tmp_path, method) -> None:
    from huggingface_hub import ModelCard
    from transformers import AutoModelForCausalLM

    _, run = make_run(method)
    out = tmp_path / "out"
    assert push(run, "--merged", "--dry-run", out) == 0
    card = ModelCard.load(out / "README.md")
    assert (card.data.library_name, card.data.base_model_relation) == ("transformers", "finetune")
    assert "peft" not in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[0]
    assert "This run was not scored" in card.text
    AutoModelForCausalLM.from_pretrained(out)
    assert read_json(out / "provenance.json")["verb"] == "merge"


def test_mistakes_are_named(make_run, tmp_path, capsys) -> None:
    _, run = make_run("full")
    assert push(run, "--dry-run", tmp_path / "out") == 2
    assert "--merged" in capsys.readouterr().err
    for name in ("tiny", "a/b/c", "some one/tiny"):
        assert main(["push", str(run), "--repo", name, "--merged"]) == 2
        assert "OWNER/NAME" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    assert push(run, "--merged", "--dry-run", tmp_path / "there") == 2
    assert "is there already" in capsys.readouterr().err


def test_results_without_provenance_are_refused(make_run, score_run, tmp_path, capsys) -> None:
    spec, run = make_run()
    score_run(spec, run)
    path = run / "scores" / "commonsense.json"
    scores = read_json(path)
    write_json(path, {**scores, "provenance": {"verb": "score"}})
    assert push(run, "--dry-run", tmp_path / "out") == 2
    assert "has no provenance" in capsys.readouterr().err
    # Scored with another adapter than the one that is there.
    made = scores["provenance"]["generated"]["inputs"]
    weights = next(name for name in made if name.endswith("adapter_model.safetensors"))
    made[weights] = "0" * 64
    write_json(path, scores)
    assert push(run, "--dry-run", tmp_path / "out") == 2
    assert "was another file when this was made" in capsys.readouterr().err
    # Scored again after it was trained again, but not measured.
    score_run(spec, run)
    losses = read_json(run / "losses" / "commonsense.json")
    (made,) = [n for n in losses["provenance"]["inputs"] if n.endswith("adapter/provenance.json")]
    losses["provenance"]["inputs"][made] = "0" * 64
    write_json(run / "losses" / "commonsense.json", losses)
    assert push(run, "--dry-run", tmp_path / "out") == 2
    assert "losses/commonsense.json: " in (error := capsys.readouterr().err)
    assert "was another file when this was made" in error
    (run / "adapter" / "provenance.json").unlink()
    assert push(run, "--dry-run", tmp_path / "out") == 2
    assert "provenance.json: missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_base_model_is_the_catalogues_or_given(make_run) -> None:
    catalog = load_catalog()
    spec, _ = make_run()
    llama = base_of(spec.model_copy(update={"model": "llama2-7b"}), None, catalog)
    assert (llama.hub, llama.made) == ("meta-llama/Llama-2-7b-hf", None)
    assert llama.revision == catalog.models["llama2-7b"].sources[0].revision
    own = spec.model_copy(update={"model": "mine"})
    with pytest.raises(ValueError, match="--base OWNER/NAME"):
        base_of(own, None, catalog)
    assert base_of(own, "me/mine", catalog).hub == "me/mine"
    small = base_of(spec, None, catalog)
    assert "diablo download --model smollm2-135m" in small.made
