"""LoftQ: the run starts from the factors that were computed with the quantised base, and refuses others."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from diablo.methods import get_method


def test_starts_at_base_plus_the_computed_product(llama, spec, loftq):
    """W x + (alpha / r) B A x, layer by layer, from the files themselves."""
    factors = load_file(loftq / "loftq" / "adapter_model.safetensors")
    expected = llama()
    for key, a in factors.items():
        if key.endswith("lora_A.weight"):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = factors[key.replace("lora_A", "lora_B")]
            expected.get_submodule(name).weight.data += b @ a  # alpha = r = 4
    tokens = torch.arange(24).reshape(2, 12)
    model = get_method("loftq").prepare(llama(), spec("loftq"))
    torch.testing.assert_close(
        model(input_ids=tokens).logits, expected(input_ids=tokens).logits, atol=2e-5, rtol=1e-4
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == sum(tensor.numel() for tensor in factors.values())


def test_missing_adapter_says_what_to_do(llama, spec, tmp_path):
    with pytest.raises(ValueError, match=r"no LoftQ adapter in .*diablo quantize"):
        get_method("loftq").prepare(llama(), spec("loftq", model_path=str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"rank": 8}, "r = 4, run .* says 8"), ({"modules": ["q_proj"]}, "target_modules")],
    ids=["rank", "modules"],
)
def test_other_settings_are_refused(llama, spec, changes, words):
    with pytest.raises(ValueError, match=words):
        get_method("loftq").prepare(llama(), spec("loftq", **changes))


def test_factors_of_unknown_layers_are_refused(llama, spec, loftq, tmp_path):
    shutil.copytree(loftq, tmp_path / "other")
    folder = tmp_path / "other" / "loftq"
    factors = load_file(folder / "adapter_model.safetensors")
    factors = {key.replace("layers.1.", "layers.7."): one for key, one in factors.items()}
    save_file(factors, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"layers that the model lacks: .*layers\.7"):
        get_method("loftq").prepare(llama(), spec("loftq", model_path=str(folder.parent)))
