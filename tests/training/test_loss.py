"""The head on labelled positions only: the same loss and the same gradients as everywhere."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_run import make_model
from torch.nn.functional import cross_entropy

import diablo
from diablo.training import loss as loss_module
from diablo.training.loss import output_head, summed_loss

MODULES = ["q_proj", "v_proj", "down_proj"]


def full():
    return make_model()


def untied():
    return make_model(tie_word_embeddings=False)


def lora():
    model = get_peft_model(make_model(), LoraConfig(r=2, target_modules=MODULES))
    return nonzero(model)


def lora_on_head():
    modules = [*MODULES, "lm_head"]
    model = make_model(tie_word_embeddings=False)
    return nonzero(get_peft_model(model, LoraConfig(r=2, target_modules=modules)))


def trained_head():
    settings = LoraConfig(r=2, target_modules=MODULES, modules_to_save=["lm_head"])
    return nonzero(get_peft_model(make_model(tie_word_embeddings=False), settings))


def diablo_inplace():
    modules = [*MODULES, "lm_head"]
    model = make_model(tie_word_embeddings=False)
    return nonzero(get_peft_model(model, diablo.DiabloConfig(num_blocks=4, target_modules=modules)))


def diablo_adapter():
    settings = diablo.DiabloConfig(num_blocks=4, target_modules=MODULES, implementation="adapter")
    return nonzero(get_peft_model(make_model(), settings))


def nonzero(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 200, (3, 20), generator=generator)
    labels = torch.full_like(ids, -100)
    labels[0, 12:15] = ids[0, 12:15]
    labels[1, 0:20] = ids[1]
    labels[2, 4] = ids[2, 4]
    return ids, labels


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "build",
    [full, untied, lora, lora_on_head, trained_head, diablo_inplace, diablo_adapter],
    ids=lambda build: build.__name__,
)
def test_equals_the_whole_heads_loss(build):
    model = build().double()
    ids, labels = batch()
    logits = model(input_ids=ids).logits
    assert logits.shape == (3, 20, 200)
    whole = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    expected = gradients(model, whole)
    ours = summed_loss(model, ids, labels)
    torch.testing.assert_close(ours.double(), whole, rtol=1e-6, atol=0)
    # cross_entropy works in float32 here, so gradients agree to that.
    for name, gradient in gradients(model, ours).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_head_sees_only_labelled_positions_and_is_left_as_it_was():
    model = lora()
    seen = []
    hook = output_head(model).register_forward_hook(lambda m, i, out: seen.append(out.shape))
    summed_loss(model, *batch())
    hook.remove()
    assert seen == [(1, 3 + 19 + 1, 200)]
    assert not output_head(model)._forward_pre_hooks


def test_a_model_that_does_not_tell_its_head_gets_the_ordinary_loss(monkeypatch):
    model = full()
    expected = summed_loss(model, *batch())
    monkeypatch.setattr(loss_module, "output_head", lambda model: None)
    torch.testing.assert_close(summed_loss(model, *batch()), expected)


def test_padding_on_the_right_changes_nothing():
    model = full()
    ids, labels = batch()
    expected = summed_loss(model, ids, labels)
    ids = torch.nn.functional.pad(ids, (0, 7), value=9)
    labels = torch.nn.functional.pad(labels, (0, 7), value=-100)
    torch.testing.assert_close(summed_loss(model, ids, labels), expected)
