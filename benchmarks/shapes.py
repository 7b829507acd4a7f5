"""Models of the paper's shapes with random weights, made on the device; module trees can share them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

QKVUD = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]

#: Widths as the models' own config.json give them.
SHAPES: dict[str, dict] = {
    "llama3-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    },
    "llama2-7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    # For the tests of the benchmark itself.
    "tiny": {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}

Weights = dict[str, Tensor]


def config(shape: str, layers: int | None = None) -> LlamaConfig:
    """The shape's configuration, with all its layers or so many."""
    values = {**SHAPES[shape], **({} if layers is None else {"num_hidden_layers": layers})}
    return LlamaConfig(max_position_embeddings=2048, use_cache=False, **values)


def random_weights(
    shape: str, dtype: torch.dtype, device: str, seed: int = 0, layers: int | None = None
) -> Weights:
    """Normal weights of standard deviation 0.02; norms are one."""
    with torch.device("meta"):
        names = LlamaForCausalLM(config(shape, layers)).state_dict()
    generator = torch.Generator(device).manual_seed(seed)
    weights: Weights = {}
    for name, meta in names.items():
        tensor = torch.empty(meta.shape, dtype=dtype, device=device)
        if meta.dim() > 1:
            tensor.normal_(0, 0.02, generator=generator)
        else:
            tensor.fill_(1)
        weights[name] = tensor
    if config(shape).tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def build(shape: str, weights: Weights, own: str = "nothing") -> LlamaForCausalLM:
    """A model over the given weights, frozen; several models may share them.

    Args:
        own: what to copy, for a form that changes it for good: `nothing`, the `targets`, or `all`.
    """
    names = {"nothing": [], "targets": QKVUD, "all": [""]}[own]
    weights = {n: w.clone() if any(m in n for m in names) else w for n, w in weights.items()}
    layers = 1 + max(int(n.split(".")[2]) for n in weights if n.startswith("model.layers."))
    with torch.device("meta"):
        model = LlamaForCausalLM(config(shape, layers))
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    # Its frequencies are not in the state; they would stay without data.
    with weights["model.norm.weight"].device:
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
    return model.requires_grad_(False).train()
