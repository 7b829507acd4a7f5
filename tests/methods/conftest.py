"""A tiny Llama with grouped queries, and a run's settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

MODULES = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="session")
def shapes():
    """The tiny model's widths, as the planner knows them."""
    from diablo.shapes import Shapes

    return Shapes(layers=2, hidden=48, kv=24, ffn=96, base_parameters=56112)


def tiny_config():
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )


@pytest.fixture
def llama():
    """Builds the same tiny random model at every call."""
    import torch
    from transformers import LlamaForCausalLM

    def build(dtype=torch.float32):
        torch.manual_seed(0)
        return LlamaForCausalLM(tiny_config()).to(dtype)

    return build


@pytest.fixture(scope="session")
def lori_d(tmp_path_factory):
    """Builds a finished LoRI-D adapter of a rank for the tiny model: B is random, its shape is LoRA's."""
    from functools import cache

    @cache
    def build(rank):
        import torch
        from safetensors.torch import save_file

        folder = tmp_path_factory.mktemp(f"lori-d-r{rank}")
        generator = torch.Generator().manual_seed(3)
        widths = {
            "self_attn.q_proj": (48, 48),
            "self_attn.k_proj": (48, 24),
            "self_attn.v_proj": (48, 24),
            "mlp.up_proj": (48, 96),
            "mlp.down_proj": (96, 48),
        }
        tensors = {}
        for layer in range(2):
            for name, (m1, m2) in widths.items():
                key = f"base_model.model.model.layers.{layer}.{name}.lora_"
                tensors[key + "A.weight"] = torch.randn(rank, m1, generator=generator) / 7
                tensors[key + "B.weight"] = torch.randn(m2, rank, generator=generator) / 7
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return build


@pytest.fixture(scope="session")
def loftq(tmp_path_factory):
    """A base model's folder with LoftQ's adapter of rank 4 in it; the factors are random."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("loftq")
    model = get_peft_model(
        LlamaForCausalLM(tiny_config()), LoraConfig(r=4, lora_alpha=4, target_modules=MODULES)
    )
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 50
    model.save_pretrained(str(folder / "loftq"), save_embedding_layers=False)
    return folder


@pytest.fixture
def spec(lori_d, loftq):
    """Builds a run's settings; the keywords change single ones."""

    def build(method, **changes):
        settings = {
            "run": f"tiny.{method}",
            "method": method,
            "modules": MODULES,
            "rank": 4,
            "alpha": 8.0,
            "num_blocks": 8,
            "dropout": 0.0,
            "precision": "fp32",
            "calibration": 8,
            "block_size": 8,
            "chosen_blocks": 6,
            "mask_adapter": None,
            "pattern": None,
            "model_path": str(loftq),
            "seed": 0,
        }
        if method in ("full", "zero-shot"):
            settings["modules"] = []
        if method in ("pissa", "milora", "lora-ga"):
            settings["alpha"] = None
        if method == "lori-s":
            settings["mask_adapter"] = str(lori_d(4))
        if method == "retained":
            # Only its search reads the model.
            settings |= {
                "pattern": "inputs",
                "full_adapter": "full",
                "gammas": [1.0],
                "held_out": 4,
            }
        return SimpleNamespace(**{**settings, **changes})

    return build


@pytest.fixture
def gradients():
    """A run's gradients, as the training loop gives them: eight examples of sixteen tokens."""
    import torch

    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(300, (8, 16), generator=generator)

    def add(model, examples):
        batch = tokens[:examples]
        model(input_ids=batch, labels=batch).loss.backward()

    return add
