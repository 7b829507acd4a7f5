"""Norms by group: against their definition, and without a change to what clipping does."""

import math

import pytest
import torch
from torch import nn

from diablo.training.gradients import BASE, GroupNorms, parameter_group


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("base_model.model.layers.0.q_proj.lora_A.default.weight", "lora_A"),
        (
            "base_model.model.layers.0.q_proj.lora_magnitude_vector.default.weight",
            "lora_magnitude_vector",
        ),
        ("base_model.model.layers.0.q_proj.diablo_blocks.default", "diablo_blocks"),
        ("model.layers.0.q_proj.weight", BASE),
    ],
)
def test_group_of_a_parameter(name, group):
    assert parameter_group(name) == group


class Pair(nn.Module):
    """Two groups of two matrices each, named as PEFT names them, and a frozen one."""

    def __init__(self):
        super().__init__()
        for index in range(2):
            layer = nn.Module()
            layer.lora_A = nn.ParameterDict({"default": torch.randn(3, 4)})
            layer.lora_B = nn.ParameterDict({"default": torch.randn(5, 3)})
            self.add_module(f"layer{index}", layer)
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.peft_config = {"default": None}


@pytest.mark.parametrize("max_norm", [1e-2, 1e6])
def test_norms_and_clipping(max_norm):
    torch.manual_seed(0)
    model = Pair()
    wanted = {"lora_A": [], "lora_B": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
            wanted[name.split(".")[1]].append(parameter.grad.clone())
    total = math.sqrt(sum(float(g.square().sum()) for part in wanted.values() for g in part))
    norms = GroupNorms(model)
    assert float(norms.clip(max_norm)) == pytest.approx(total)
    facts = norms.facts(norms.values.tolist())
    for name, part in wanted.items():
        each = [float(g.norm()) for g in part]
        assert facts["grad_norms"][name] == pytest.approx(math.hypot(*each))
        assert facts["mean_grad_norms"][name] == pytest.approx(sum(each) / 2)
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert float(after.norm()) == pytest.approx(min(total, max_norm), rel=1e-4)


def test_a_group_without_gradients_counts_as_zero():
    model = Pair()
    model.layer0.lora_A["default"].grad = torch.ones(3, 4)
    norms = GroupNorms(model)
    norms.clip(1.0)
    assert norms.facts(norms.values.tolist())["grad_norms"]["lora_B"] == 0.0


def test_the_log_has_both_groups_of_lora(make_run, finetune):
    log = finetune(make_run("groups", method="lora", max_steps=4))
    for line in log:
        assert set(line["grad_norms"]) == {"lora_A", "lora_B"}
        assert math.hypot(*line["grad_norms"].values()) == pytest.approx(
            line["grad_norm"], rel=1e-5
        )
    # B starts at zero, so A has no gradient until B has moved.
    assert log[0]["grad_norms"]["lora_A"] == 0.0
    assert log[-1]["grad_norms"]["lora_A"] > 0.0


def test_the_logs_epoch_rounded_up_is_the_steps_own(make_run, finetune):
    # 22 examples in batches of 4: six steps an epoch, the last one smaller.
    log = finetune(make_run("epochs", method="lora", epochs=3.0))
    assert [math.ceil(line["epoch"]) for line in log] == [1] * 6 + [2] * 6 + [3] * 6
