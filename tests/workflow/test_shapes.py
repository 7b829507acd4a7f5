"""Widths and parameter counts without torch: both kinds of model, and what `modules: all` means."""

from __future__ import annotations

import pytest

from diablo.data.catalog import Model, load_catalog
from diablo.realise import linear_modules
from diablo.settings import Settings
from diablo.shapes import Shapes, diablo_parameters, lora_parameters

T5 = Shapes(12, 768, 768, 3072, 222_903_552, decoder_layers=12)
LLAMA = Shapes(2, 8, 4, 16, 1000)


def test_every_linear_layer_of_either_kind() -> None:
    everything = Settings(modules="all")
    assert linear_modules(everything, T5) == ["q", "k", "v", "o", "wi", "wo"]
    letters = linear_modules(Settings(modules="qkvogud"), LLAMA)
    assert linear_modules(everything, LLAMA) == letters
    assert len(letters) == 7


def test_a_decoder_of_t5_attends_twice() -> None:
    assert len(T5.widths(["q"])) == 12 + 2 * 12
    assert T5.widths(["wi"]) == [(768, 3072)] * 24
    narrow = Shapes(1, 1024, 4096, 16384, 1, decoder_layers=1)  # T5-3B: heads wider than the model
    assert set(narrow.widths(["k"])) == {(1024, 4096)}
    assert set(narrow.widths(["o"])) == {(4096, 1024)}


def test_table8_counts_more_than_it_prints() -> None:
    """1.1 % of T5-base is neither N = 64 nor r = 8 on every linear layer (D-07)."""
    widths = T5.widths(T5.modules)
    blocks, factors = diablo_parameters(widths, 64), lora_parameters(widths, 8)
    assert (blocks, factors) == (3_096_576, 3_244_032)
    assert 100 * blocks / T5.base_parameters == pytest.approx(1.389, abs=5e-4)
    assert 100 * factors / T5.base_parameters == pytest.approx(1.455, abs=5e-4)


def test_the_base_model_is_what_its_shapes_say() -> None:
    """Embeddings (tied), linear layers, norms, and the two tables of relative positions."""
    declared = load_catalog().models["t5-base"].shapes
    assert Shapes(**declared.model_dump(exclude={"heads", "vocab"})) == T5
    linear = sum(m1 * m2 for m1, m2 in T5.widths(T5.modules))
    norms = (12 * 2 + 1 + 12 * 3 + 1) * 768
    assert 32128 * 768 + linear + norms + 2 * 32 * 12 == T5.base_parameters


def test_a_llamas_letters_do_not_fit_a_t5() -> None:
    with pytest.raises(ValueError, match=r"\['q_proj'\]: not linear layers .* `modules: all`"):
        T5.widths(linear_modules(Settings(modules="q"), T5))


def test_the_kind_of_a_model_and_its_shapes_belong_together() -> None:
    entry = load_catalog().models["t5-base"].model_dump()
    with pytest.raises(ValueError, match="decoder_layers"):
        Model.model_validate(entry | {"kind": "causal"})
