"""PiSSA and MiLoRA against their definitions."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from diablo.methods import METHODS
from diablo.methods.shifted import CACHE
from diablo.methods.svd import singular_factors

Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


def layers(model):
    return {n: m for n, m in model.named_modules() if hasattr(m, "lora_A") and m.lora_A}


@pytest.mark.parametrize(
    ("name", "triplets"), [("pissa", slice(0, 4)), ("milora", slice(-4, None))]
)
def test_initialisation_is_the_definition(name, triplets, llama, spec):
    original = {n: m.weight.double() for n, m in llama().named_modules() if n.endswith("_proj")}
    model = METHODS[name].prepare(llama(), spec(name))
    assert len(layers(model)) == 10
    for path, layer in layers(model).items():
        weight = original[path.removeprefix("base_model.model.")]
        a, b = (getattr(layer, f"lora_{x}")["default"].weight.double() for x in "AB")
        residual = layer.get_base_layer().weight.double()
        assert layer.scaling["default"] == 1.0  # alpha = r
        torch.testing.assert_close(residual + b @ a, weight, atol=1e-6, rtol=0)
        # The product holds exactly the singular values in question, and A and B share them evenly.
        values = torch.linalg.svdvals(weight)[triplets]
        torch.testing.assert_close(torch.linalg.svdvals(b @ a)[:4], values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(a @ a.T, torch.diag(values), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(b.T @ b, torch.diag(values), atol=1e-5, rtol=1e-4)


def test_pissa_is_pefts(llama, spec):
    ours = METHODS["pissa"].prepare(llama(), spec("pissa"))
    settings = LoraConfig(
        r=4, lora_alpha=4, target_modules=spec("pissa").modules, init_lora_weights="pissa"
    )
    theirs = get_peft_model(llama(), settings)
    for path, layer in layers(theirs).items():
        other = layers(ours)[path]
        for letter in "AB":
            expected = getattr(layer, f"lora_{letter}")["default"].weight
            torch.testing.assert_close(getattr(other, f"lora_{letter}")["default"].weight, expected)
        torch.testing.assert_close(other.get_base_layer().weight, layer.get_base_layer().weight)


def test_scale_is_divided_out():
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    a, b = singular_factors(weight, slice(0, 20), scale=2.0)
    torch.testing.assert_close(2.0 * b @ a, weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["pissa", "milora"])
def test_a_restart_takes_the_kept_factors(name, llama, spec, tmp_path, monkeypatch):
    first = METHODS[name].prepare(llama(), spec(name), tmp_path)
    assert (tmp_path / CACHE).is_file()
    monkeypatch.setattr(torch.linalg, "svd", None)
    again = METHODS[name].prepare(llama(), spec(name), tmp_path)
    for (key, value), (_, other) in zip(
        first.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(value, other), key


def test_kept_factors_of_another_rank_are_refused(llama, spec, tmp_path):
    METHODS["milora"].prepare(llama(), spec("milora"), tmp_path)
    with pytest.raises(ValueError, match=r"q_proj: .*delete the run's work folder"):
        METHODS["milora"].prepare(llama(), spec("milora", rank=5), tmp_path)


def test_rank_above_the_narrowest_layer_is_refused(llama, spec):
    with pytest.raises(ValueError, match=r"k_proj: rank 30 is more than its 24 singular values"):
        METHODS["milora"].prepare(llama(), spec("milora", rank=30))
