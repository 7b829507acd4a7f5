"""Gradients that methods look at before they start, and the examples that a trial leaves out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import make_model
from torch.nn.functional import cross_entropy

from diablo.training.calibration import calibration_gradients
from diablo.training.examples import IGNORE, split


def make_examples(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for index in range(count):
        ids = torch.randint(3, 200, (5 + index % 4,), generator=generator)
        labels = ids.clone()
        labels[:3] = IGNORE
        examples.append({"input_ids": ids, "labels": labels})
    return examples


def reference(model, examples) -> dict[str, torch.Tensor]:
    """Gradient of the mean over labelled tokens, one example at a time, by autograd alone."""
    total = sum(int((e["labels"][1:] != IGNORE).sum()) for e in examples)
    model.zero_grad()
    for example in examples:
        logits = model(input_ids=example["input_ids"][None]).logits[0, :-1]
        labels = example["labels"][1:]
        (cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / total).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_gradient_is_that_of_the_mean_loss_over_all_examples(micro: int) -> None:
    model, examples = make_model().double(), make_examples(7)
    gradients = calibration_gradients(examples, SimpleNamespace(seed=0, micro_batch_size=micro), 0)
    expected = reference(model, examples)
    gradients(model, 100)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-6, atol=1e-9)


def test_only_what_requires_a_gradient_gets_one_and_so_many_examples_are_used() -> None:
    model, examples = make_model(), make_examples(6)
    model.requires_grad_(False)
    weight = model.model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    spec = SimpleNamespace(run="tiny", seed=1, micro_batch_size=2)
    calibration_gradients(examples, spec, 0)(model, 2)
    first = weight.grad.clone()
    assert [n for n, p in model.named_parameters() if p.grad is not None] == [
        "model.layers.0.self_attn.q_proj.weight"
    ]
    weight.grad = None
    calibration_gradients(examples, spec, 0)(model, 2)
    assert torch.equal(weight.grad, first)
    calibration_gradients(examples, spec, 0)(model, 6)
    assert not torch.equal(weight.grad, 2 * first)
    assert model.training


@settings(max_examples=50)
@given(count=st.integers(2, 60), share=st.floats(0, 0.99), seed=st.integers(0, 5))
def test_held_out_examples_and_the_rest_make_up_the_whole(count, share, seed) -> None:
    records = [{"task": "ab"[i % 2], "id": str(i)} for i in range(count)]
    held_out = int(share * count)
    training, left_out = split(records, held_out, seed)
    assert len(left_out) == held_out
    assert sorted(training + left_out, key=records.index) == records
    assert (training, left_out) == split(records, held_out, seed)


def test_holding_everything_out_is_refused() -> None:
    with pytest.raises(ValueError, match="held_out = 2 leaves nothing of 2"):
        split([{"task": "a", "id": "1"}, {"task": "a", "id": "2"}], 2, 0)
