"""The head on labelled positions only: the same loss and the same gradients as everywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tiny_run import make_model
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM

import diablo
from diablo.training import loss as loss_module
from diablo.training.examples import labelled
from diablo.training.loss import LinearCrossEntropy, head_loss, output_head
from diablo.training.loss import summed_loss as loss_of_batch

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


def summed_loss(model, ids, labels, **options):
    return loss_of_batch(model, **labelled(labels), inputs={"input_ids": ids}, **options)


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


@pytest.mark.parametrize(
    "build", [full, untied, lora_on_head, trained_head, diablo_inplace], ids=lambda b: b.__name__
)
@pytest.mark.parametrize("rows", [1, 7, 22])
def test_chunks_change_nothing(build, rows):
    model = build().double()
    ids, labels = batch()
    whole = summed_loss(model, ids, labels)
    expected = gradients(model, whole)
    chunked = summed_loss(model, ids, labels, logits_bytes=rows * 4 * 200)
    torch.testing.assert_close(chunked, whole)
    for name, gradient in gradients(model, chunked).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_logits_never_exceed_the_set_memory():
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.shape[-1:] == (4096,):
                self.size = max(self.size, out.numel() * 4)
            return out

    hidden = torch.randn(100, 8, requires_grad=True)
    head = torch.nn.Linear(8, 4096, bias=False).requires_grad_(False)
    targets = torch.randint(0, 4096, (100,))
    with Largest() as largest:
        head_loss(head, hidden, targets, logits_bytes=10 * 4096 * 4).backward()
    assert largest.size == 10 * 4096 * 4


@settings(max_examples=30)
@given(st.data())
def test_linear_cross_entropy_equals_pytorchs(data):
    labels, width, words = (data.draw(st.integers(1, n)) for n in (9, 6, 11))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    hidden = torch.randn(labels, width, dtype=torch.double, requires_grad=True)
    weight = torch.randn(words, width, dtype=torch.double, requires_grad=True)
    bias = torch.randn(words, dtype=torch.double, requires_grad=True)
    bias = bias if data.draw(st.booleans()) else None
    targets = torch.randint(0, words, (labels,))
    targets[torch.rand(labels) < 0.3] = -100
    leaves = [t for t in (hidden, weight, bias) if t is not None]
    logits = torch.nn.functional.linear(hidden, weight, bias)
    expected = cross_entropy(logits, targets, reduction="sum")
    rows = data.draw(st.integers(1, 10))
    ours = LinearCrossEntropy.apply(hidden, weight, bias, targets, rows)
    torch.testing.assert_close(ours, expected)
    scale = data.draw(st.floats(0.1, 10))
    for a, b in zip(
        torch.autograd.grad(ours * scale, leaves),
        torch.autograd.grad(expected * scale, leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_float16_keeps_gradients_that_are_small():
    """A softmax over a vocabulary is full of numbers below float16's 6e-8."""
    torch.manual_seed(0)
    hidden = torch.randn(4, 32).half().requires_grad_()
    weight = (torch.randn(50_000, 32) * 0.5).half()
    targets = torch.randint(0, 50_000, (4,))
    exact = hidden.detach().float().requires_grad_()
    cross_entropy(exact @ weight.float().t(), targets, reduction="sum").backward()
    LinearCrossEntropy.apply(hidden, weight, None, targets, 3).backward()
    assert (hidden.grad.float() - exact.grad).norm() < 2e-3 * exact.grad.norm()


def test_the_head_is_left_as_it_was():
    model = lora()
    summed_loss(model, *batch())
    assert not output_head(model)._forward_pre_hooks
    assert not output_head(model)._forward_hooks


def test_a_model_that_changes_its_logits_gets_its_own_loss():
    """Gemma 2 squashes logits after the head."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=200,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.2,
    )
    model = Gemma2ForCausalLM(config)
    ids, labels = batch()
    logits = model(input_ids=ids).logits
    whole = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    torch.testing.assert_close(summed_loss(model, ids, labels), whole)


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
