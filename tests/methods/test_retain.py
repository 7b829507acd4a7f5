"""Keeping a pattern's part of a full update, against dense masks."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from diablo.analysis.retain import model_layouts, retain
from diablo.methods import METHODS, RANDOM

TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
PATTERNS = ["diagonal", *RANDOM.values()]
N = 7  # divides no width


def states(llama, dtype=torch.float32):
    """W0, and a W1 that differs from it in every parameter."""
    start = llama(dtype).state_dict()
    generator = torch.Generator().manual_seed(5)
    return start, {
        key: value + (torch.randn(value.shape, generator=generator) / 20).to(dtype)
        for key, value in start.items()
    }


def mask(layout, n=N):
    """Of a torch weight, from the definition of each pattern."""
    m1, m2 = layout.in_features, layout.out_features
    count, d1, d2 = layout.shape
    if not hasattr(layout, "positions"):
        assert (d1, d2) == (math.ceil(m1 / n), math.ceil(m2 / n))
        return torch.block_diag(*torch.ones(count, d1, d2))[:m1, :m2].T
    found = torch.zeros(m1, m2)
    for i, j in layout.positions.tolist():
        found[i * d1 : (i + 1) * d1, j * d2 : (j + 1) * d2] = 1
    return found.T


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_kept_is_the_masked_update_times_gamma(pattern, dtype, llama):
    start, tuned = states(llama, dtype)
    kept = copy.deepcopy((start, tuned))
    model = llama(dtype)
    layouts = model_layouts(model, TARGETS, pattern, N, seed=3)
    assert len(layouts) == 2 * len(TARGETS)
    for gamma in (1.0, 2.5, 0.0):  # one after the other, on the same model
        assert retain(model, start, tuned, layouts, gamma) is model
        found = model.state_dict()
        for key, before in start.items():
            layout = layouts.get(key.removesuffix(".weight"))
            if layout is None:
                assert torch.equal(found[key], before), key
                continue
            wide = torch.promote_types(dtype, torch.float32)
            update = tuned[key].to(wide) - before.to(wide)
            expected = (before.to(wide) + gamma * mask(layout) * update).to(dtype)
            assert torch.equal(found[key], expected), key
    for state, before in zip((start, tuned), kept, strict=True):
        assert all(torch.equal(state[key], before[key]) for key in before)


@pytest.mark.parametrize("name", RANDOM)
def test_kept_is_what_the_method_with_the_same_seed_trains(name, llama, spec):
    model = METHODS[name].prepare(llama(), spec(name, num_blocks=N, seed=3))
    trained = {
        m.module_name: m.layouts["default"] for m in model.modules() if hasattr(m, "layouts")
    }
    layouts = model_layouts(llama(), TARGETS, RANDOM[name], N, seed=3)
    assert trained.keys() == layouts.keys()
    for key, layout in layouts.items():
        assert layout.shape == trained[key].shape
        assert torch.equal(layout.positions, trained[key].positions)


def test_one_block_keeps_all_of_the_targeted_weights(llama):
    start, tuned = states(llama, torch.float64)
    model = llama(torch.float64)
    retain(model, start, tuned, model_layouts(model, ["q_proj"], "diagonal", 1), 1.0)
    for key, value in model.state_dict().items():
        expected = tuned if key.endswith("q_proj.weight") else start
        torch.testing.assert_close(value, expected[key], rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_much_is_kept_by_every_pattern(pattern, llama):
    """8 divides all widths, so every pattern keeps an eighth."""
    layouts = model_layouts(llama(), TARGETS, pattern, 8)
    entries = sum(layout.in_features * layout.out_features for layout in layouts.values())
    assert sum(mask(layout, 8).sum() for layout in layouts.values()) * 8 == entries


def test_what_does_not_fit_is_refused(llama):
    start, tuned = states(llama)
    model = llama()
    layouts = model_layouts(model, ["q_proj"], "inputs", 8)
    key = "model.layers.1.self_attn.q_proj.weight"
    lacking = {name: value for name, value in tuned.items() if name != key}
    with pytest.raises(ValueError, match=rf"{key} is not in the state dict"):
        retain(model, start, lacking, layouts, 1.0)
    with pytest.raises(ValueError, match=rf"{key} has shape \(48, 24\), .* is for \(48, 48\)"):
        retain(model, {**start, key: tuned[key][:, :24]}, tuned, layouts, 1.0)
    with pytest.raises(ValueError, match="gamma must be a finite number, but it is nan"):
        retain(model, start, tuned, layouts, math.nan)
    with pytest.raises(ValueError, match=r"modules \['nowhere'\] match no linear layer"):
        model_layouts(model, ["nowhere"], "inputs", 8)
    with pytest.raises(ValueError, match=r"k_proj: num_blocks must be .* at most 48"):
        model_layouts(model, ["k_proj"], "inputs", 49)
