"""Training a pattern is full fine-tuning with masked gradients: the same optimiser, in float64."""

import math

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.utils import clip_grad_norm_, parametrize
from tuner_cases import RANDOM, batch, blocks, diablo_layers, llama

from diablo import DiabloConfig

TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")
N = 5  # divides neither width of most layers
STEPS = 5
MAX_NORM = 0.05  # less than the norm of any step

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0),
    "adamw-decay": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.3),
    "sgd": lambda p: torch.optim.SGD(p, lr=1, momentum=0.9),
    "sgd-decay": lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, weight_decay=0.1),
}


class Update(nn.Module):
    """W = W0 + update: full fine-tuning whose weight decay pulls to W0, as that of every adapter does."""

    def __init__(self, weight):
        super().__init__()
        self.update = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight):
        return weight + self.update


def masks(model):
    """Module name -> mask of the torch weight, from the definition of each pattern."""
    found = {}
    for layer in diablo_layers(model):
        count, d1, d2 = layer.diablo_blocks["default"].shape
        m1, m2 = layer.in_features, layer.out_features
        if "diablo_positions.default" not in layer.state_dict():
            mask = torch.block_diag(*torch.ones(count, d1, d2))[:m1, :m2]
            assert (d1, d2) == (math.ceil(m1 / N), math.ceil(m2 / N))
        else:
            mask = torch.zeros(m1, m2)
            for i, j in layer.state_dict()["diablo_positions.default"].tolist():
                mask[i * d1 : (i + 1) * d1, j * d2 : (j + 1) * d2] = 1
        found[layer.module_name] = mask.T.double()
    return found


def train(model, make, mask=lambda: None):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make(trained)
    for step in range(STEPS):
        model(**batch(step)).loss.backward()
        mask()
        assert clip_grad_norm_(trained, MAX_NORM) > MAX_NORM
        optimizer.step()
        optimizer.zero_grad()


def fully_tuned(make, kept, of_update):
    """Weights after full fine-tuning of the targeted layers with masked gradients."""
    model = llama(torch.float64).requires_grad_(False)
    trained = {}
    for name in kept:
        layer = model.get_submodule(name)
        if of_update:
            update = Update(layer.weight)
            parametrize.register_parametrization(layer, "weight", update)
            trained[name] = update.update
        else:
            trained[name] = layer.weight.requires_grad_(True)

    def mask():
        for name, parameter in trained.items():
            parameter.grad.mul_(kept[name])

    train(model, make, mask)
    return {name: model.get_submodule(name).weight.detach() for name in kept}


@pytest.mark.parametrize("form", ["inplace", "adapter"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("pattern", ["diagonal", *RANDOM])
def test_training_equals_masked_full_fine_tuning(pattern, optimizer, form):
    config = DiabloConfig(
        pattern=pattern, num_blocks=N, target_modules=list(TARGETS), implementation=form
    )
    model = get_peft_model(llama(torch.float64), config, autocast_adapter_dtype=False)
    kept = masks(model)
    assert {p.dtype for p in blocks(model)} == {torch.float64}
    train(model, OPTIMIZERS[optimizer])
    merged = model.merge_and_unload()
    start = llama(torch.float64)
    # Without decay the whole weights are trained themselves; with it, what is added to them.
    expected = fully_tuned(OPTIMIZERS[optimizer], kept, of_update="decay" in optimizer)
    for name, weight in expected.items():
        found, before = merged.get_submodule(name).weight, start.get_submodule(name).weight
        torch.testing.assert_close(found, weight, rtol=0, atol=1e-11)
        assert torch.equal(found != before, kept[name] == 1)
    norms = [(weight - start.get_submodule(n).weight).norm() for n, weight in expected.items()]
    assert min(norms) > 1e-3
