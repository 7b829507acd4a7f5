"""Base models with packed weights: training beside them, and merging only into dequantised ones."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel

from diablo.io import read_json
from diablo.methods import METHODS, load_for_inference
from diablo.methods.base import load_base, packing

TOKENS = torch.arange(24).reshape(2, 12)
# (LoftQ's base is its own, LoRI-S trains like LoRI-D.)
ABLE = [n for n, method in METHODS.items() if method.on_packed and n not in ("loftq", "lori-s")]
UNABLE = [
    name for name, method in METHODS.items() if not method.on_packed and method.artifact != "none"
]


def save_nf4(folder, plain):
    """A checkpoint of bitsandbytes' 4-bit layers."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, dtype=torch.float32
    )
    model.save_pretrained(folder)


def save_compressed(folder, plain):
    """A checkpoint of compressed-tensors, four bits in groups of 8."""
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    model = load_base(str(plain), "cpu", torch.float32)
    weights = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=8)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    config = QuantizationConfig(
        config_groups={"all": scheme}, ignore=["lm_head"], format="pack-quantized"
    )
    apply_quantization_config(model, config)
    for layer in model.modules():
        if hasattr(layer, "quantization_scheme"):
            groups = layer.weight.data.unflatten(1, (-1, 8))
            low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
            layer.weight_scale.data = (high - low) / 15
            zero = torch.round(-low / layer.weight_scale) - 8
            layer.weight_zero_point.data = zero.to(layer.weight_zero_point.dtype)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(str(folder))


@pytest.fixture(scope="session", params=["bitsandbytes", "compressed-tensors"])
def packed(request, tmp_path_factory):
    """(kind, folder) of a tiny model with packed weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "plain")
    save = save_nf4 if request.param == "bitsandbytes" else save_compressed
    save(folder / "packed", folder / "plain")
    return request.param, folder / "packed"


def logits(model):
    return model.train()(input_ids=TOKENS).logits


@pytest.mark.parametrize("name", ABLE)
def test_trains_saves_and_serves_the_dequantised_merge(name, packed, spec, tmp_path):
    kind, folder = packed
    settings = spec(name, model_path=str(folder))
    base = load_base(str(folder), "cpu", torch.float32)
    # transformers cannot compute with the weights of compressed-tensors: they are unpacked.
    assert packing(base) == (kind if kind == "bitsandbytes" else None)
    # In eval mode bitsandbytes packs weights anew, for another, less exact kernel.
    model = METHODS[name].prepare(base, settings).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    METHODS[name].save(model, tmp_path / "adapter")
    expected = logits(model)

    again = PeftModel.from_pretrained(
        load_base(str(folder), "cpu", torch.float32), tmp_path / "adapter"
    )
    torch.testing.assert_close(logits(again), expected, atol=1e-6, rtol=1e-5)

    served = load_for_inference(settings, tmp_path / "adapter")
    assert packing(served) is None
    torch.testing.assert_close(logits(served), expected, atol=2e-5, rtol=1e-4)

    served.save_pretrained(tmp_path / "merged")
    config = read_json(tmp_path / "merged" / "config.json")
    assert "quantization_config" not in config
    assert config["diablo_dequantised_to"] == "float32"
    plain = load_base(str(tmp_path / "merged"), "cpu", torch.float32)
    assert packing(plain) is None
    torch.testing.assert_close(logits(plain), logits(served))
    # Nothing but a plain model's tensors: an engine refuses names that it does not know.
    assert set(plain.state_dict()) == set(served.state_dict())
    assert not [key for key in served.state_dict() if "scale" in key or "zero_point" in key]


@pytest.mark.parametrize("name", UNABLE)
def test_methods_that_need_the_weights_refuse_packed_ones(name, packed, spec):
    kind, folder = packed
    if kind != "bitsandbytes":
        pytest.skip("the weights of compressed-tensors are unpacked")
    base = load_base(str(folder), "cpu", torch.float32)
    with pytest.raises(ValueError, match=rf"'{name}'.*packed; quantise with `form: fake`.*diablo"):
        METHODS[name].prepare(base, spec(name, model_path=str(folder)))


def test_diablo_takes_the_adapter_form_and_refuses_in_place(packed):
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from diablo.tuner import DiabloConfig

    base = AutoModelForCausalLM.from_pretrained(packed[1], dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    targets = ["q_proj", "down_proj"]
    model = get_peft_model(base, DiabloConfig(num_blocks=8, target_modules=targets))
    forms = {
        form for m in model.modules() if hasattr(m, "implementation") for form in m.implementation.values()
    }  # fmt: skip
    assert forms == {"adapter"}
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor
        for name, tensor in model.state_dict().items()
    }
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    assert all(p.grad.norm() > 0 for p in model.parameters() if p.requires_grad)
    config = DiabloConfig(num_blocks=8, target_modules=targets, implementation="inplace")
    with pytest.raises(ValueError, match="q_proj"):
        get_peft_model(AutoModelForCausalLM.from_pretrained(packed[1]), config)


def kept_for_backward(folder, adapter):
    """(trainable parameters, bytes that a forward pass on the NF4 base keeps for the backward pass)."""
    from peft import get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(load_base(str(folder), "cpu", torch.float32), adapter).train()
    tokens = torch.arange(4 * 64).reshape(4, 64) % 300
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(storage.nbytes() for storage in storages.values())


def test_a_step_keeps_at_most_what_qlora_keeps_with_as_many_parameters(packed):
    """On square layers m x m rank m / 2N has exactly DiaBlo's m² / N parameters."""
    from peft import LoraConfig

    from diablo import DiabloConfig

    kind, folder = packed
    if kind != "bitsandbytes":
        pytest.skip("the weights of compressed-tensors are unpacked")
    square = ["q_proj", "o_proj"]
    lora = kept_for_backward(folder, LoraConfig(r=4, lora_alpha=8, target_modules=square))
    ours = kept_for_backward(folder, DiabloConfig(num_blocks=8, target_modules=square))
    assert ours[0] == lora[0] == 2 * 2 * 64 * 64 // 8
    assert ours[1] <= lora[1]
