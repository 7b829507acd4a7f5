"""One table of cases through all shared checks; what every PEFT method has to do."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from tuner_cases import CASES, Case, batch, blocks, clone, diablo_layers, outputs, weights

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
EXACT = {"rtol": 0, "atol": 0}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ONE_LAYER = {"num_hidden_layers": 1}


def base_outputs(case):
    return outputs(case.base())


@every_case
def test_starts_as_the_base_model(case):
    torch.testing.assert_close(outputs(case.model()), base_outputs(case), **CLOSE)


@every_case
def test_only_the_expected_parameters_are_trainable(case):
    model = case.model()
    assert len(diablo_layers(model)) == case.layers
    for name, parameter in model.named_parameters():
        if "diablo_blocks" in name:
            expected = True
        elif case.options.get("bias") == "all":
            expected = name.endswith(".bias")
        else:
            expected = name.endswith(case.also_trained) if case.also_trained else False
        assert parameter.requires_grad == expected, name


@every_case
def test_training_lowers_the_loss_and_touches_nothing_else(case):
    model = case.model().train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True
    )
    losses = []
    for _ in range(8):
        loss = model(**batch()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert min(losses[-2:]) < losses[0] - 0.02
    model.state_dict()  # W0 back
    for name, parameter in model.named_parameters():
        if name not in trained:
            assert torch.equal(parameter, before[name]), name
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters() if n in trained)


@every_case
def test_save_and_load(case, tmp_path):
    model = case.random
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").exists()
    loaded = PeftModel.from_pretrained(case.base(), tmp_path)
    torch.testing.assert_close(outputs(loaded), expected, **CLOSE)
    config = loaded.peft_config["default"]
    assert config.peft_type == "DIABLO"
    assert config.num_blocks == case.config().num_blocks
    assert not any(p.requires_grad for p in blocks(loaded))
    assert any(
        p.requires_grad
        for p in blocks(PeftModel.from_pretrained(case.base(), tmp_path, is_trainable=True))
    )
    lean = PeftModel.from_pretrained(case.base(), tmp_path, low_cpu_mem_usage=True)
    torch.testing.assert_close(outputs(lean), expected, **CLOSE)


@every_case
def test_merge_and_unmerge(case):
    model = case.random
    before, expected = weights(model), outputs(model)
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(outputs(model), expected, **CLOSE)
    model.unmerge_adapter()
    assert all(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))
    torch.testing.assert_close(outputs(model), expected, **CLOSE)


@every_case
def test_merge_and_unload(case):
    model = case.random
    expected = outputs(model)
    merged = model.merge_and_unload(safe_merge=True)
    assert not diablo_layers(merged)
    torch.testing.assert_close(outputs(merged), expected, **CLOSE)


@every_case
def test_disable_and_unload_give_the_base_model(case):
    model = case.random
    base = base_outputs(case)
    assert not torch.allclose(outputs(model), base, **CLOSE)
    with model.disable_adapter():
        torch.testing.assert_close(outputs(model), base, **EXACT)
    torch.testing.assert_close(outputs(model.unload()), base, **EXACT)


@every_case
def test_several_adapters(case):
    model = case.random
    base, first = base_outputs(case), outputs(model)
    extra = {"bias": "none", "init_weights": False, "modules_to_save": None}
    torch.manual_seed(9)  # not the draws of the first
    model.add_adapter("second", case.config(**extra))
    torch.testing.assert_close(outputs(model), first, **EXACT)
    model.set_adapter("second")
    second = outputs(model)
    assert not torch.allclose(second, first, **CLOSE)
    model.base_model.set_adapter(["default", "second"])
    both = outputs(model)
    assert not torch.allclose(both, second, **CLOSE)
    if case.options.get("modules_to_save") is None:
        model.merge_adapter()
        torch.testing.assert_close(outputs(model), both, **CLOSE)
        model.unmerge_adapter()
    model.base_model.set_adapter("second")
    model.delete_adapter("default")
    torch.testing.assert_close(outputs(model), second, **EXACT)
    with model.disable_adapter():
        torch.testing.assert_close(outputs(model), base, **EXACT)


@every_case
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(case, reentrant):
    def gradients(checkpointing):
        model = case.random.train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        torch.manual_seed(5)  # dropout
        model(**batch()).loss.backward()
        return [p.grad for p in model.parameters() if p.requires_grad]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@every_case
def test_autocast(case):
    model = case.random
    plain = outputs(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = outputs(model)
        loss = model(**batch()).loss
    loss.backward()
    assert (out - plain).norm() < 0.05 * plain.norm()
    trained = blocks(model)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained)


@every_case
def test_both_forms_agree_on_a_whole_model(case):
    if case.options.get("dropout"):
        pytest.skip("in place has no dropout")
    results = []
    for form in ("adapter", "inplace"):
        model = case.model(init_weights=False, implementation=form)
        loss = model(**batch()).loss
        loss.backward()
        results.append((loss.detach(), [p.grad for p in model.parameters() if p.requires_grad]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@every_case
def test_deepcopy(case):
    model = case.random
    expected = outputs(model)
    torch.testing.assert_close(outputs(clone(model)), expected, **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["inplace", "adapter"])
def test_compile_trains_as_eager_does(form):
    case = Case("compile", {"target_modules": ["q_proj", "down_proj"]}, model_options=ONE_LAYER)
    losses = []
    for compiled in (False, True):
        model = case.model(implementation=form).train()
        run = torch.compile(model, backend="aot_eager") if compiled else model
        optimizer = torch.optim.AdamW(blocks(model), lr=1e-2, fused=True)
        losses.append([])
        for step in range(4):
            loss = run(**batch(step % 2)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[-1].append(loss.item())
    assert losses[0][0] - losses[0][2] > 0.02
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    with model.disable_adapter():  # the compiled model sees the switch, and W0
        torch.testing.assert_close(run(**batch()).logits, case.base()(**batch()).logits, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocks_are_float32_on_a_16_bit_base(dtype):
    case = CASES[1]
    base = case.base().to(dtype)
    for form in ("inplace", "adapter"):
        model = get_peft_model(clone(base), case.config(implementation=form, init_weights=False))
        assert {p.dtype for p in blocks(model)} == {torch.float32}
        model(**batch()).loss.backward()
        assert {p.grad.dtype for p in blocks(model)} == {torch.float32}
        expected = outputs(model)
        merged = outputs(model.merge_and_unload())
        assert (merged - expected).norm() < 0.05 * expected.norm()
    plain = get_peft_model(clone(base), case.config(), autocast_adapter_dtype=False)
    assert {p.dtype for p in blocks(plain)} == {dtype}


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_a_4_bit_base_trains_in_the_adapter_form(compute, tmp_path):
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    torch.manual_seed(0)

    def make():
        torch.manual_seed(2)
        model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Linear(128, 64))
        quantised = torch.nn.Sequential(
            *(
                bnb.nn.Linear4bit(a, b, compute_dtype=compute, quant_type="nf4")
                for a, b in ((64, 128), (128, 64))
            )
        )
        quantised.load_state_dict(model.state_dict())
        return quantised.to("cpu")

    from diablo import DiabloConfig

    try:
        make()(torch.randn(2, 64))
    except Exception as error:
        pytest.skip(f"bitsandbytes 4-bit layers do not run on this machine: {error}")
    config = DiabloConfig(num_blocks=8, target_modules=["0", "1"], init_weights=False)
    model = get_peft_model(make(), config)
    assert {layer.implementation["default"] for layer in diablo_layers(model)} == {"adapter"}
    x = torch.randn(4, 5, 64)
    optimizer = torch.optim.AdamW(blocks(model), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = (model(x) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path)
    expected = model(x)
    # .train(): in eval mode bitsandbytes takes another, less exact kernel
    loaded = PeftModel.from_pretrained(make(), tmp_path).train()
    torch.testing.assert_close(loaded(x), expected)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), make()(x))
    with pytest.raises(ValueError, match=r"0: cannot merge into a Linear4bit.*Dequantise the base"):
        model.merge_and_unload()
    torch.testing.assert_close(model(x), expected)
