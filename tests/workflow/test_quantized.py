"""Quantised base models in the plan: what is excluded, and what shares a model."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.config import Config
from diablo.data.catalog import load_catalog
from diablo.planning import resolve
from diablo.quantized import excluded
from diablo.settings import Quantize

SMALL = load_catalog().models["smollm2-135m"]


def rounded(weight: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Round-to-nearest on the min-max grid of each group, straight from its definition."""
    grouped = weight.reshape(-1, group)
    low, high = grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True)
    step = (high - low) / (2**bits - 1)
    return (torch.round((grouped - low) / step) * step + low).reshape(weight.shape)


@given(st.integers(2, 8), st.sampled_from([8, 16, 32, 64, 96, 192]), st.integers(0, 2**16))
@settings(max_examples=40)
def test_exactly_the_excluded_settings_reproduce_the_models_grid(
    bits: int, group: int, seed: int
) -> None:
    """Weights on a 4-bit grid with groups of 32, whose groups all use the whole grid."""
    random = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 16, (48, 32), generator=random).double()
    levels[:, 0], levels[:, -1] = 0, 15  # a group spans the range, its parts need not
    scale = torch.rand(48, 1, generator=random).double() + 0.5
    weight = ((levels - 7) * scale).reshape(8, 192)
    same = torch.allclose(rounded(weight, bits, group), weight, atol=1e-9)
    reason = excluded(SMALL, Quantize(quantizer="rtn", bits=bits, group_size=group))
    assert same == (reason is not None)


def test_the_reason_names_model_and_grid() -> None:
    reason = excluded(SMALL, Quantize(quantizer="gptq", bits=4, group_size=32))
    assert reason is not None
    for word in ("SmolLM2", "4-bit", "32", "excluded"):
        assert word in reason


@pytest.mark.parametrize(
    "changes",
    [{"symmetric": True}, {"shrink": 0.8}, {"group_size": None}, {"group_size": 64}, {"bits": 2}],
    ids=str,
)
def test_other_grids_are_not_excluded(changes: dict) -> None:
    setting = {"quantizer": "rtn", "bits": 4, "group_size": 32} | changes
    assert excluded(SMALL, Quantize(**setting)) is None


def test_nf4_has_one_form_only() -> None:
    with pytest.raises(ValueError, match="nf4 has 4 bits and groups of 64, not 2 bits"):
        Quantize(quantizer="nf4", bits=2, group_size=64)


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
def test_rows_that_differ_in_method_alone_share_a_quantised_model(scale: str) -> None:
    plan = resolve(Config(scale=scale))
    runs = [plan.runs[name] for name in plan.runs_of("table4")]
    assert all(run.quantized in plan.quantized for run in runs)
    for one, other in itertools.combinations(runs, 2):
        quantisers = {plan.quantized[run.quantized].quantizer for run in (one, other)}
        bits = {plan.quantized[run.quantized].bits for run in (one, other)}
        models = {one.model, other.model}
        if len(quantisers) == len(bits) == len(models) == 1:
            assert one.quantized == other.quantized
        else:
            assert one.quantized != other.quantized
    for run in runs:
        spec = plan.quantized[run.quantized]
        assert run.model_path.endswith(f"quantized/{spec.name}")
        assert (spec.rank is not None) == (run.method == "loftq")


def test_group_32_is_listed_with_its_reason() -> None:
    entries = resolve(Config(scale="demo")).tables["table4"]["quantizers"]
    found = {entry["label"]: entry for entry in entries}
    assert found["gptq4g32"]["path"] is None
    assert "reproduces exactly" in found["gptq4g32"]["reason"]
    assert found["gptq4g64"]["path"].endswith("quantization.json")
    # Two models of the paper, one stand-in: each setting once.
    assert len(entries) == len(found)


def test_paper_scale_excludes_nothing() -> None:
    entries = resolve(Config(scale="paper")).tables["table4"]["quantizers"]
    assert all(entry["path"] for entry in entries)
    assert {entry["model"] for entry in entries} == {"llama2-7b", "llama2-13b"}
