"""Tiny models, the table of cases that all shared checks run through, and a dense reference."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from peft import get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from diablo import DiabloConfig, DiabloLinear

#: The patterns that are drawn.
RANDOM = ["blocks", "inputs", "outputs", "entries"]
ALL = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


def llama(dtype=torch.float32, **kwargs):
    """Widths 24, 12 (keys and values) and 40: N=8 divides the first and last only."""
    torch.manual_seed(1)
    settings = {
        "vocab_size": 50,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "initializer_range": 0.2,
        **kwargs,
    }
    return LlamaForCausalLM(LlamaConfig(**settings)).to(dtype)


def t5():
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=50, d_model=16, d_kv=4, num_heads=4, d_ff=24, num_layers=1, dropout_rate=0.0
    )
    config.decoder_start_token_id = 0
    return T5ForConditionalGeneration(config)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 50, (2, 7), generator=generator)
    return {"input_ids": ids, "labels": ids.clone()}


@dataclass
class Case:
    name: str
    options: dict
    build: object = llama
    model_options: dict = field(default_factory=dict)
    # endings of the names of the trainable parameters, beside the blocks
    also_trained: tuple[str, ...] = ()
    layers: int = 10  # how many layers get blocks

    def base(self):
        return self.build(**self.model_options)

    def config(self, **changes):
        return DiabloConfig(
            **{"target_modules": list(ALL), "num_blocks": 4, **self.options, **changes}
        )

    def model(self, **changes):
        return get_peft_model(self.base(), self.config(**changes))

    @property
    def random(self):
        """A model whose blocks are not zero."""
        return self.model(init_weights=False)


# Widths 24, 12 and 40 in blocks of 4: some share inputs, some outputs; most layers have none.
CHOSEN = {
    "block_size": 4,
    "block_positions": {
        "model.layers.0.self_attn.q_proj": [[0, 0], [0, 3], [5, 3], [2, 5]],
        "model.layers.0.self_attn.v_proj": [[4, 1]],
        "model.layers.0.mlp.down_proj": [[9, 5], [1, 5], [1, 0], [8, 2], [0, 2]],
        "model.layers.1.mlp.up_proj": [[i, j] for j in range(10) for i in range(3)],
    },
}
# Entries at given places, not in the order of the weight; most layers have none.
ENTRIES = {
    "pattern": "entries",
    "block_positions": {
        "model.layers.0.self_attn.q_proj": [
            [i, j] for i in range(24) for j in range(24) if (i + j) % 3 == 0
        ],
        "model.layers.1.mlp.down_proj": [[i, i % 24] for i in range(40)][::-1],
    },
}
T5_NAMES = ["q", "v", "wi", "wo"]
CASES = [
    Case("n1", {"num_blocks": 1}),
    Case("n4-auto", {}),
    Case("n4-adapter", {"implementation": "adapter"}),
    Case("n5-inplace", {"num_blocks": 5, "implementation": "inplace"}),
    Case("n5-adapter", {"num_blocks": 5, "implementation": "adapter"}),
    Case("n24", {"num_blocks": 24}),
    Case("all-linear", {"target_modules": "all-linear"}, layers=14),
    Case("regex", {"target_modules": r".*\.1\..*(q|v)_proj"}, layers=2),
    Case("layer-0", {"layers_to_transform": [0]}, layers=5),
    Case("exclude", {"exclude_modules": ["k_proj"]}, layers=8),
    Case("pattern", {"num_blocks_pattern": {"q_proj": 2, r"1\.mlp\.up_proj": 10}}),
    Case(
        "bias-all", {"bias": "all"}, model_options={"attention_bias": True}, also_trained=(".bias",)
    ),
    Case(
        "bias-only",
        {"bias": "diablo_only", "target_modules": ["q_proj"]},
        model_options={"attention_bias": True},
        also_trained=("q_proj.base_layer.bias",),
        layers=2,
    ),
    Case(
        "modules-to-save",
        {"modules_to_save": ["lm_head"]},
        also_trained=("lm_head.modules_to_save.default.weight",),
    ),
    Case("dropout", {"dropout": 0.3}),
    Case("chosen-auto", CHOSEN, layers=4),
    Case("chosen-adapter", {**CHOSEN, "implementation": "adapter"}, layers=4),
    Case("chosen-alone", {**CHOSEN, "target_modules": None, "implementation": "inplace"}, layers=4),
    Case("chosen-dropout", {**CHOSEN, "dropout": 0.3}, layers=4),
    *(Case(f"{pattern}-auto", {"pattern": pattern}) for pattern in RANDOM),
    *(
        Case(f"{pattern}-adapter", {"pattern": pattern, "implementation": "adapter"})
        for pattern in RANDOM
    ),
    Case("entries-given", ENTRIES, layers=2),
    Case("inputs-dropout", {"pattern": "inputs", "dropout": 0.3}),
    Case("t5-auto", {"target_modules": T5_NAMES}, build=t5, layers=10),
    Case("t5-adapter", {"target_modules": T5_NAMES, "implementation": "adapter"}, build=t5),
]


def outputs(model, seed=0):
    model.eval()
    with torch.no_grad():
        return model(**batch(seed)).logits.clone()


def weights(model):
    """Copies of the weights of the base layers as they are at this moment."""
    layers = diablo_layers(model)
    return [layer.get_base_layer().weight.detach().clone() for layer in layers]


def diablo_layers(model):
    return [module for module in model.modules() if isinstance(module, DiabloLinear)]


def blocks(model):
    return [p for n, p in model.named_parameters() if "diablo_blocks" in n]


def one_layer(
    m1=8, m2=12, num_blocks=4, implementation="auto", bias=True, dtype=torch.float32, **kw
):
    """A DiaBlo layer around a linear layer, with blocks that are not zero."""
    torch.manual_seed(3)
    base = nn.Linear(m1, m2, bias=bias).to(dtype)
    model = nn.Sequential(base)
    config = DiabloConfig(
        num_blocks=num_blocks,
        implementation=implementation,
        target_modules=["0"],
        init_weights=False,
        **kw,
    )
    base.requires_grad_(False)
    layer = DiabloLinear(model[0], "default", num_blocks, config, "0")
    with torch.no_grad():
        layer.diablo_blocks["default"].normal_(std=0.3)
    return layer


def dense(blocks_, m1, m2):
    """D as the paper builds it: an N*d1 by N*d2 block diagonal matrix, cut to m1 by m2."""
    return torch.block_diag(*blocks_.detach().double())[:m1, :m2]


def clone(model):
    return copy.deepcopy(model)
