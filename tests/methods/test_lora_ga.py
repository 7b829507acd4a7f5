"""LoRA-GA against a direct SVD of the gradient."""

from __future__ import annotations

import json
import math

import pytest
import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora import preprocess_loraga

from diablo.methods import METHODS
from diablo.methods.lora import lora_layers
from diablo.methods.shifted import CACHE

METHOD = METHODS["lora-ga"]


def factors(layer):
    return tuple(getattr(layer, f"lora_{x}")["default"].weight.detach() for x in "AB")


def same_but_for_sign(ours, theirs):
    """Whether the rows of both are the same up to the sign of each, relative to the row's length."""
    signs = (ours * theirs).sum(1, keepdim=True).sign()
    return ((ours - signs * theirs).norm(dim=1) < 1e-3 * theirs.norm(dim=1)).all()


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def test_factors_are_the_gradients_singular_vectors(llama, spec, gradients):
    base = llama().double()
    gradients(base, 8)
    direct = {n: m.weight.grad for n, m in base.named_modules() if n.endswith("_proj")}
    model = METHOD.prepare(llama(), spec("lora-ga", rank=12), gradients=gradients)
    assert len(lora_layers(model)) == 10
    for name, layer in lora_layers(model):
        u, _, vt = torch.linalg.svd(direct[name.removeprefix("base_model.model.")])
        factor = u.shape[0] ** 0.25 / 4  # gamma = 16
        a, b = (f.double() for f in factors(layer))
        assert same_but_for_sign(a, factor * vt[:12]), name
        assert same_but_for_sign(b.T, factor * u[:, 12:24].T), name
        assert layer.scaling["default"] == 16 / math.sqrt(12)


def test_directions_are_pefts(llama, spec, gradients):
    ours = METHOD.prepare(llama(), spec("lora-ga", rank=12), gradients=gradients)
    settings = LoraConfig(
        r=12,
        lora_alpha=16,
        use_rslora=True,
        target_modules=spec("lora-ga").modules,
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(direction="ArB2r", scale="stable", stable_gamma=16),
    )
    base = llama()
    preprocess_loraga(base, settings, lambda: gradients(base, 8))
    theirs = get_peft_model(base, settings)
    for (name, one), (_, other) in zip(lora_layers(ours), lora_layers(theirs), strict=True):
        for mine, pefts in zip(factors(one), factors(other), strict=True):
            # Rows of A are the shorter axis, columns of B.
            mine, pefts = (f if f.shape[0] == 12 else f.T for f in (mine, pefts))
            assert same_but_for_sign(unit(mine), unit(pefts)), name


def test_nothing_but_the_factors_trains_after_it(llama, spec, gradients):
    model = METHOD.prepare(llama(), spec("lora-ga"), gradients=gradients)
    trained = {n.split(".")[-3] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    assert all(p.grad is None for p in model.parameters())


def test_the_size_of_the_gradient_changes_nothing(llama, spec, gradients):
    def scaled(model, examples):
        gradients(model, examples)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad *= 1024

    plain = METHOD.prepare(llama(), spec("lora-ga"), gradients=gradients)
    large = METHOD.prepare(llama(), spec("lora-ga"), gradients=scaled)
    for (name, one), (_, other) in zip(lora_layers(plain), lora_layers(large), strict=True):
        for left, right in zip(factors(one), factors(other), strict=True):
            torch.testing.assert_close(left.norm(), right.norm(), rtol=1e-5, atol=0, msg=name)


def test_the_number_of_examples_is_the_specs(llama, spec, gradients):
    asked = []

    def recorded(model, examples):
        asked.append(examples)
        gradients(model, examples)

    METHOD.prepare(llama(), spec("lora-ga", calibration=3), gradients=recorded)
    assert asked == [3]


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [(torch.float32, "fp32"), (torch.bfloat16, "bf16"), (torch.bfloat16, "bf16-pure")],
)
def test_a_restart_takes_the_kept_factors(dtype, precision, llama, spec, gradients, tmp_path):
    settings = spec("lora-ga", precision=precision)
    first = METHOD.prepare(llama(dtype), settings, tmp_path, gradients)
    assert (tmp_path / CACHE).is_file()
    again = METHOD.prepare(llama(dtype), settings, tmp_path)
    for (key, value), (_, other) in zip(
        first.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert torch.equal(value, other), key
    for folder, model in (("first", first), ("again", again)):
        METHOD.save(model, tmp_path / folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        files = [(tmp_path / folder / name).read_bytes() for folder in ("first", "again")]
        assert files[0] == files[1], name


def test_saved_with_twice_the_rank_at_the_same_scale(llama, spec, gradients, tmp_path):
    model = METHOD.prepare(llama(), spec("lora-ga", rank=6), gradients=gradients)
    METHOD.save(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["r"] == 12
    assert config["init_lora_weights"] is True
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    for (_, ours), (_, theirs) in zip(lora_layers(model), lora_layers(loaded), strict=True):
        assert theirs.scaling["default"] == pytest.approx(ours.scaling["default"], rel=1e-12)
        assert theirs.scaling["default"] == pytest.approx(16 / math.sqrt(6), rel=1e-12)


def test_without_gradients_it_is_refused(llama, spec):
    with pytest.raises(ValueError, match=r"run tiny\.lora-ga: .* was given no `gradients`"):
        METHOD.prepare(llama(), spec("lora-ga"))


def test_a_rank_above_half_the_narrowest_layer_is_refused(llama, spec, gradients):
    with pytest.raises(ValueError, match=r"k_proj: rank 13 needs 26 singular vectors .* has 24"):
        METHOD.prepare(llama(), spec("lora-ga", rank=13), gradients=gradients)
