"""The cheaper decoding step is transformers' own, in another order of memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from diablo.data.decoding import Decoding
from diablo.generation.decode_step import NAME, RoomyLayer, grouped_attention, with_room
from diablo.generation.transformers_engine import TransformersEngine


@given(
    steps=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    room=st.integers(0, 12),
    seed=st.integers(0, 9),
)
@settings(max_examples=40)
def test_a_layer_with_room_holds_what_transformers_own_does(steps, room, seed):
    """Also where more tokens come than there is room for."""
    generator = torch.Generator().manual_seed(seed)
    roomy, own = DynamicCache(), DynamicCache()
    roomy.update(*torch.zeros(2, 2, 3, 0, 4), 0)
    roomy.layers[0] = RoomyLayer(room)
    for tokens in steps:
        new = torch.randn(2, 2, 3, tokens, 4, generator=generator)
        for mine, theirs in zip(roomy.update(*new, 0), own.update(*new, 0), strict=True):
            assert torch.equal(mine, theirs)
    assert roomy.get_seq_length() == own.get_seq_length() == sum(steps)


def small(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes})).eval()


def test_room_within_which_nothing_is_copied():
    model = small()
    cache = with_room(None, model, 5)
    for _ in range(4):
        cache.update(*torch.zeros(2, 1, 2, 1, 8), 0)
    first = cache.layers[0].keys.data_ptr()
    cache.update(*torch.zeros(2, 1, 2, 1, 8), 0)
    assert cache.layers[0].keys.data_ptr() == first


def test_what_is_in_a_cache_stays_there():
    model = small()
    with torch.no_grad():
        filled = model(torch.tensor([[1, 2, 3]]), use_cache=True).past_key_values
    before = [(layer.keys.clone(), layer.values.clone()) for layer in filled.layers]
    roomy = with_room(filled, model, 4)
    for (keys, values), layer in zip(before, roomy.layers, strict=True):
        assert isinstance(layer, RoomyLayer)
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(6, 2), (4, 4), (4, 1)])
@pytest.mark.parametrize("tokens", [1, 3])
def test_grouped_attention_is_attention(masked, heads, shared, tokens):
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = heads // shared, True
    query = torch.randn(3, heads, tokens, 8, dtype=torch.float64)
    key, value = torch.randn(2, 3, shared, 7, 8, dtype=torch.float64)
    mask = None
    if masked:
        mask = torch.ones(3, 1, tokens, 7, dtype=torch.bool)
        mask[1, :, :, :4] = False
    given = (module, query, key, value, mask)
    wanted, _ = sdpa_attention_forward(*given, scaling=0.3)
    found, _ = grouped_attention(*given, scaling=0.3)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 3])
def test_an_engine_decodes_the_same_tokens(samples):
    """Prompts of several lengths, so that there is padding and a mask."""
    generator = torch.Generator().manual_seed(1)
    prompts = [
        torch.randint(3, 50, (length,), generator=generator).tolist() for length in (9, 4, 7)
    ]
    found = {}
    for own in (True, False):
        model = small()
        engine = TransformersEngine(model, None, [2])
        assert model.config._attn_implementation == NAME
        if own:
            model.set_attn_implementation("sdpa")
        temperature = 0.0 if samples == 1 else 0.8
        decoding = Decoding(temperature=temperature, samples=samples, max_new_tokens=12)
        found[own] = engine.complete(prompts, decoding)
    assert found[True] == found[False]


def test_a_model_with_another_attention_keeps_it():
    model = small()
    model.set_attn_implementation("eager")
    TransformersEngine(model, None, [2])
    assert model.config._attn_implementation == "eager"
