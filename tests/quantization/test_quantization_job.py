"""The job on a tiny model: what it writes, how it goes on after a kill, what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from quantization_cases import job, spec_of, tiny_llama
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from diablo.cli import main
from diablo.io import read_json, write_jsonl
from diablo.quantization import stream
from diablo.quantization.grid import Grid, GridSettings
from diablo.quantization.quantisers import check
from diablo.quantization.run import quantize

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def weights(folder):
    return load_file(folder / "model.safetensors")


def linear(model):
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in LAYERS
    }


@pytest.fixture
def made(tiny, tmp_path):
    """Runs a job; the keywords change the spec."""

    def run(**changes):
        it = job(tmp_path, spec_of(tiny, **changes))
        quantize(it.spec, it.folder, threads=1)
        return it

    return run


@pytest.mark.parametrize("quantizer", ["rtn", "gptq", "magr", "nf4", "loftq"])
def test_a_quantised_folder_is_a_plain_model(made, quantizer) -> None:
    more = {"group_size": None} if quantizer == "nf4" else {}
    it = made(name=quantizer, quantizer=quantizer, rank=2, **more)
    model = AutoModelForCausalLM.from_pretrained(it.folder)
    assert not hasattr(model.config, "quantization_config")
    facts = read_json(it.folder / "quantization.json")
    assert set(facts["layers"]) == set(linear(model))
    for name, weight in linear(model).items():
        for group in weight.unflatten(1, (-1, 16 if quantizer != "nf4" else weight.shape[1])):
            assert all(len(row.unique()) <= 16 for row in group) or quantizer == "nf4"
        assert 0 < facts["layers"][name]["error"] < 1
    # What is not quantised is as it was.
    before = tiny_llama().model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, before)
    assert facts["perplexity"]["quantised"] > 1
    assert facts["perplexity"]["text"].endswith("test.jsonl")
    assert facts["calibration"]["samples"] == 4
    assert (it.folder / "provenance.json").is_file()
    assert [path.name for path in it.work.iterdir()] == []


def test_errors_are_those_of_the_first_layers_inputs(made, tiny) -> None:
    it = made(quantizer="rtn", group_size=8)
    from transformers import AutoTokenizer

    from diablo.quantization.calibration import calibration_windows

    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    windows = calibration_windows(tokenizer, tiny / "data", 4, 24, 0)
    model = tiny_llama()
    seen = []
    attention = model.model.layers[0].self_attn
    attention.q_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    with torch.no_grad():
        for window in windows:
            model(input_ids=window[None])
    inputs, weight = torch.cat(seen), attention.q_proj.weight
    change = Grid.fit(weight, GridSettings(4, 8)).round(weight) - weight
    expected = (inputs @ change.T).norm() / (inputs @ weight.T).norm()
    facts = read_json(it.folder / "quantization.json")["layers"]["model.layers.0.self_attn.q_proj"]
    assert facts["error"] == pytest.approx(expected.item(), rel=1e-4)
    assert facts["rtn_error"] == facts["error"]
    assert facts["weight_error"] == pytest.approx((change.norm() / weight.norm()).item(), rel=1e-4)


def test_later_layers_see_what_the_quantised_ones_put_out(tiny, tmp_path) -> None:
    """With true_sequential, o_proj's Hessian is that of inputs made by quantised q, k and v."""
    model = tiny_llama().eval().requires_grad_(False)
    spec = spec_of(tiny, bits=2)
    windows = [torch.arange(3, 27)]
    seen = {}
    original = stream.quantise_weight

    def note(spec, weight, hessian, name):
        seen[name] = hessian.clone()
        return original(spec, weight, hessian, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "quantise_weight", note)
        tmp_path.mkdir(exist_ok=True)
        stream.quantise_layers(model, windows, spec, tmp_path, "cpu")
    for name in ("model.layers.1.self_attn.o_proj", "model.layers.2.mlp.down_proj"):
        inputs = []
        hook = model.get_submodule(name).register_forward_pre_hook(
            lambda module, args, inputs=inputs: inputs.append(args[0][0])
        )
        with torch.no_grad():
            model(input_ids=windows[0][None])
        hook.remove()
        # The finished model's inputs of this module are those it was quantised with.
        assert torch.allclose(seen[name], inputs[0].T @ inputs[0] / 24, rtol=1e-4, atol=1e-6)


def test_sets_of_layers_follow_from_what_they_read(tiny, tmp_path) -> None:
    model = tiny_llama().eval()
    layer = model.model.layers[0]
    modules = {
        name: model.get_submodule(name) for name in stream.target_modules(model, layer, None)
    }
    inputs, keywords = stream.capture(model, layer, [torch.arange(3, 9)])
    sets = stream.input_sets(modules, inputs, lambda hidden: layer(hidden, **keywords))
    short = [[name.rpartition(".")[2] for name in names] for names in sets]
    assert short == [LAYERS[:3], LAYERS[3:4], LAYERS[4:6], LAYERS[6:]]


@pytest.mark.parametrize("changes", [{}, {"true_sequential": False}, {"act_order": True}])
def test_a_killed_job_goes_on_to_the_same_bits(made, tiny, tmp_path, changes) -> None:
    whole = made(name="whole", **changes)
    it = job(tmp_path, spec_of(tiny, name="killed", **changes))
    original, calls = stream.quantise_weight, []

    def until_killed(*arguments):
        calls.append(arguments[-1])
        if len(calls) == 10:
            raise KeyboardInterrupt
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "quantise_weight", until_killed)
        with pytest.raises(KeyboardInterrupt):
            quantize(it.spec, it.folder, threads=1)
        assert not (it.folder / "provenance.json").exists()
        patch.setattr(stream, "quantise_weight", lambda *a: calls.append(a[-1]) or original(*a))
        calls.clear()
        quantize(it.spec, it.folder, threads=1)
    assert len(calls) == 14  # the first of three layers is not done again
    first, second = weights(whole.folder), weights(it.folder)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    facts = [read_json(path.folder / "quantization.json") for path in (whole, it)]
    assert facts[0]["layers"] == facts[1]["layers"]
    assert facts[0]["perplexity"] == facts[1]["perplexity"]


def test_layers_of_another_text_are_not_used(made, tiny, tmp_path, monkeypatch) -> None:
    it = job(tmp_path, spec_of(tiny, name="again"))
    work = it.work / f"quantize-again-{it.spec.digest[:8]}"
    work.mkdir(parents=True)
    (work / "identity.json").write_text("{}")
    (work / "layer-000.safetensors").write_text("left by another job")
    quantize(it.spec, it.folder, threads=1)
    whole = made(name="whole")
    first, second = weights(whole.folder), weights(it.folder)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 4},
        {"bits": 2, "act_order": True},
        {"bits": 3, "group_size": None},
        {"bits": 4, "symmetric": True},
    ],
)
def test_packed_holds_the_values_of_fake(made, monkeypatch, precision, changes) -> None:
    from diablo.quantization import run

    monkeypatch.setattr(run, "check_bf16", lambda *arguments: None)
    fake = made(name="fake", precision=precision, **changes)
    packed = made(name="packed", precision=precision, form="packed", **changes)
    ids = torch.arange(3, 20)[None]
    dtype = run.DTYPES[precision]
    models = [AutoModelForCausalLM.from_pretrained(it.folder, dtype=dtype) for it in (fake, packed)]
    with torch.no_grad():
        outputs = [model(input_ids=ids).logits.float() for model in models]
    assert "quantization_config" in read_json(packed.folder / "config.json")
    assert torch.allclose(*outputs, atol=0.02 if precision != "fp32" else 1e-4)
    stored = weights(packed.folder)
    kept = [name for name in stored if name.endswith("proj.weight") and stored[name].dtype == dtype]
    assert "model.embed_tokens.weight" in stored
    assert "lm_head.weight" not in stored
    assert not kept  # none of the quantised weights is stored as floats


@pytest.mark.parametrize("quantizer", ["nf4", "loftq"])
def test_packed_nf4_is_read_by_bitsandbytes(made, tiny, tmp_path, quantizer) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoTokenizer

    # bitsandbytes multiplies on a CPU by whole blocks of 64 inputs.
    wide = tmp_path / "wide"
    tiny_llama(hidden_size=64, intermediate_size=128).save_pretrained(wide)
    AutoTokenizer.from_pretrained(tiny / "model").save_pretrained(wide)
    changes = {"quantizer": quantizer, "group_size": None, "rank": 4, "model_path": str(wide)}
    fake = made(name="fake", **changes)
    packed = made(name="packed", form="packed", **changes)
    before = linear(AutoModelForCausalLM.from_pretrained(fake.folder))
    loaded = AutoModelForCausalLM.from_pretrained(packed.folder)
    for name, expected in before.items():
        weight = loaded.get_submodule(name).weight
        assert weight.dtype == torch.uint8
        assert torch.allclose(dequantize_4bit(weight.data, weight.quant_state), expected, atol=1e-6)


def test_packed_nf4_of_half_blocks_is_refused_by_name(made) -> None:
    with pytest.raises(ValueError, match=r"q_proj: .* 32 inputs .* 64"):
        made(quantizer="nf4", group_size=None, form="packed")


@pytest.mark.parametrize("form", ["fake", "packed"])
def test_only_the_modules_asked_for_change(made, form) -> None:
    stored = weights(made(modules=["q_proj", "down_proj"], form=form).folder)
    before = {f"{name}.weight": weight for name, weight in linear(tiny_llama()).items()}
    same = {name for name in before if name in stored and torch.equal(stored[name], before[name])}
    kept = {name.split(".")[-2] for name in same}
    assert kept == set(LAYERS) - {"q_proj", "down_proj"}
    assert len(same) == 3 * len(kept)


@pytest.mark.parametrize("bits", [2, 4])
def test_loftqs_adapter_brings_the_model_nearer(made, bits) -> None:
    from peft import PeftModel

    it = made(quantizer="loftq", bits=bits, rank=4, group_size=16 if bits == 2 else None)
    before = linear(tiny_llama())
    base = AutoModelForCausalLM.from_pretrained(it.folder)
    apart = {name: (weight - before[name]).norm() for name, weight in linear(base).items()}
    merged = PeftModel.from_pretrained(base, it.folder / "loftq").merge_and_unload()
    facts = read_json(it.folder / "quantization.json")["layers"]
    for name, weight in linear(merged).items():
        left = (weight - before[name]).norm()
        assert left < apart[name]
        assert facts[name]["weight_error"] == pytest.approx(
            (left / before[name].norm()).item(), rel=1e-4
        )
    config = read_json(it.folder / "loftq" / "adapter_config.json")
    assert config["init_lora_weights"] is True


def test_rounding_needs_no_text(made) -> None:
    it = made(quantizer="rtn", calibration_path=None)
    facts = read_json(it.folder / "quantization.json")
    assert facts["perplexity"] is None
    assert all(layer["error"] is None for layer in facts["layers"].values())


def test_a_short_text_gives_the_windows_it_has(made) -> None:
    it = made(samples=1000, quantizer="rtn")
    facts = read_json(it.folder / "quantization.json")["calibration"]
    assert 4 < facts["samples"] < 1000
    assert facts["tokens"] == 24 * facts["samples"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 1}, "bits = 1: one bit"),
        ({"bits": 9}, "bits = 9: use 2 to 8"),
        ({"quantizer": "nf4", "bits": 2}, "NF4 has 4 bits"),
        ({"calibration_path": None}, "gptq needs calibration_path"),
        ({"quantizer": "loftq"}, "loftq needs a rank"),
        ({"samples": 0}, "samples = 0"),
    ],
)
def test_settings_that_make_no_quantiser_are_refused(tiny, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        check(spec_of(tiny, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 48}, r"model\.layers\.0\.\S+: its 32 inputs .* group_size = 48"),
        ({"modules": ["q_pro"]}, "did you mean 'q_proj'"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(made, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_an_empty_text_is_refused(made, tmp_path) -> None:
    for name in ("train", "test"):
        write_jsonl(tmp_path / "empty" / f"{name}.jsonl", [])
    with pytest.raises(ValueError, match=r"train\.jsonl: it has no text"):
        made(calibration_path=str(tmp_path / "empty"))


def test_a_record_without_text_is_refused(made, tmp_path) -> None:
    write_jsonl(tmp_path / "bad" / "train.jsonl", [{"instruction": "a", "output": None}])
    write_jsonl(tmp_path / "bad" / "test.jsonl", [])
    with pytest.raises(ValueError, match="record 1: 'output' is None"):
        made(calibration_path=str(tmp_path / "bad"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused_by_name(tiny, tmp_path, bad) -> None:
    model = tiny_llama().eval().requires_grad_(False)
    model.model.layers[1].post_attention_layernorm.weight[0] = bad
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.gate_proj: its calibration activations"):
        stream.quantise_layers(model, [torch.arange(3, 20)], spec_of(tiny), tmp_path, "cpu")


def test_a_weight_that_is_not_finite_is_refused_by_name(tiny, tmp_path) -> None:
    model = tiny_llama().eval().requires_grad_(False)
    model.model.layers[0].self_attn.k_proj.weight[1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.k_proj: its weight"):
        stream.quantise_layers(model, [torch.arange(3, 20)], spec_of(tiny), tmp_path, "cpu")


def test_the_verb_runs_a_spec_and_refuses_a_misplaced_one(tiny, tmp_path, capsys) -> None:
    it = job(tmp_path, spec_of(tiny, quantizer="rtn"))
    assert main(["quantize", str(it.folder / "spec.json"), "--threads", "1"]) == 0
    assert (it.folder / "model.safetensors").is_file()
    other = tmp_path / "other" / "spec.json"
    other.parent.mkdir()
    other.write_text(json.dumps(it.spec.model_dump()))
    assert main(["quantize", str(other)]) == 2
    assert "lies in folder 'other'" in capsys.readouterr().err
