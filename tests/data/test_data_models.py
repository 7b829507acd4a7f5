"""The real small model, converted from its package."""

from __future__ import annotations

import pytest

from diablo.data import models
from diablo.data.catalog import load_catalog
from diablo.data.prepare import check_sources, download_model
from diablo.io import read_json

pytestmark = pytest.mark.slow


def test_folder_loads_offline_as_a_plain_float32_model_with_tied_weights(smollm2):
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2)
    shapes = load_catalog().model("smollm2-135m").shapes
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) == shapes.base_parameters
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size) == (shapes.layers, shapes.hidden)
    assert config.intermediate_size == shapes.ffn
    assert config.head_dim * config.num_key_value_heads == shapes.kv
    assert config.num_attention_heads == shapes.heads
    assert config.vocab_size == shapes.vocab
    with safe_open(smollm2 / "model.safetensors", "pt") as stored:
        assert "lm_head.weight" not in stored.keys()  # noqa: SIM118 (not a dict)


def test_tokenizer_has_its_special_tokens_and_chat_template(smollm2):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer.bos_token == "<|im_start|>"
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    chat = [{"role": "user", "content": "hi"}]
    assert "<|im_start|>user\nhi<|im_end|>" in tokenizer.apply_chat_template(chat, tokenize=False)


def test_model_can_be_saved_again(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(smollm2).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 5e8


def test_provenance_names_the_package_file(smollm2):
    facts = read_json(smollm2 / "provenance.json")
    (source,) = load_catalog().model("smollm2-135m").sources
    assert facts["sources"] == {source.name: source.sha256}
    assert check_sources(["smollm2-135m"], []) == []


def test_wrong_continuation_names_both_and_leaves_nothing(smollm2, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(models, "convert_gguf", lambda fetched, out: out.symlink_to(smollm2))
    catalog = load_catalog()
    model = catalog.model("smollm2-135m")
    greedy = model.greedy.model_copy(update={"continuation": " Sunday"})
    changed = model.model_copy(update={"greedy": greedy})
    catalog = catalog.model_copy(update={"models": {"m": changed}})
    with pytest.raises(ValueError, match=r"' Wednesday, .*' Sunday'"):
        download_model("m", tmp_path / "out", catalog=catalog)
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().err == ""
