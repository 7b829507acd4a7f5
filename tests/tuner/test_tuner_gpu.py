"""The block write of all layers in one kernel, against the write of each layer."""

import pytest
import torch
from peft import get_peft_model
from tuner_cases import ALL, CHOSEN, RANDOM, batch, blocks, llama

from diablo import DiabloConfig, DiabloLinear
from diablo.tuner.patterns import PATTERNS, pattern_layout

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def model_of(dtype, n, pure, **widths):
    config = DiabloConfig(num_blocks=n, target_modules=ALL, init_weights=False)
    model = get_peft_model(llama(dtype, **widths), config, autocast_adapter_dtype=not pure)
    model = model.cuda()
    for name, parameter in model.named_parameters():
        if "diablo_blocks" in name:
            parameter.data = parameter.data.to(dtype if pure else torch.float32)
    return model


def chosen_model(dtype):
    config = DiabloConfig(init_weights=False, **CHOSEN)
    return get_peft_model(llama(dtype), config).cuda()


def pattern_model(dtype, pattern):
    config = DiabloConfig(pattern=pattern, num_blocks=4, target_modules=ALL, init_weights=False)
    return get_peft_model(llama(dtype), config).cuda()


def weights(model):
    return [
        m.base_layer.weight.detach().clone() for m in model.modules() if isinstance(m, DiabloLinear)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize(
    ("n", "widths"), [(4, {}), (5, {}), (2, {"hidden_size": 288, "intermediate_size": 160})]
)
def test_one_kernel_writes_what_each_layer_writes(dtype, pure, n, widths):
    model = model_of(dtype, n, pure, **widths)
    refresh = model.base_model._refresh
    refresh.write()  # the first write, which copies W0's blocks aside, is each layer's own
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "diablo_blocks" in name:
                parameter.mul_(-3).add_(0.01)
    refresh.write()
    fused = weights(model)
    for layer in refresh.layers:
        layer.hold(layer.settle())
    for a, b in zip(fused, weights(model), strict=True):
        assert torch.equal(a, b)
    # Blocks that stick out of the matrix are left to each layer.
    assert (refresh._fused is None) == (n == 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", ["chosen", *RANDOM])
def test_one_kernel_writes_blocks_anywhere(dtype, pattern):
    model = chosen_model(dtype) if pattern == "chosen" else pattern_model(dtype, pattern)
    before = weights(model)
    refresh = model.base_model._refresh
    refresh.write()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "diablo_blocks" in name:
                parameter.mul_(-3).add_(0.01)
    refresh.write()
    assert (refresh._fused is None) == (pattern == "entries")  # those are left to each layer
    fused = weights(model)
    for layer in refresh.layers:
        layer.hold(layer.settle())
    for a, b, w0 in zip(fused, weights(model), before, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, w0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(torch.bfloat16, 4, False),
        lambda: chosen_model(torch.bfloat16),
        lambda: pattern_model(torch.bfloat16, "inputs"),
    ],
)
def test_one_launch_for_all_layers(make):
    model = make()
    refresh = model.base_model._refresh
    refresh.write()
    refresh.write()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        refresh.write()
        torch.cuda.synchronize()
    on_gpu = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    assert len(on_gpu) == 1, on_gpu


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("contiguous", [True, False])
def test_gradients_are_added_up_in_float32(pattern, dtype, contiguous):
    layout = pattern_layout(pattern, 96, 160, 8)
    x, grad = (torch.randn(333, width, device="cuda").to(dtype) for width in (96, 160))
    if not contiguous:
        x, grad = x.t().contiguous().t(), grad[:1].expand(333, -1)
    expected = layout.read((x.double().T @ grad.double()).T)
    found = layout.block_grad(x, grad, torch.float32)
    assert (found.dtype, found.shape) == (torch.float32, layout.shape)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    again = layout.block_grad(x, grad, torch.float32)
    assert torch.equal(found, again)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recorded_step_is_the_step(pattern, dtype):
    """Forward and backward pass as a CUDA graph, replayed after the blocks have changed."""
    model = pattern_model(dtype, pattern)
    inputs = {name: value.cuda() for name, value in batch().items()}
    trained = blocks(model)

    def step():
        loss = model(**inputs).loss
        loss.backward()
        return loss.detach()

    def gradients():
        return [p.grad.clone() for p in trained]

    def clear():
        for p in trained:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.zero_()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            clear()
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    clear()
    with torch.cuda.graph(graph, stream=stream):
        loss = step()
    with torch.no_grad():
        for p in trained:
            p.mul_(-2).add_(0.01)
    clear()
    graph.replay()
    replayed = loss.item(), gradients()
    clear()
    eager = step().item()
    # In 16 bits a recording may pick other kernels, which round otherwise.
    exact = dtype == torch.float32
    assert replayed[0] == pytest.approx(eager, rel=1e-5 if exact else 2e-3)
    for a, b in zip(replayed[1], gradients(), strict=True):
        if exact:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert (a - b).norm() <= 3e-2 * b.norm()
