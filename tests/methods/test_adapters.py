"""Every method: starts at the base model, and what is saved is what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel

from diablo.methods import METHODS, load_for_inference

ADAPTERS = [name for name, method in METHODS.items() if method.artifact == "adapter"]
TRAINED = [*ADAPTERS, "full"]
TOKENS = torch.arange(24).reshape(2, 12) * 7 % 300


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS).logits


def trained(model):
    """The model with its trainable weights moved, as an optimiser would move them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_((0.05 * noise).to(parameter.dtype))
    return model


# LoftQ's base is the quantised one, from which it starts away (test_loftq.py).
@pytest.mark.parametrize("name", [name for name in METHODS if name != "loftq"])
def test_starts_at_the_base_model(name, llama, spec, gradients):
    model = METHODS[name].prepare(llama(), spec(name), gradients=gradients)
    torch.testing.assert_close(logits(model), logits(llama()), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["pissa", "milora", "lora-ga"])
def test_what_starts_off_zero_is_taken_out_of_the_frozen_weight(name, llama, spec, gradients):
    model = METHODS[name].prepare(llama(), spec(name), gradients=gradients)
    assert (logits(model) - logits(llama())).abs().max() < 1e-5
    with model.disable_adapter():
        assert (logits(model) - logits(llama())).abs().max() > 1e-3


@pytest.mark.parametrize("name", TRAINED)
def test_saved_is_what_was_trained(name, llama, spec, tmp_path, gradients):
    method = METHODS[name]
    model = trained(method.prepare(llama(), spec(name), gradients=gradients))
    expected = logits(model)
    assert (expected - logits(llama())).abs().max() > 0.05
    method.save(model, tmp_path)
    merged = method.load(llama(), tmp_path)
    assert type(merged) is type(llama())
    torch.testing.assert_close(logits(merged), expected, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ADAPTERS)
def test_plain_peft_loads_it_on_the_original_model(
    name, llama, spec, tmp_path, monkeypatch, gradients
):
    method = METHODS[name]
    model = trained(method.prepare(llama(), spec(name), gradients=gradients))
    expected = logits(model)
    method.save(model, tmp_path)
    monkeypatch.setattr(torch.linalg, "svd", None)  # loading must not decompose anything
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    torch.testing.assert_close(logits(loaded), expected, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ADAPTERS)
def test_saved_folder_is_adapter_only_and_sorted(name, llama, spec, tmp_path, gradients):
    method = METHODS[name]
    method.save(method.prepare(llama(), spec(name), gradients=gradients), tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(spec(name).modules)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("precision", ["bf16", "bf16-pure"])
def test_trainable_weights_have_the_precisions_type(name, precision, llama, spec, gradients):
    model = METHODS[name].prepare(
        llama(torch.bfloat16), spec(name, precision=precision), gradients=gradients
    )
    expected = torch.bfloat16 if precision == "bf16-pure" else torch.float32
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {expected}


@pytest.mark.parametrize("name", METHODS)
def test_load_for_inference(name, llama, spec, tmp_path, gradients):
    method = METHODS[name]
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    llama().save_pretrained(base)
    model = trained(method.prepare(llama(), spec(name), gradients=gradients))
    method.save(model, adapter)
    settings = spec(name, model_path=str(base))
    served = load_for_inference(settings, adapter)
    assert not any(p.requires_grad for p in served.parameters())
    torch.testing.assert_close(logits(served), logits(model), atol=5e-5, rtol=1e-4)
    assert load_for_inference(settings, adapter, dtype="bfloat16").dtype is torch.bfloat16


def test_load_for_inference_names_what_is_missing(llama, spec, tmp_path):
    settings = spec("lora", model_path=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"tiny\.lora: no adapter in"):
        load_for_inference(settings, tmp_path / "adapter")
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        load_for_inference(settings, tmp_path / "adapter")
