"""Every pattern against a dense float64 matrix; what every layout must do beside is in the cases."""

import math
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn
from tuner_cases import RANDOM, batch, blocks, diablo_layers, llama

from diablo import DiabloConfig
from diablo.tuner.patterns import PATTERNS, pattern_layout

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2}


def layer_of(m1, m2, implementation, bias=False, dtype=torch.float32, **options):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(m1, m2, bias=bias).to(dtype)).requires_grad_(False)
    config = DiabloConfig(target_modules=["0"], implementation=implementation, **options)
    (layer,) = diablo_layers(get_peft_model(model, config))
    parameter = layer.diablo_blocks["default"]
    parameter.data = torch.randn_like(parameter).to(torch.promote_types(dtype, torch.float32))
    return layer


def block_shape(pattern, m1, m2, n):
    """From the definition of each pattern, not from the code under test."""
    return {
        "blocks": (math.ceil(m1 / n), math.ceil(m2 / n)),
        "inputs": (1, m2),
        "outputs": (m1, 1),
        "entries": (1, 1),
    }[pattern]


def places(layer):
    """The position of each block of the parameter, as an adapter's file has it."""
    return layer.state_dict()["diablo_positions.default"].tolist()


def dense(parameter, m1, m2, positions):
    """D, block by block from the definition of a position."""
    _, d1, d2 = parameter.shape
    matrix = torch.zeros(m1, m2, dtype=torch.float64)
    for block, (i, j) in zip(parameter.double(), positions, strict=True):
        matrix[i * d1 : (i + 1) * d1, j * d2 : (j + 1) * d2] += block
    return matrix


@st.composite
def cases(draw):
    """Widths, N and a pattern; places drawn by the layer, or given: from one block to all, in any order."""
    m1, m2 = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    n, pattern = draw(st.integers(1, max(m1, m2))), draw(st.sampled_from(RANDOM))
    options = {"pattern": pattern, "num_blocks": n}
    if draw(st.booleans()):
        return m1, m2, {**options, "pattern_seed": draw(st.integers(0, 9))}, None
    d1, d2 = block_shape(pattern, m1, m2, n)
    every = [[i, j] for i in range(m1 // d1) for j in range(m2 // d2)]
    order = draw(st.randoms(use_true_random=False)).sample(every, len(every))
    given_ = order[: draw(st.integers(1, len(every)))]
    return m1, m2, {**options, "block_positions": {"0": given_}}, given_


@settings(max_examples=150)
@given(
    case=cases(),
    implementation=st.sampled_from(["inplace", "adapter"]),
    dtype=st.sampled_from(list(TOLERANCE)),
    lead=st.sampled_from([(5,), (2, 3), (0,)]),
    bias=st.booleans(),
)
def test_outputs_and_gradients_equal_the_dense_reference(case, implementation, dtype, lead, bias):
    m1, m2, options, positions = case
    layer = layer_of(m1, m2, implementation, bias, dtype, **options)
    parameter = layer.diablo_blocks["default"]
    if positions is None:
        positions = places(layer)
    elif options["pattern"] == "entries":  # which are kept output by output, as a torch weight is
        positions = sorted(positions, key=lambda place: place[::-1])
    count, *shape = parameter.shape
    assert (count, tuple(shape)) == (
        len(positions),
        block_shape(options["pattern"], m1, m2, options["num_blocks"]),
    )
    x = torch.randn(*lead, m1, dtype=dtype, requires_grad=True)
    grad = torch.randn(*lead, m2, dtype=dtype)
    matrix = dense(parameter.detach(), m1, m2, positions).requires_grad_()
    wide = x.detach().double().requires_grad_()
    weight = layer.base_layer.weight.detach().double().T.clone()
    expected = wide @ (weight + matrix)
    if bias:
        expected = expected + layer.base_layer.bias.double()
    expected.backward(grad.double())
    d1, d2 = shape
    wanted = torch.stack(
        [matrix.grad[i * d1 : (i + 1) * d1, j * d2 : (j + 1) * d2] for i, j in positions]
    )
    out = layer(x)
    out.backward(grad)
    assert parameter.grad.dtype == parameter.dtype
    for got, want in ((out, expected), (x.grad, wide.grad), (parameter.grad, wanted)):
        scale = 1 + (want.abs().max().item() if want.numel() else 0)
        torch.testing.assert_close(
            got.double(), want, rtol=0, atol=TOLERANCE[dtype] * scale, check_stride=False
        )
    delta = layer.get_delta_weight("default").double()
    assert torch.equal(delta.T, dense(parameter.detach(), m1, m2, positions))


@settings(max_examples=60)
@given(case=cases(), dtype=st.sampled_from(list(TOLERANCE)))
def test_the_weight_changes_in_the_patterns_entries_alone(case, dtype):
    m1, m2, options, _ = case
    layer = layer_of(m1, m2, "inplace", dtype=dtype, **options)
    parameter = layer.diablo_blocks["default"]
    with torch.no_grad():
        parameter.copy_(parameter.abs() + 1)  # large enough to be seen in 16 bits
    before = layer.base_layer.weight.detach().clone()
    mask = layer.get_delta_weight("default") != 0
    assert mask.sum() == parameter.numel()
    layer(torch.zeros(1, m1, dtype=dtype))
    held = layer.base_layer.weight.detach().clone()
    assert torch.equal(held != before, mask)
    expected = before.to(parameter.dtype) + layer.get_delta_weight("default")
    assert torch.equal(held, expected.to(dtype))  # rounded once
    layer.merge()
    assert torch.equal(layer.base_layer.weight, held)
    layer.unmerge()
    assert torch.equal(layer.base_layer.weight, before)


@pytest.mark.parametrize("form", ["inplace", "adapter"])
def test_blocks_on_the_diagonal_are_diablos_bit_for_bit(form):
    """In float64; in place also by the layout of blocks anywhere (N divides the widths of q, up, down)."""
    targets = ["q_proj", "up_proj", "down_proj"]
    names = [n for n, m in llama().named_modules() if n.endswith(tuple(targets))]
    diagonal = {"block_positions": {n: [[k, k] for k in range(8)] for n in names}}
    trained = []
    for options in ({}, {"pattern": "diagonal"}, {"pattern": "blocks", **diagonal}):
        config = DiabloConfig(num_blocks=8, target_modules=targets, implementation=form, **options)
        model = get_peft_model(llama(torch.float64), config, autocast_adapter_dtype=False)
        optimizer = torch.optim.AdamW(blocks(model), lr=1e-2)
        losses = []
        for step in range(4):
            loss = model(**batch(step)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        trained.append((losses, [p.detach() for p in blocks(model)]))
    (expected, wanted), same, (losses, values) = trained
    assert same[0] == expected
    assert all(torch.equal(a, b) for a, b in zip(same[1], wanted, strict=True))
    # Beside the weight, blocks anywhere are multiplied one by one, not as a batch.
    tolerance = {"rtol": 0, "atol": 0 if form == "inplace" else 1e-12}
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), **tolerance)
    for a, b in zip(values, wanted, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (1, 7)])
def test_both_products_of_entries_are_the_entries_of_the_product(shape, dtype):
    layout = pattern_layout("entries", *shape, 2)
    x, grad = (torch.randn(30, width).to(dtype) for width in shape)
    full = x.double().T @ grad.double()
    expected = torch.stack([full[i, j] for i, j in layout.positions.tolist()])
    for product in (layout.sampled, layout.gathered):
        found = product(x, grad)
        assert found.dtype == torch.promote_types(dtype, torch.float32)  # of the sums
        tolerance = 1e-12 if dtype == torch.float64 else 2e-5
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


WIDE = 32768


@pytest.mark.slow
def test_no_gradient_is_as_large_as_the_weight():
    """Of a weight of 4 GiB, which is not there either; in a process of its own, whose memory is measured."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from test_tuner_patterns import _lean_gradients; "
        "_lean_gradients()"
    )
    subprocess.run([sys.executable, "-c", code, *sys.path], check=True)


def _lean_gradients():
    x, grad = torch.randn(2, WIDE), torch.randn(2, WIDE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for pattern in PATTERNS:
        layout = pattern_layout(pattern, WIDE, WIDE, WIDE // 2)
        count, d1, d2 = layout.shape
        found = layout.block_grad(x, grad, torch.float32)
        assert found.shape == (count, d1, d2)
        assert count * d1 * d2 == 2 * WIDE
        if pattern in RANDOM:
            i, j = layout.positions[-1].tolist()
            wanted = x[:, i * d1 : (i + 1) * d1].T @ grad[:, j * d2 : (j + 1) * d2]
            torch.testing.assert_close(found[-1], wanted, rtol=1e-5, atol=1e-5)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert more < 256 * 1024, f"{more} KiB"


@pytest.mark.parametrize("pattern", RANDOM)
@pytest.mark.parametrize("form", ["inplace", "adapter"])
def test_inputs_that_are_not_contiguous(pattern, form):
    layer = layer_of(8, 12, form, pattern=pattern, num_blocks=4)
    parameter = layer.diablo_blocks["default"]
    x = torch.randn(8, 5).t().requires_grad_()
    straight = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    layer(x).sum().backward()  # an expanded gradient, as sum gives
    got, parameter.grad = parameter.grad, None
    layer(straight).sum().backward()
    torch.testing.assert_close(x.grad, straight.grad)
    torch.testing.assert_close(got, parameter.grad)


@pytest.mark.parametrize("pattern", RANDOM)
def test_a_layout_reaches_its_blocks_in_a_view_of_a_larger_tensor(pattern):
    whole = torch.arange(200.0).view(10, 20)
    weight = whole[2:8, 4:16]  # (6, 12), not contiguous, with an offset
    layout = pattern_layout(pattern, 12, 6, 3)
    values = layout.read(weight)
    flat = whole.view(-1)
    first = weight.storage_offset()
    for block, origin, (i, j) in zip(
        values, layout.origins(weight), layout.positions.tolist(), strict=True
    ):
        d1, d2 = block.shape
        wanted = weight[d2 * j : d2 * (j + 1), d1 * i : d1 * (i + 1)].T
        assert torch.equal(block, wanted)
        assert flat[first + origin] == block[0, 0]
    layout.write_(weight, -values)
    assert (whole < 0).sum() == values.numel()  # (no chosen block begins at zero)
    layout.write_sum_(weight, None, 2 * values)
    assert torch.equal(whole, torch.arange(200.0).view(10, 20))


@pytest.mark.parametrize("form", ["inplace", "adapter"])
@pytest.mark.parametrize("pattern", RANDOM)
@pytest.mark.slow
def test_compile_trains_as_eager_does(form, pattern):
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 8))
        config = DiabloConfig(
            num_blocks=4, pattern=pattern, target_modules=["0", "2"], implementation=form
        )
        model = get_peft_model(model, config)
        run = torch.compile(model, backend="aot_eager") if compiled else model
        optimizer = torch.optim.AdamW(blocks(model), lr=1e-1, fused=True)
        x, losses_ = torch.randn(6, 12), []
        for _ in range(3):
            loss = (run(x) - 1).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses_.append(loss.item())
        losses.append(losses_)
    assert losses[0][0] - losses[0][2] > 0.02
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
