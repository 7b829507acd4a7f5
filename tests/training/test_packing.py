"""Packed rows give the loss and the gradients of padded ones, and leave nothing to compute for padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from diablo.training import packing
from diablo.training.examples import IGNORE, LABEL_BUCKET, collate
from diablo.training.loss import summed_loss


def tiny(family, **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.2,
        **options,
    )
    return AutoModelForCausalLM.from_config(config).double()


def example(length, seed=0):
    generator = torch.Generator().manual_seed(length + 100 * seed)
    ids = torch.randint(1, 64, (length,), generator=generator)
    labels = torch.where(torch.rand(length, generator=generator) < 0.4, ids, IGNORE)
    labels[-1] = ids[-1]
    return {"input_ids": ids, "labels": labels}


def run(model, batch):
    model.zero_grad()
    total = 0.0
    for micro in batch["micro_batches"]:
        loss = summed_loss(model, micro["positions"], micro["targets"], micro["inputs"])
        loss.backward()
        total += loss.item()
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("family", packing.FAMILIES)
@pytest.mark.parametrize("bucket", [1, 16])
def test_equals_padded(family, bucket):
    examples = [example(n, seed) for seed, n in enumerate((3, 17, 2, 9, 9, 12, 5))]
    padded, packed = tiny(family), tiny(family)
    assert packing.supports_packing(packed, 32)
    packing.use_packing(packed)
    loss, grads = run(padded, collate(examples, 3, pad=0))
    batch = collate(examples, 3, pad=0, packed=True, bucket=bucket, longest=32)
    packed_loss, packed_grads = run(packed, batch)
    assert packed_loss == pytest.approx(loss, rel=1e-9)
    # Norms work in float32 whatever the model is in.
    for a, b in zip(packed_grads, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@settings(max_examples=50)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=20), st.integers(1, 8), st.integers(1, 3))
def test_every_example_is_in_exactly_one_row(lengths, micro, bucket_16):
    examples = [example(n, seed) for seed, n in enumerate(lengths)]
    exact = collate(examples, micro, pad=0, packed=True)
    assert exact["tokens"] == exact["computed"] == sum(lengths)
    filled = collate(examples, micro, pad=0, packed=True, bucket=16 * bucket_16, longest=40)
    for batch in (exact, filled):
        rows = [m["inputs"] for m in batch["micro_batches"]]
        found = []
        for row in rows:
            parts = row["input_ids"][0].split(row["packed_lengths"])
            found += [tuple(p.tolist()) for p in parts if len(p) and p.any()]
        assert sorted(found) == sorted(tuple(e["input_ids"].tolist()) for e in examples)
        assert batch["targets"] == sum(int((e["labels"][1:] != IGNORE).sum()) for e in examples)
    assert all(
        m["inputs"]["input_ids"].shape[1] % (16 * bucket_16) == 0 for m in filled["micro_batches"]
    )
    assert all(len(m["targets"]) % LABEL_BUCKET == 0 for m in filled["micro_batches"])
    assert len({len(m["inputs"]["packed_bounds"]) for m in filled["micro_batches"]}) == 1


def test_long_and_short_examples_share_a_row():
    batch = collate([example(n) for n in (40, 30, 4, 3)], 2, pad=0, packed=True)
    assert [m["inputs"]["packed_lengths"] for m in batch["micro_batches"]] == [[40, 3], [30, 4]]


def test_what_is_not_plain_attention_is_padded():
    assert not packing.supports_packing(tiny("mistral", sliding_window=16), 32)
    assert packing.supports_packing(tiny("mistral", sliding_window=16), 16)
    assert not packing.supports_packing(tiny("llama", attention_dropout=0.1), 32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_weights_under_autocast_attend_in_its_type(dtype, monkeypatch):
    """Else a GPU takes one call a sequence, and a recorded graph keeps the lengths of its first batch."""
    seen = []

    def attention(query, key, value, **kwargs):
        seen.extend(tensor.dtype for tensor in (query, key, value))
        return query

    monkeypatch.setattr(packing.F, "scaled_dot_product_attention", attention)
    tensors = [torch.randn(1, 2, 8, 4) for _ in range(3)]
    ids = torch.zeros(1, 8, dtype=torch.long)
    packed = {k: v for k, v in packing.packed_inputs(ids, ids, [3, 5]).items() if "packed" in k}
    packing.packed_attention(None, *tensors, None, **packed)
    assert set(seen) == {torch.float32}
    seen.clear()
    with torch.autocast("cpu", dtype):
        packing.packed_attention(None, *tensors, None, **packed)
    assert set(seen) == {dtype}


def test_another_use_of_a_packed_model_says_what_is_wrong():
    model = tiny("llama")
    packing.use_packing(model)
    with pytest.raises(ValueError, match="load the model again"):
        model(input_ids=torch.ones(1, 3, dtype=torch.long))


def test_a_saved_model_is_an_ordinary_one(tmp_path):
    """Full fine-tuning saves the model that trained."""
    model = tiny("llama")
    packing.use_packing(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again(input_ids=torch.ones(1, 3, dtype=torch.long)).logits.shape == (1, 3, 64)
