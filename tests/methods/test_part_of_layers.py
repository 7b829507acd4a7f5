"""Only a part of the layers trains: which ones, how many parameters, and who refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from diablo.methods import METHODS
from diablo.settings import Settings
from diablo.shapes import Shapes

SHAPES = Shapes(layers=30, hidden=576, kv=192, ffn=1536, base_parameters=1)
ALLOWED = ("lora", "dora", "pissa", "milora", "diablo", "random-inputs")


def test_quarters_cover_all_layers_once():
    for layers in (4, 30, 32):
        shapes = Shapes(layers, 8, 8, 16, 1)
        parts = [shapes.part(f"{number}/4") for number in (1, 2, 3, 4)]
        assert [n for part in parts for n in part] == list(range(layers))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Shapes(32, 8, 8, 16, 1).part("2/4") == list(range(8, 16))


def test_widths_of_a_part():
    whole = SHAPES.widths(["q_proj", "v_proj"])
    parts = [SHAPES.widths(["q_proj", "v_proj"], f"{number}/4") for number in (1, 2, 3, 4)]
    assert sum(map(len, parts)) == len(whole) == 60
    assert len(parts[0]) == 14


@pytest.mark.parametrize(
    ("given", "says"), [("0/4", "layers"), ("5/4", "no part 5 of 4"), ("first", "layers")]
)
def test_mistakes_in_the_setting(given, says):
    with pytest.raises(ValueError, match=says):
        Settings(layers=given)


def test_models_without_such_parts():
    with pytest.raises(ValueError, match="layers = 1/4: the model has 3 layers"):
        Shapes(3, 8, 8, 16, 1).part("1/4")
    with pytest.raises(ValueError, match="one stack of layers"):
        Shapes(12, 8, 8, 16, 1, decoder_layers=12).part("1/4")


def make_spec(method, **changes):
    settings = {
        "run": "tiny",
        "method": method,
        "modules": ["q_proj", "down_proj"],
        "layers": [1, 2],
    }
    settings |= {"rank": 2, "alpha": 4.0, "dropout": 0.0, "num_blocks": 4, "seed": 0}
    return SimpleNamespace(**settings | {"precision": "fp32", **changes})


@pytest.mark.parametrize("method", ALLOWED)
def test_only_the_named_layers_train(method):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        vocab_size=20,
    )
    model = METHODS[method].prepare(LlamaForCausalLM(config), make_spec(method))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert {name.split("layers.")[1].split(".")[0] for name in trained} == {"1", "2"}


@pytest.mark.parametrize("method", ["full", "smt", "lori-s"])
def test_methods_that_need_all_layers_refuse(method):
    spec = make_spec(method, block_size=4, chosen_blocks=3, calibration=4, mask_adapter="x")
    with pytest.raises(ValueError, match=f"method '{method}' looks at all layers"):
        METHODS[method].check(spec)
