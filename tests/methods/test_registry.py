"""The registry: names, counts, requirements, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diablo.methods import METHODS, RANDOM, get_method


def test_registry_is_free_of_torch():
    code = "import sys, diablo.methods; print([m for m in ('torch', 'peft') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'milora'"):
        get_method("mi-lora")


@pytest.mark.parametrize("name", METHODS)
def test_counted_parameters_are_the_models(name, llama, spec, shapes, gradients):
    from diablo.training.finetune import count

    model = llama()
    assert sum(p.numel() for p in model.parameters()) == shapes.base_parameters
    settings = spec(name)
    counted = METHODS[name].parameters(
        shapes.widths(settings.modules),
        num_blocks=settings.num_blocks,
        rank=settings.rank,
        block_size=settings.block_size,
        chosen_blocks=settings.chosen_blocks,
        pattern=settings.pattern,
        base_parameters=shapes.base_parameters,
    )
    model = METHODS[name].prepare(model, settings, gradients=gradients)
    assert counted == count(model, trainable=True)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "zero-shot"])
def test_counted_parameters_are_those_a_step_moves(name, llama, spec, gradients):
    from torch.optim import SGD

    from diablo.training.finetune import count

    model = METHODS[name].prepare(llama(), spec(name), gradients=gradients)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    gradients(model, 8)
    # LoRA's gradient of A is zero until B has moved.
    for _ in range(2):
        SGD([p for p in model.parameters() if p.requires_grad], lr=0.5).step()
        gradients(model, 8)
    moved = [(key, (value != before[key]).sum()) for key, value in model.state_dict().items()]
    # The head is tied to the embedding, and its entry is the same tensor.
    assert sum(n for key, n in moved if "lm_head" not in key) <= count(model, trainable=True)
    assert sum(n for key, n in moved if "lm_head" not in key) > 0.9 * count(model, trainable=True)


def test_doras_magnitudes_are_counted(shapes):
    widths = shapes.widths(["q_proj", "k_proj"])
    lora, dora = (METHODS[name].parameters(widths, rank=4) for name in ("lora", "dora"))
    assert dora - lora == 2 * (48 + 24)  # one per output of each layer


@pytest.mark.parametrize("rank", [1, 7, 32])
def test_lori_d_is_half_of_lora_on_square_layers(rank):
    square, wide = [(64, 64)] * 3, [(64, 64), (64, 96)]
    counts = {n: METHODS[n].parameters(square, rank=rank) for n in ("lora", "lori-d", "lori-s")}
    assert 2 * counts["lori-d"] == counts["lora"] == rank * 6 * 64
    assert counts["lori-s"] == counts["lori-d"] // 10
    assert METHODS["lori-d"].parameters(wide, rank=rank) == rank * (64 + 96)


@pytest.mark.parametrize("name", ["diablo", *RANDOM])
@pytest.mark.parametrize("num_blocks", [5, 7, 40])
def test_counted_parameters_where_blocks_do_not_divide(name, num_blocks, llama, spec, shapes):
    settings = spec(name, num_blocks=num_blocks, modules=["k_proj", "down_proj"])
    counted = METHODS[name].parameters(shapes.widths(settings.modules), num_blocks=num_blocks)
    model = METHODS[name].prepare(llama(), settings)
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", RANDOM)
def test_random_patterns_have_diablos_size(name, shapes):
    widths = shapes.widths(["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"])
    diablo, random = METHODS["diablo"], METHODS[name]
    for num_blocks in (1, 2, 4, 8, 24):  # which divide all widths
        counts = [m.parameters(widths, num_blocks=num_blocks) for m in (diablo, random)]
        assert counts[0] == counts[1] == sum(m1 * m2 for m1, m2 in widths) // num_blocks


@pytest.mark.parametrize(
    ("name", "key"),
    [("lora", "rank"), ("lora", "alpha"), ("diablo", "num_blocks"), ("milora", "modules")],
)
def test_missing_setting_is_named(name, key, llama, spec):
    with pytest.raises(ValueError, match=rf"run tiny\.{name}: .*needs '{key}'"):
        METHODS[name].prepare(llama(), spec(name, **{key: [] if key == "modules" else None}))


def test_counting_without_a_setting_is_refused():
    with pytest.raises(ValueError, match="'lora' needs rank"):
        METHODS["lora"].parameters([(4, 4)])
