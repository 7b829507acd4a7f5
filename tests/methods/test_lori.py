"""LoRI-D and LoRI-S against their definitions, under real optimisers."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from diablo.methods import METHODS
from diablo.methods.lori import largest

OPTIMISERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.3, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.3, momentum=0.9),
}


def factors(model, letter):
    key = f".lora_{letter}.default.weight"
    return {
        name.removesuffix(key): p.detach().clone()
        for name, p in model.named_parameters()
        if name.endswith(key)
    }


def train(model, gradients, optimiser="adamw", steps=3):
    parameters = [p for p in model.parameters() if p.requires_grad]
    stepper = OPTIMISERS[optimiser](parameters)
    for _ in range(steps):
        stepper.zero_grad()
        gradients(model, 8)
        stepper.step()


def test_lori_d_freezes_loras_a(llama, spec, gradients):
    torch.manual_seed(5)
    lora = METHODS["lora"].prepare(llama(), spec("lora"))
    torch.manual_seed(5)
    lori = METHODS["lori-d"].prepare(llama(), spec("lori-d"))
    before = factors(lori, "A")
    train(lori, gradients)
    for name, start in factors(lora, "A").items():
        assert torch.equal(before[name], start)
        assert torch.equal(factors(lori, "A")[name], start)
    assert all((b != 0).all() for b in factors(lori, "B").values())


def test_lori_d_trains_half_of_lora_on_square_layers(llama, spec):
    settings = {"modules": ["q_proj", "o_proj"], "rank": 6}
    lora, lori = (
        METHODS[name].prepare(llama(), spec(name, **settings)) for name in ("lora", "lori-d")
    )
    trained = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (lora, lori)]
    assert trained[0] == 2 * trained[1] == 2 * 4 * 6 * 48


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_lori_s_trains_the_largest_tenth_and_nothing_else(
    optimiser, llama, spec, gradients, lori_d
):
    finished = load_file(lori_d(4) / "adapter_model.safetensors")
    dense = {k: t for k, t in finished.items() if "lora_B" in k}
    sizes = sorted(torch.cat([t.abs().flatten() for t in dense.values()]).tolist(), reverse=True)
    assert len(sizes) == 1920
    threshold = sizes[192 - 1]  # global: the 192nd largest of 1920
    model = METHODS["lori-s"].prepare(llama(), spec("lori-s"))
    assert all((b == 0).all() for b in factors(model, "B").values())
    train(model, gradients, optimiser)
    kept = {
        name: finished[f"{name}.lora_B.weight"].abs() >= threshold for name in factors(model, "B")
    }
    assert len(kept) == 10
    assert len({int(mask.sum()) for mask in kept.values()}) > 1  # not the same share in every layer
    for name, b in factors(model, "B").items():
        assert torch.equal(b != 0, kept[name]), name
        assert torch.equal(factors(model, "A")[name], finished[f"{name}.lora_A.weight"]), name


def test_lori_s_is_saved_as_an_ordinary_lora(llama, spec, gradients, lori_d, tmp_path):
    model = METHODS["lori-s"].prepare(llama(), spec("lori-s"))
    train(model, gradients)
    METHODS["lori-s"].save(model, tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(int((t != 0).sum()) for k, t in saved.items() if "lora_B" in k) == 192
    finished = load_file(lori_d(4) / "adapter_model.safetensors")
    assert all(torch.equal(saved[k], t) for k, t in finished.items() if "lora_A" in k)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    for name, b in factors(model, "B").items():
        assert torch.equal(factors(loaded, "B")[name], b)


def test_lori_s_follows_the_adapter_that_lori_d_saved(llama, spec, gradients, tmp_path):
    dense = METHODS["lori-d"].prepare(llama(), spec("lori-d"))
    train(dense, gradients)
    METHODS["lori-d"].save(dense, tmp_path)
    torch.manual_seed(99)  # another seed would draw another A
    sparse = METHODS["lori-s"].prepare(llama(), spec("lori-s", mask_adapter=str(tmp_path)))
    for name, a in factors(dense, "A").items():
        assert torch.equal(factors(sparse, "A")[name], a)


def test_an_overflow_stays_out_of_what_is_held(llama, spec):
    model = METHODS["lori-s"].prepare(llama(), spec("lori-s"))
    b = next(p for n, p in model.named_parameters() if "lora_B" in n)
    (b * float("inf")).sum().backward()
    assert set(b.grad.unique().tolist()) == {0.0, float("inf")}


def test_equal_magnitudes_still_give_the_exact_number():
    matrices = [torch.ones(3, 4), -torch.ones(2, 4), torch.full((1, 4), 2.0)]
    masks = largest(matrices, 7)
    assert [mask.shape for mask in masks] == [matrix.shape for matrix in matrices]
    assert [int(mask.sum()) for mask in masks] == [3, 0, 4]


def test_a_missing_mask_adapter_is_named(llama, spec, tmp_path):
    settings = spec("lori-s", mask_adapter=str(tmp_path / "nowhere"))
    with pytest.raises(
        ValueError, match=r"nowhere: no adapter_model.safetensors; finish its LoRI-D"
    ):
        METHODS["lori-s"].prepare(llama(), settings)
    with pytest.raises(ValueError, match=r"run tiny\.lori-s: .*needs 'mask_adapter'"):
        METHODS["lori-s"].prepare(llama(), spec("lori-s", mask_adapter=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 5}, "down_proj.lora_A.weight is 4 × 96 there and 5 × 96 here"),
        ({"modules": ["q_proj"]}, "down_proj.lora_A.weight is 4 × 96 there and missing here"),
        ({"modules": ["o_proj"]}, "give LoRI-S the modules and the rank of its LoRI-D run"),
    ],
)
def test_a_mask_of_other_layers_is_refused(changes, message, llama, spec):
    with pytest.raises(ValueError, match=message):
        METHODS["lori-s"].prepare(llama(), spec("lori-s", **changes))


def test_the_mask_is_of_the_type_of_the_run(llama, spec, lori_d, tmp_path):
    finished = load_file(lori_d(4) / "adapter_model.safetensors")
    save_file(
        {k: t.bfloat16() for k, t in finished.items()}, tmp_path / "adapter_model.safetensors"
    )
    settings = spec("lori-s", precision="bf16-pure", mask_adapter=str(tmp_path))
    model = METHODS["lori-s"].prepare(llama(torch.bfloat16), settings)
    for name, a in factors(model, "A").items():
        assert torch.equal(a, finished[f"{name}.lora_A.weight"].bfloat16())
