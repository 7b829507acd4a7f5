"""SMT against its definition: which blocks are chosen, and that training them is masked full fine-tuning."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import PeftModel

from diablo.methods import METHODS
from diablo.methods.smt import CACHE

SMT = METHODS["smt"]
TARGETS = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
BATCH = torch.arange(30).reshape(2, 15) * 11 % 300


def targeted(model):
    return {n: m for n, m in model.named_modules() if n.endswith(TARGETS)}


def masks(llama, gradients, examples=8, size=8, count=6):
    """Module name -> where the weight may change; every block of every layer scored by itself."""
    model = llama()
    gradients(model, examples)
    scored = []
    for order, (name, layer) in enumerate(targeted(model).items()):
        grad = layer.weight.grad.double().abs().T  # (inputs, outputs)
        for i in range(layer.in_features // size):
            for j in range(layer.out_features // size):
                block = grad[i * size : (i + 1) * size, j * size : (j + 1) * size]
                scored.append((-block.sum().item() / size**2, order, i, j, name))
    found = {name: torch.zeros_like(m.weight) for name, m in targeted(model).items()}
    for _, _, i, j, name in sorted(scored)[:count]:
        found[name][j * size : (j + 1) * size, i * size : (i + 1) * size] = 1
    return found


def merged_weights(model):
    return {n: m.weight.detach() for n, m in targeted(model.merge_and_unload()).items()}


def train(model, steps=4):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        model(input_ids=BATCH, labels=BATCH).loss.backward()
        yield
        optimizer.step()
        optimizer.zero_grad()


def positions(model):
    return model.peft_config["default"].block_positions


@pytest.mark.parametrize("implementation", ["inplace", "adapter"])
def test_only_the_chosen_blocks_change(implementation, llama, spec, gradients):
    model = SMT.prepare(llama(), spec("smt"), gradients=gradients)
    for module in model.modules():
        if hasattr(module, "diablo_blocks"):
            assert module.implementation["default"] == "inplace"
            module.implementation["default"] = implementation
    for _ in train(model):
        pass
    start, mask = targeted(llama()), masks(llama, gradients)
    changes = 0
    for name, weight in merged_weights(model).items():
        changed = weight != start[name].weight
        assert not (changed & (mask[name] == 0)).any(), name
        changes += int(changed.sum())
    assert changes > 0.9 * 6 * 8 * 8


def test_training_equals_masked_full_fine_tuning(llama, spec, gradients):
    """In float64: plain AdamW on the whole weights, whose gradients are masked before every step."""
    settings = spec("smt", precision="bf16-pure", chosen_blocks=40)  # weights of the base's type
    model = SMT.prepare(llama(torch.float64), settings, gradients=gradients)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float64}
    for _ in train(model):
        pass
    mask = masks(llama, gradients, count=40)
    full = llama(torch.float64).requires_grad_(False)
    for layer in targeted(full).values():
        layer.weight.requires_grad_(True)
    for _ in train(full):
        for name, layer in targeted(full).items():
            layer.weight.grad.mul_(mask[name])
    start = targeted(llama(torch.float64))
    for name, weight in merged_weights(model).items():
        expected = targeted(full)[name].weight
        torch.testing.assert_close(weight, expected, atol=1e-9, rtol=0)
        assert torch.equal(expected != start[name].weight, mask[name] == 1)


@pytest.mark.parametrize(("size", "count", "examples"), [(8, 1, 8), (8, 50, 3), (24, 7, 8)])
def test_the_choice_is_the_best_blocks_of_the_whole_model(
    size, count, examples, llama, spec, gradients
):
    settings = spec("smt", block_size=size, chosen_blocks=count, calibration=examples)
    model = SMT.prepare(llama(), settings, gradients=gradients)
    expected = masks(llama, gradients, examples, size, count)
    found = {name: torch.zeros_like(mask) for name, mask in expected.items()}
    for name, chosen in positions(model).items():
        for i, j in chosen:
            found[name][j * size : (j + 1) * size, i * size : (i + 1) * size] += 1
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    wrapped = [n for n, m in model.named_modules() if hasattr(m, "diablo_blocks")]
    assert len(wrapped) == sum(bool(mask.any()) for mask in expected.values())


def test_among_equals_the_first_are_chosen(llama, spec):
    def alike(model, examples):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)

    model = SMT.prepare(llama(), spec("smt", chosen_blocks=8), gradients=alike)
    first = [[0, j] for j in range(6)] + [[1, 0], [1, 1]]
    assert positions(model) == {"model.layers.0.self_attn.q_proj": first}


def test_the_base_model_is_left_as_it_was(llama, spec, gradients):
    model = SMT.prepare(llama(), spec("smt"), gradients=gradients)
    assert all(p.grad is None for p in model.parameters())
    assert all("diablo_blocks" in n for n, p in model.named_parameters() if p.requires_grad)
    for (name, weight), other in zip(
        model.unload().state_dict().items(), llama().state_dict().values(), strict=True
    ):
        assert torch.equal(weight, other), name


def test_a_restart_takes_the_kept_choice(llama, spec, gradients, tmp_path):
    first = SMT.prepare(llama(), spec("smt"), tmp_path, gradients)
    again = SMT.prepare(llama(), spec("smt"), tmp_path)  # no gradients: no second pass
    assert positions(again) == positions(first)
    assert [p.name for p in tmp_path.iterdir()] == [CACHE]
    shapes = [(n, p.shape) for n, p in first.named_parameters()]
    assert [(n, p.shape) for n, p in again.named_parameters()] == shapes


@pytest.mark.parametrize("changes", [{"block_size": 12}, {"chosen_blocks": 5}])
def test_another_runs_choice_is_refused(changes, llama, spec, gradients, tmp_path):
    SMT.prepare(llama(), spec("smt"), tmp_path, gradients)
    with pytest.raises(
        ValueError, match=r"chosen_blocks\.json: .*6 blocks of size 8.*delete the run's work folder"
    ):
        SMT.prepare(llama(), spec("smt", **changes), tmp_path, gradients)


def test_saved_adapter_names_its_blocks_and_merges_to_the_same(llama, spec, gradients, tmp_path):
    model = SMT.prepare(llama(), spec("smt"), gradients=gradients)
    for _ in train(model):
        pass
    SMT.save(model, tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["block_size"] == 8
    assert saved["block_positions"] == positions(model)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    merged = SMT.load(llama(), tmp_path)
    expected = merged_weights(copy.deepcopy(model))
    for name, weight in merged_weights(loaded).items():
        assert torch.equal(weight, expected[name])
        assert torch.equal(targeted(merged)[name].weight, expected[name])


def spoil(value):
    def add(model, examples):
        for parameter in model.parameters():
            if parameter.requires_grad and value is not None:
                parameter.grad = torch.full_like(parameter, value)

    return add


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"block_size": 16}, None, r"block_size 16 .*48 inputs and 24 outputs of .*k_proj"),
        ({"chosen_blocks": 433}, None, "chosen_blocks 433 is more than the 432 blocks of size 8"),
        ({"modules": ["nowhere"]}, None, r"modules \['nowhere'\] match no linear layer"),
        ({}, None, "smt.*given no `gradients`"),
        ({}, spoil(None), r"q_proj: the gradient did not reach it"),
        ({}, spoil(float("nan")), r"q_proj: the gradient is not finite"),
        ({"calibration": None}, spoil(1.0), "needs 'calibration'"),
    ],
)
def test_refusals_name_the_run_and_the_value(changes, given, message, llama, spec):
    with pytest.raises(ValueError, match=rf"run tiny\.smt: .*{message}"):
        SMT.prepare(llama(), spec("smt", **changes), gradients=given)


def test_all_blocks_may_be_chosen(llama, spec, gradients):
    model = SMT.prepare(llama(), spec("smt", chosen_blocks=432), gradients=gradients)
    assert sum(len(chosen) for chosen in positions(model).values()) == 432
