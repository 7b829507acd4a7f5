"""Both forms against a dense float64 block diagonal matrix."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from tuner_cases import dense, one_layer

from diablo import DiabloConfig
from diablo.tuner.ops import block_layout, block_product

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2}


@st.composite
def shapes(draw):
    m1, m2 = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    return m1, m2, draw(st.integers(1, max(m1, m2)))


def reference(layer, x, grad, m1, m2):
    """Outputs, input gradient and block gradient, all in float64, from the paper's definition."""
    x = x.detach().double().requires_grad_()
    blocks = layer.diablo_blocks["default"].detach().double().requires_grad_()
    weight = layer.base_layer.weight.detach().double()
    bias = layer.base_layer.bias
    n, d1, _ = blocks.shape
    padded = nn.functional.pad(x, (0, n * d1 - m1)).unflatten(-1, (n, d1))
    product = torch.einsum("...nd,nde->...ne", padded, blocks).flatten(-2)[..., :m2]
    out = x @ weight.T + product + (0 if bias is None else bias.detach().double())
    out.backward(grad.double())
    torch.testing.assert_close(product.detach(), x.detach() @ dense(blocks, m1, m2))
    return out.detach(), x.grad, blocks.grad


@settings(max_examples=80)
@given(
    shape=shapes(),
    implementation=st.sampled_from(["inplace", "adapter"]),
    dtype=st.sampled_from(list(TOLERANCE)),
    lead=st.sampled_from([(5,), (2, 3), (1, 1), (0,), (2, 0)]),
    bias=st.booleans(),
    seed=st.integers(0, 100),
)
def test_outputs_and_gradients_equal_the_dense_reference(
    shape, implementation, dtype, lead, bias, seed
):
    m1, m2, n = shape
    layer = one_layer(m1, m2, n, implementation, bias, dtype)
    layer.diablo_blocks["default"].data = layer.diablo_blocks["default"].data.to(
        torch.float32 if dtype == torch.bfloat16 else dtype
    )
    torch.manual_seed(seed)
    x = torch.randn(*lead, m1, dtype=dtype, requires_grad=True)
    grad = torch.randn(*lead, m2, dtype=dtype)
    expected = reference(layer, x, grad, m1, m2)
    out = layer(x)
    out.backward(grad)
    blocks = layer.diablo_blocks["default"]
    assert blocks.grad.dtype == blocks.dtype
    for got, want in zip((out.detach(), x.grad, blocks.grad), expected, strict=True):
        assert got.shape == want.shape
        scale = 1 + (want.abs().max().item() if want.numel() else 0)
        torch.testing.assert_close(
            got.double(), want, rtol=0, atol=TOLERANCE[dtype] * scale, check_stride=False
        )


@settings(max_examples=50)
@given(shape=shapes())
def test_views_reach_exactly_the_dense_pattern(shape):
    m1, m2, n = shape
    layout = block_layout(m1, m2, n)
    assert layout.shape == (n, math.ceil(m1 / n), math.ceil(m2 / n))
    # Whole numbers in float64: sums are exact, whatever their order.
    blocks = torch.arange(1, 1 + math.prod(layout.shape), dtype=torch.float64).view(layout.shape)
    weight = torch.zeros(m2, m1, dtype=torch.float64)
    for view, block in zip(layout.weight_views(weight), layout.block_views(blocks), strict=True):
        view.copy_(block)
    assert torch.equal(weight.T, dense(blocks, m1, m2))
    x = torch.randint(-9, 10, (3, m1), dtype=torch.float64)
    assert torch.equal(block_product(x, blocks, layout), x @ weight.T)


@pytest.mark.parametrize("implementation", ["inplace", "adapter"])
def test_gradcheck(implementation):
    layer = one_layer(7, 9, 4, implementation, dtype=torch.float64).double()
    blocks = layer.diablo_blocks["default"]
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)

    def with_blocks(x, values):
        blocks.data = values.detach()  # the layer reads its own parameter ...
        out = layer(x)
        return out + (values - values.detach()).sum() * 0

    assert torch.autograd.gradcheck(lambda x: with_blocks(x, blocks.detach()), (x,))
    # ... so the block gradient is compared with finite differences by hand.
    out = layer(x).square().sum()
    (analytic,) = torch.autograd.grad(out, blocks)
    for index in ((0, 0, 0), (1, 1, 2), (2, 0, 1)):
        values = []
        for step in (1e-6, -2e-6):
            blocks.data[index] += step
            values.append(layer(x).square().sum().item())
        blocks.data[index] += 1e-6
        assert analytic[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-4)


@pytest.mark.parametrize("implementation", ["inplace", "adapter"])
def test_inputs_that_are_not_contiguous(implementation):
    layer = one_layer(8, 12, 4, implementation)
    x = torch.randn(8, 5).t().requires_grad_()
    straight = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    layer(x).sum().backward()  # an expanded gradient, as sum gives
    got = layer.diablo_blocks["default"].grad.clone()
    layer.diablo_blocks["default"].grad = None
    layer(straight).sum().backward()
    torch.testing.assert_close(x.grad, straight.grad)
    torch.testing.assert_close(got, layer.diablo_blocks["default"].grad)


def test_the_adapter_form_writes_into_the_base_layers_output():
    layer = one_layer(64, 96, 8, "adapter")
    made = []
    layer.base_layer.register_forward_hook(lambda module, args, out: made.append(out.data_ptr()))
    assert layer(torch.randn(50, 64)).data_ptr() == made[0]


TABLE_10 = {
    8: 220.50, 16: 110.25, 32: 55.13, 64: 27.56, 128: 13.78, 256: 6.89, 512: 3.45, 1024: 1.72, 2048: 1.31
}  # fmt: skip


def test_trainable_counts_of_table_10():
    """Llama-3.2-3B from its config alone; the counts are printed in units of 2^20."""
    config = LlamaConfig(
        hidden_size=3072,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        intermediate_size=8192,
        head_dim=128,
        vocab_size=1000,
        tie_word_embeddings=True,
    )
    targets = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    for n, expected in TABLE_10.items():
        model_n = get_peft_model(model, DiabloConfig(num_blocks=n, target_modules=targets))
        trainable, _ = model_n.get_nb_trainable_parameters()
        # the paper rounds halves up (55.125 -> 55.13, 3.445 -> 3.45)
        assert math.floor(trainable / 2**20 * 100 + 0.5) / 100 == pytest.approx(expected)
        model = model_n.unload()
