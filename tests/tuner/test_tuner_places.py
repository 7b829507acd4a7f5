"""Where drawn blocks lie: counts, seeds, and what an adapter's file keeps."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tuner_cases import CHOSEN, RANDOM, diablo_layers, llama, outputs

from diablo import DiabloConfig
from diablo.shapes import live_parameters, pattern_parameters, pattern_shape
from diablo.tuner import patterns
from diablo.tuner.ops import block_layout
from diablo.tuner.patterns import _draw, given_layout, pattern_layout


def places(layer):
    """The position of each block of the parameter, as an adapter's file has it."""
    return layer.state_dict()["diablo_positions.default"].tolist()


@settings(max_examples=200)
@given(m1=st.integers(1, 60), m2=st.integers(1, 60), data=st.data())
def test_counts_are_matched_on_the_entries_inside_the_weight(m1, m2, data):
    n = data.draw(st.integers(1, max(m1, m2)))
    ones = torch.ones(block_layout(m1, m2, n).shape)
    live = torch.block_diag(*ones)[:m1, :m2].sum().item()
    assert live_parameters([(m1, m2)], n) == live
    for pattern in RANDOM:
        count, d1, d2 = pattern_shape(pattern, (m1, m2), n)
        layout = pattern_layout(pattern, m1, m2, n)
        assert layout.shape == (count, d1, d2)
        realised = pattern_parameters(pattern, [(m1, m2)], n)
        assert realised == count * d1 * d2 <= m1 * m2
        room = count in (
            1,
            (m1 // d1) * (m2 // d2),
        )  # one block at least, and no more than there are
        assert room or abs(realised - live) <= d1 * d2 / 2
        if m1 % n == 0 == m2 % n or pattern == "entries":
            assert realised == live
        filled = torch.zeros(m2, m1)
        layout.write_(filled, torch.ones(layout.shape))
        assert filled.sum() == realised  # all places differ


@pytest.mark.parametrize("pattern", RANDOM)
def test_places_follow_from_seed_and_name_alone(pattern):
    def drawn(targets, seed=5, before=0):
        torch.manual_seed(before)
        config = DiabloConfig(
            pattern=pattern, pattern_seed=seed, num_blocks=4, target_modules=targets
        )
        model = get_peft_model(llama(), config)
        return {layer.module_name: places(layer) for layer in diablo_layers(model)}

    first, other = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"
    every = drawn(["q_proj", "v_proj", "down_proj"])
    assert drawn(["q_proj"], before=1).items() <= every.items()
    assert every[first] != every[other]
    assert drawn(["q_proj"], seed=6)[first] != every[first]
    assert (
        sorted(every[first], key=lambda p: p[::-1] if pattern == "entries" else p) == every[first]
    )


def test_drawing_leaves_other_generators_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    pattern_layout("entries", 24, 40, 4)
    assert (torch.rand(1), np.random.rand()) == expected


def test_a_seeds_places_never_change():
    """A run that is resumed draws again, maybe with other versions of its packages."""
    inputs = pattern_layout("inputs", 64, 32, 16, 7, "q_proj").positions[:, 0]
    assert inputs.tolist() == [38, 57, 58, 62]
    entries = [343813390, 464111974, 558257690, 720197598, 938761749, 961617705]
    assert _draw(6, 10**9, "0/entries/x").tolist() == entries


def test_every_set_of_places_is_as_likely():
    """Both ways of drawing, on few and on many of ten places: shares of places and of pairs of them."""
    for count in (3, 7):
        tries = 4000
        seen, pairs = torch.zeros(10), torch.zeros(10, 10)
        for key in range(tries):
            chosen = torch.zeros(10)
            chosen[torch.from_numpy(_draw(count, 10, str(key)))] = 1
            assert chosen.sum() == count
            seen += chosen
            pairs += chosen.outer(chosen)
        share, both = count / 10, count * (count - 1) / 90
        for found, wanted in ((seen, share), (pairs[~torch.eye(10, dtype=bool)], both)):
            spread = math.sqrt(tries * wanted * (1 - wanted))
            assert (found - tries * wanted).abs().max() < 4.5 * spread


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


def saved(folder, pattern):
    config = DiabloConfig(
        pattern=pattern, num_blocks=4, target_modules=["q_proj"], init_weights=False
    )
    model = get_peft_model(llama(), config)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("pattern", RANDOM)
def test_loading_takes_the_places_from_the_file(pattern, tmp_path, monkeypatch):
    model = saved(tmp_path, pattern)
    settings_ = json.loads((tmp_path / CONFIG).read_text())
    assert (settings_["pattern"], settings_["pattern_seed"]) == (pattern, 0)
    monkeypatch.setattr(patterns, "_draw", lambda count, total, key: np.arange(count))
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    for a, b in zip(diablo_layers(model), diablo_layers(loaded), strict=True):
        assert places(a) == places(b)
        assert places(b) != list(range(len(places(b))))
    torch.testing.assert_close(outputs(loaded), outputs(model), rtol=0, atol=0)
    loaded.save_pretrained(tmp_path / "again")
    first, again = load_file(tmp_path / WEIGHTS), load_file(tmp_path / "again" / WEIGHTS)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("spoiled", ["none", "fewer", "outside"])
def test_a_file_with_wrong_places_is_refused(spoiled, tmp_path):
    saved(tmp_path, "inputs")
    tensors = load_file(tmp_path / WEIGHTS)
    key = f"{Q_PROJ}.diablo_positions"
    positions = tensors.pop(key)
    message = r"layers\.0\.self_attn\.q_proj: adapter 'default'"
    if spoiled == "none":
        message += " is saved without the places of its blocks"
    elif spoiled == "fewer":
        tensors[key] = positions[:-1].clone()
        message += r": there are positions of shape \(5, 2\).*needs \(6, 2\)"
    else:
        tensors[key] = positions + 20
        message += ": there is a block at .*24 input blocks and 1 output blocks"
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(llama(), tmp_path)


def test_adapters_from_before_there_were_patterns(tmp_path):
    """Neither settings nor tensors of diagonal and of chosen blocks have changed."""
    for name, options in (
        ("diagonal", {"num_blocks": 5, "target_modules": ["q_proj"]}),
        ("smt", CHOSEN),
    ):
        model = get_peft_model(llama(), DiabloConfig(init_weights=False, **options))
        model.save_pretrained(tmp_path / name)
        assert all(k.endswith("diablo_blocks") for k in load_file(tmp_path / name / WEIGHTS))
        path = tmp_path / name / CONFIG
        settings_ = json.loads(path.read_text())
        for key in ("pattern", "pattern_seed"):
            del settings_[key]
        path.write_text(json.dumps(settings_))
        loaded = PeftModel.from_pretrained(llama(), tmp_path / name)
        torch.testing.assert_close(outputs(loaded), outputs(model), rtol=0, atol=0)


def test_a_whole_models_state_keeps_its_places():
    """As a checkpoint of the whole model does, also under the names of several adapters."""
    config = DiabloConfig(
        pattern="entries", num_blocks=4, target_modules=["q_proj"], init_weights=False
    )
    model = get_peft_model(llama(), config)
    other = DiabloConfig(pattern="outputs", pattern_seed=4, num_blocks=4, target_modules=["q_proj"])
    model.add_adapter("other", other)
    state = model.state_dict()
    assert len([key for key in state if "diablo_positions" in key]) == 2 * 2
    other.pattern_seed = config.pattern_seed = 9
    twin = get_peft_model(llama(), config)
    twin.add_adapter("other", other)
    assert twin.load_state_dict(state).missing_keys == []
    for a, b in zip(state.values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(outputs(twin), outputs(model), rtol=0, atol=0)
    model.delete_adapter("other")
    assert not [key for key in model.state_dict() if key.endswith("other")]
    with pytest.raises(RuntimeError, match=r"Unexpected key.*diablo_positions\.other"):
        model.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "rows"}, "pattern must be one of diagonal, .*entries, but it is 'rows'"),
        ({"pattern": "inputs", "pattern_seed": -1}, "pattern_seed must be .* it is -1"),
        ({"pattern": "entries", "block_size": 4}, "block_size and block_positions need each other"),
        (
            {"pattern": "inputs", "block_size": 4, "block_positions": {"q": [[0, 0]]}},
            "block_size=4 is the edge of squares, but pattern is 'inputs'",
        ),
        (
            {
                "pattern": "inputs",
                "block_positions": {"q": [[0, 0]]},
                "num_blocks_pattern": {"q": 2},
            },
            "num_blocks_pattern.*drop it, or block_positions",
        ),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        DiabloConfig(**options)


def test_given_places_are_checked():
    with pytest.raises(ValueError, match=r"\[3, 0\].*1 x 6.*3 input blocks and 1 output blocks"):
        given_layout("inputs", 3, 6, 2, [[0, 0], [3, 0]])
    with pytest.raises(ValueError, match=r"\[0, 1\].*3 input blocks and 1 output blocks"):
        given_layout("inputs", 3, 6, 2, [[0, 1]])
    with pytest.raises(ValueError, match="num_blocks must be at least 1 and at most 6"):
        given_layout("blocks", 3, 6, 7, [[0, 1]])
    assert given_layout("entries", 3, 6, 64, [[2, 1]]).shape == (1, 1, 1)
