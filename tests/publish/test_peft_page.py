"""docs/peft.md: its Python, as it stands on the page, run on a tiny model."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from publish_cases import build_model, records

from diablo.io import write_jsonl

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "peft.md").read_text()
#: Heading -> its block of Python.
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.M | re.S))
TRAINER, SFT, LOADING, SEVERAL, QUANTISED = BLOCKS


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the blocks under some headings, one after the other; gives the names that they define."""
    build_model(tmp_path / "model")
    texts = [f"{record['instruction']} {record['output']}" for record in records(48)]
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in texts])
    monkeypatch.chdir(tmp_path)

    def blocks(*headings: str) -> dict:
        names: dict = {}
        for heading in headings:
            exec(compile(BLOCKS[heading], heading, "exec"), names)
        return names

    return blocks


def assert_learnt(trainer) -> None:
    """The last epoch's loss is clearly below the first one's."""
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    third = len(losses) // 3
    assert statistics.fmean(losses[-third:]) < 0.95 * statistics.fmean(losses[:third])


def logits_of(model, tokenizer):
    import torch

    ids = tokenizer("Question number 3 of piqa", return_tensors="pt").input_ids
    with torch.no_grad():
        return model.eval()(ids).logits


def test_every_block_of_the_page_is_run_here() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 5
    assert (TRAINER, SFT) == ("With transformers' Trainer", "With TRL's SFTTrainer")


def test_the_trainer_trains_the_blocks_and_nothing_else(run, tmp_path) -> None:
    names = run(TRAINER)
    assert_learnt(names["trainer"])
    trained = [name for name, p in names["model"].named_parameters() if p.requires_grad]
    assert len(trained) == 6
    assert all("diablo_" in name for name in trained)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_what_is_loaded_and_merged_is_what_was_trained(run, tmp_path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    names = run(TRAINER, LOADING)
    expected = logits_of(names["model"], names["tokenizer"])
    with names["model"].disable_adapter():
        assert (logits_of(names["model"], names["tokenizer"]) - expected).abs().max() > 0.01
    served = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    for model in (names["plain"], served):
        assert type(model).__name__ == "LlamaForCausalLM"
        torch.testing.assert_close(logits_of(model, names["tokenizer"]), expected)


def test_several_adapters(run) -> None:
    import torch

    names = run(TRAINER, LOADING, SEVERAL)
    assert list(names["several"].peft_config) == ["first"]
    expected = logits_of(names["model"], names["tokenizer"])
    torch.testing.assert_close(logits_of(names["several"], names["tokenizer"]), expected)


def test_a_quantised_base_trains_beside_its_weights(run) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    names = run(TRAINER, QUANTISED)
    packed = names["packed"]
    ids = names["tokenizer"]("Question number 3 of piqa", return_tensors="pt").input_ids
    packed(ids, labels=ids).loss.backward()
    trained = {name: p for name, p in packed.named_parameters() if p.requires_grad}
    assert all("diablo_" in name and p.grad.abs().max() > 0 for name, p in trained.items())
    with pytest.raises(ValueError, match="cannot merge into a Linear4bit"):
        packed.merge_and_unload()


def test_sft_trainer(run, tmp_path) -> None:
    pytest.importorskip("trl", reason="trl is not installed (it is in the lock)")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = run(SFT)
    assert_learnt(names["trainer"])
    trained = names["trainer"].model
    assert all("diablo_" in n for n, p in trained.named_parameters() if p.requires_grad)
    base = AutoModelForCausalLM.from_pretrained("model")
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter-sft")
    tokenizer = AutoTokenizer.from_pretrained("model")
    torch.testing.assert_close(
        logits_of(loaded, tokenizer).float(),
        logits_of(trained, tokenizer).float(),
        rtol=1e-3,
        atol=1e-3,
    )
