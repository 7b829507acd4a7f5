"""The block write of all layers in one kernel, against the write of each layer."""

import pytest
import torch
from peft import get_peft_model
from tuner_cases import ALL, CHOSEN, llama

from diablo import DiabloConfig, DiabloLinear

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
def test_one_kernel_writes_chosen_blocks(dtype):
    model = chosen_model(dtype)
    before = weights(model)
    refresh = model.base_model._refresh
    refresh.write()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "diablo_blocks" in name:
                parameter.mul_(-3).add_(0.01)
    refresh.write()
    assert refresh._fused is not None
    fused = weights(model)
    for layer in refresh.layers:
        layer.hold(layer.settle())
    for a, b, w0 in zip(fused, weights(model), before, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, w0)


@pytest.mark.parametrize(
    "make", [lambda: model_of(torch.bfloat16, 4, False), lambda: chosen_model(torch.bfloat16)]
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
