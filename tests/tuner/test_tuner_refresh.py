"""The `inplace` form trains on the current D, whatever changed it, and gives W0 back bit for bit."""

import copy

import pytest
import torch
from peft import get_peft_model
from torch.optim.optimizer import Optimizer
from tuner_cases import ALL, batch, blocks, diablo_layers, llama, outputs, weights

from diablo import DiabloConfig

LR = 3e-2


class DataSGD(Optimizer):
    """Updates through ``.data``, which advances no version counter."""

    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data -= LR * p.grad / (p.grad.norm() + 1e-3)


def by_hand(params):
    """No Optimizer at all: no step hooks either."""

    class Hand:
        def step(self):
            for p in params:
                p.data.add_(p.grad / (p.grad.norm() + 1e-3), alpha=-LR)

        def zero_grad(self):
            for p in params:
                p.grad = None

    return Hand()


def flat_buffer(params):
    """One buffer for all parameters, updated through the buffer alone, as sharded optimisers do."""
    flat = torch.cat([p.detach().flatten() for p in params])
    start = 0
    for p in params:
        p.data = flat[start : start + p.numel()].view_as(p)
        start += p.numel()

    class Flat:
        def step(self):
            grad = torch.cat([p.grad.flatten() for p in params])
            flat.sub_(LR * grad / (grad.norm() + 1e-3))

        def zero_grad(self):
            for p in params:
                p.grad = None

    return Flat()


def transformers_adafactor(params):
    optimization = pytest.importorskip("transformers.optimization")
    if not hasattr(optimization, "Adafactor"):
        pytest.skip("transformers has no Adafactor")
    return optimization.Adafactor(params, lr=LR, relative_step=False, scale_parameter=False)


def bitsandbytes_8bit(params):
    bnb = pytest.importorskip("bitsandbytes")
    try:
        optimizer = bnb.optim.AdamW8bit(params, lr=LR, min_8bit_size=1)
        probe = torch.nn.Parameter(torch.ones(4096))
        probe.grad = torch.ones(4096)
        bnb.optim.AdamW8bit([probe], lr=LR, min_8bit_size=1).step()
    except Exception as error:
        pytest.skip(f"bitsandbytes 8-bit AdamW does not run on this machine: {error}")
    return optimizer


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=LR, foreach=False),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=LR, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=LR, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, fused=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=LR),
    "transformers-adafactor": transformers_adafactor,
    "bitsandbytes-8bit": bitsandbytes_8bit,
    "data-sgd": DataSGD,
    "by-hand": by_hand,
    "flat-buffer": flat_buffer,
}


def build(implementation, dtype=torch.float32, n=5, **options):
    config = DiabloConfig(
        num_blocks=n, implementation=implementation, target_modules=list(ALL), **options
    )
    return get_peft_model(llama(dtype), config)


def train(model, make, steps=20, between=lambda model, step: None):
    model.train()
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    losses = []
    for step in range(steps):
        loss = model(**batch(step % 3)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        between(model, step)
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_forms_agree_after_20_steps(name):
    results = {}
    for form in ("inplace", "adapter"):
        model = build(form).double() if name.startswith("adamw") else build(form)
        # float64 for the Adam family: it divides rounding errors by themselves where gradients vanish
        losses = train(model, OPTIMIZERS[name])
        results[form] = losses, outputs(model), blocks(model)
    (a_loss, a_out, a_blocks), (b_loss, b_out, b_blocks) = results["inplace"], results["adapter"]
    assert a_loss[0] - a_loss[-1] > 0.05, "training must move, or agreement says nothing"
    torch.testing.assert_close(torch.tensor(a_loss), torch.tensor(b_loss), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(a_out, b_out, rtol=1e-2, atol=1e-2)
    for a, b in zip(a_blocks, b_blocks, strict=True):
        assert (a - b).norm() <= 1e-2 * b.norm()


def test_the_agreement_above_fails_without_the_refresh(monkeypatch):
    """The mutation that the tests are for: write once, then believe that D has not changed."""
    from diablo.tuner.held import HeldWeight

    write = HeldWeight.write

    def write_once(self, weight, names, layouts, values):
        if self.names != names:
            write(self, weight, names, layouts, values)

    monkeypatch.setattr(HeldWeight, "write", write_once)
    with pytest.raises(AssertionError):
        test_both_forms_agree_after_20_steps("by-hand")


def test_load_state_dict_in_mid_training():
    results = []
    for form in ("inplace", "adapter"):
        model = build(form)
        saved = {}

        def between(model, step, saved=saved):
            if step == 3:
                saved.update(copy.deepcopy(model.state_dict()))
            if step == 7:
                model.load_state_dict(saved)

        results.append((train(model, OPTIMIZERS["sgd"], 12, between), outputs(model)))
    torch.testing.assert_close(torch.tensor(results[0][0]), torch.tensor(results[1][0]))
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


def test_every_way_to_change_the_blocks_is_seen_by_the_next_forward():
    """Without a backward pass or an optimiser in between, and with two changes in a row."""
    inplace, adapter = build("inplace"), build("adapter")

    def changes():
        yield lambda p: p.data.fill_(0.05)
        yield lambda p: setattr(p, "data", torch.full_like(p, -0.05))
        yield lambda p: (setattr(p, "data", p.data + 1), setattr(p, "data", p.data - 0.9))
        yield lambda p: p.detach().mul_(0.5)
        yield lambda p: p.detach().numpy().__imul__(0.5)

    for change in changes():
        for model in (inplace, adapter):
            for p in blocks(model):
                change(p)
        torch.testing.assert_close(outputs(inplace), outputs(adapter), rtol=1e-4, atol=1e-4)


def test_gradient_accumulation_and_checkpoint_recomputation():
    for reentrant in (True, False):
        grads = []
        for form in ("inplace", "adapter"):
            model = build(form, init_weights=False).train()
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
            for seed in range(3):
                model(**batch(seed)).loss.backward()
            grads.append([p.grad for p in blocks(model)])
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_reference_forward_between_forward_and_backward():
    """Preference training: the base model answers while the policy's graph is still open."""
    grads = []
    for disturb in (False, True):
        model = build("inplace", init_weights=False)
        before = weights(model)
        model.add_adapter(
            "other", DiabloConfig(num_blocks=3, target_modules=ALL, init_weights=False)
        )
        loss = model(**batch()).loss
        if disturb:
            with model.disable_adapter(), torch.no_grad():
                model(**batch(1))
                assert all(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))
            model.set_adapter("other")
            outputs(model)  # now the weights hold the other adapter's blocks
            held = weights(model)
            model.set_requires_grad("default", True)
            loss.backward()
            for now, then in zip(weights(model), held, strict=True):
                torch.testing.assert_close(now, then, rtol=0, atol=0)
        else:
            loss.backward()
        grads.append([p.grad for n, p in model.named_parameters() if "blocks.default" in n])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_two_graphs_open_at_once():
    grads = []
    for form in ("inplace", "adapter"):
        model = build(form, init_weights=False)
        (model(**batch(0)).loss + model(**batch(1)).loss).backward()
        grads.append([p.grad for p in blocks(model)])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_backward_after_the_blocks_were_changed_in_place_is_refused():
    model = build("inplace", init_weights=False)
    loss = model(**batch()).loss
    with torch.no_grad():
        for p in blocks(model):
            p.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [4, 5])
def test_w0_comes_back_bit_for_bit(dtype, n):
    model = build("inplace", dtype, n, init_weights=False)
    before = weights(model)
    assert {p.dtype for p in blocks(model)} == {torch.float32}

    def same():
        return all(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))

    def held():
        train(model, OPTIMIZERS["adamw-fused"], 2)
        assert not same()

    held()
    with model.disable_adapter():
        assert same()
    held()
    model.merge_adapter()
    assert not same()
    model.unmerge_adapter()
    assert same()
    held()
    state = model.state_dict()
    saved = [v for k, v in state.items() if "base_layer" in k]
    assert all(torch.equal(a, b) for a, b in zip(saved, before, strict=True))
    model.add_adapter("other", DiabloConfig(num_blocks=3, target_modules=ALL, init_weights=False))
    held()
    model.base_model.set_adapter(["default", "other"])
    held()
    model.delete_adapter("default")
    assert same()
    held()
    layers = diablo_layers(model)
    base = model.unload()
    got = [layer.base_layer.weight for layer in layers]
    assert all(torch.equal(a, b) for a, b in zip(got, before, strict=True))
    assert not diablo_layers(base)


def test_merging_one_adapter_leaves_nothing_of_another():
    """`second` has no blocks in q_proj, whose weight holds those of `default` at that moment."""
    model = build("inplace", init_weights=False)
    q_proj = diablo_layers(model)[0]
    before = q_proj.base_layer.weight.detach().clone()
    model.add_adapter("second", DiabloConfig(num_blocks=3, target_modules=["v_proj"]))
    outputs(model)
    assert not torch.equal(q_proj.base_layer.weight, before)
    merged = model.merge_and_unload(adapter_names=["second"])
    assert torch.equal(merged.model.layers[0].self_attn.q_proj.weight, before)


def test_conversion_and_copies_while_the_weight_is_held():
    model = build("inplace", init_weights=False)
    before = weights(model)
    expected = outputs(model)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(outputs(twin), expected, rtol=0, atol=0)
    with torch.no_grad():
        blocks(twin)[0].zero_()
    torch.testing.assert_close(outputs(model), expected, rtol=0, atol=0)  # nothing is shared
    model.to(torch.bfloat16)
    with model.disable_adapter():
        got = weights(model)
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(got, before, strict=True))


def test_pickle_while_the_weight_is_held(tmp_path):
    model = build("inplace", init_weights=False)
    before, expected = weights(model), outputs(model)
    torch.save(model, tmp_path / "model.pt")
    twin = torch.load(tmp_path / "model.pt", weights_only=False)
    torch.testing.assert_close(outputs(twin), expected, rtol=0, atol=0)
    with twin.disable_adapter():
        assert all(torch.equal(a, b) for a, b in zip(weights(twin), before, strict=True))


def test_inference_mode_then_training():
    model = build("inplace", init_weights=False)
    with torch.inference_mode():
        model(**batch())
    train(model, OPTIMIZERS["sgd"], 2)


def test_autocast_with_a_gradient_scaler():
    model = build("inplace", init_weights=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    scaler = torch.amp.GradScaler("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch()).loss
    scaler.scale(loss).backward()
    assert {p.grad.dtype for p in blocks(model)} == {torch.float32}
    scaler.step(optimizer)
    scaler.update()


def test_hooks_and_trained_weights_of_the_base_layer_are_respected():
    model, plain = build("inplace", init_weights=False), build("adapter", init_weights=False)
    expected = outputs(plain)
    calls = []
    layer = diablo_layers(model)[0]
    layer.base_layer.register_forward_hook(lambda *args: calls.append(1))
    torch.testing.assert_close(outputs(model), expected, rtol=1e-4, atol=1e-4)
    assert calls
    other = diablo_layers(model)[1]
    other.base_layer.weight.requires_grad_(True)
    model(**batch()).loss.backward()
    assert other.base_layer.weight.grad is not None
