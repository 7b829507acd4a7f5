"""The loss, the batches and the methods on an encoder-decoder, against the model's own arithmetic."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from t5_cases import (
    METHOD_SETTINGS,
    MODULES,
    TRAINING,
    make_model,
    make_records,
    make_spec,
    make_tokenizer,
)

import diablo
from diablo.data.protocol import own_protocol
from diablo.methods import METHODS
from diablo.methods.base import is_encoder_decoder, load_base
from diablo.training.calibration import calibration_gradients
from diablo.training.examples import IGNORE, collate, encode
from diablo.training.finetune import count
from diablo.training.loss import summed_loss
from diablo.training.tokens import cached_encode
from diablo.training.trainer import StepTrainer

#: T5 1.0 scales what its head reads; 1.1 does not, and gates its feed-forward layers.
VERSIONS = {"1.0": {}, "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}
FORMS = ("full", "lora", "inplace", "adapter")


def make(form: str, version: str = "1.0"):
    """The tiny T5 in float64, with an adapter at random numbers (but for `full`)."""
    model = make_model(**VERSIONS[version])
    modules = MODULES if version == "1.0" else ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
    if form == "full":
        return model.double()
    if form == "lora":
        config = LoraConfig(r=4, target_modules=modules, task_type="SEQ_2_SEQ_LM")
    else:
        config = diablo.DiabloConfig(num_blocks=4, target_modules=modules, implementation=form)
    model = get_peft_model(model, config)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.05 * torch.randn(parameter.shape)
    return model.double()


@pytest.fixture(scope="module")
def examples():
    protocol = own_protocol("pairs", **TRAINING)
    return encode(make_tokenizer(), protocol, make_records(), 32, encoder_decoder=True).examples


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def own_loss(model, examples):
    """The model's own mean loss of one padded batch."""

    def pad(rows, value=0):
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    ids = [example["input_ids"] for example in examples]
    return model(
        input_ids=pad(ids),
        attention_mask=pad([torch.ones_like(row) for row in ids]),
        labels=pad([example["labels"] for example in examples], IGNORE),
    ).loss


def our_loss(model, examples, micro, **options):
    batch = collate(examples, micro, pad=0, encoder_decoder=True)
    parts = [
        summed_loss(model, m["positions"], m["targets"], m["inputs"], **options)
        for m in batch["micro_batches"]
    ]
    return torch.stack(parts).sum() / batch["targets"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_loss_and_gradients_are_the_models_own(form, version, examples):
    model = make(form, version)
    expected = own_loss(model, examples)
    wanted = gradients(model, expected)
    assert len(wanted) > 20
    for micro, rows in ((32, 1 << 20), (5, 7)):
        ours = our_loss(model, examples, micro, logits_bytes=rows * 4 * 60)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
        found = gradients(model, ours)
        assert found.keys() == wanted.keys()
        for name, gradient in found.items():
            # T5's norms work in float32 whatever the model is in.
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_calibration_takes_the_gradient_of_the_mean_loss(examples):
    model, spec = make("full"), SimpleNamespace(run="tiny", seed=0, micro_batch_size=5)
    wanted = gradients(model, own_loss(model, examples))
    model.zero_grad()
    calibration_gradients(examples, spec, 0)(model, 100)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6)


def test_in_place_trains_as_the_adapter_does(examples):
    blocks, weights = [], []
    for form in ("inplace", "adapter"):
        model = make(form)
        layers = [m for m in model.modules() if hasattr(m, "diablo_blocks")]
        assert {layer.implementation["default"] for layer in layers} == {form}
        # Encoder: q, k, v, o, wi, wo; decoder: both attentions, wi, wo.
        assert len(layers) == 2 * 6 + 2 * 10
        trained = [p for p in model.parameters() if p.requires_grad]
        stepper = torch.optim.AdamW(trained, lr=1e-2)
        for _ in range(5):
            gradients(model, our_loss(model, examples, 8))
            stepper.step()
        blocks.append([p.detach().clone() for p in trained])
        weights.append(model.merge_and_unload().state_dict())
    for one, other in zip(*blocks, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    start = make_model().state_dict()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5)
        linear = name.split(".")[-2] in MODULES
        assert torch.equal(weight, start[name].double()) is not linear, name


@pytest.mark.parametrize("method", [name for name in METHOD_SETTINGS if name != "full"])
def test_only_the_named_linear_layers_have_an_adapter(method, tiny_t5, examples, tmp_path):
    """Embeddings, head and position biases rest; the adapter is saved as one of an encoder-decoder."""
    spec = make_spec(tiny_t5, method=method)
    if method == "lori-s":
        dense = METHODS["lori-d"].prepare(make_model(), make_spec(tiny_t5, method="lori-d"))
        METHODS["lori-d"].save(dense, tmp_path / "dense")
        spec = make_spec(tiny_t5, method=method, mask_adapter=str(tmp_path / "dense"))
    base = load_base(spec.model_path, "cpu", torch.float32)
    model = METHODS[method].prepare(base, spec, None, calibration_gradients(examples, spec, 0))
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert names
    for name in names:
        before, _, adapter = name.replace(".default", "").rpartition(".lora_")
        before = before or name.split(".diablo_blocks")[0]
        assert before.rpartition(".")[2] in MODULES, name
        assert adapter or "diablo_blocks" in name
    METHODS[method].save(model, tmp_path / "adapter")
    assert '"task_type": "SEQ_2_SEQ_LM"' in (tmp_path / "adapter/adapter_config.json").read_text()


def t5_base():
    """t5-base on the meta device, from its published settings: no weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    with torch.device("meta"):
        return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0))


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("diablo", {"num_blocks": 64}, 3_096_576),  # 3.10M
        ("lora", {"rank": 8, "alpha": 16.0}, 3_244_032),  # 3.24M
    ],
)
def test_parameters_of_t5_base(method, settings, expected, tiny_t5):
    base = t5_base()
    assert count(base) == 222_903_552
    widths = [
        (module.in_features, module.out_features)
        for name, module in base.named_modules()
        if name.rpartition(".")[2] in MODULES
    ]
    sizes = {key: value for key, value in settings.items() if key != "alpha"}
    assert METHODS[method].parameters(widths, **sizes) == expected
    model = METHODS[method].prepare(base, make_spec(tiny_t5, method=method, **settings))
    assert count(model, trainable=True) == expected
    if method == "diablo":
        forms = {
            m.implementation["default"] for m in model.modules() if hasattr(m, "diablo_blocks")
        }
        assert forms == {"inplace"}


def test_a_run_counts_both_texts_and_pads_both(finetuned, examples):
    run = finetuned()
    lengths = [(len(e["input_ids"]), len(e["labels"])) for e in examples]
    assert run.facts["tokens"] == 2 * sum(map(sum, lengths))
    assert run.facts["targets"] == 2 * sum(labels for _, labels in lengths)
    assert run.facts["computed"] > run.facts["tokens"]
    assert [line["examples"] for line in run.log] == [8] * 8
    assert run.facts["truncated"] == run.facts["dropped"] == 0
    assert run.facts["base_parameters"] == count(make_model())


def test_a_run_without_training_counts_the_same_parameters(tiny_t5, tmp_path):
    from diablo.io import read_json
    from diablo.training import finetune

    spec = make_spec(tiny_t5).model_copy(update={"method": "zero-shot"})
    (tmp_path / "spec.json").write_text("{}")
    finetune(spec, tmp_path, tmp_path / "work", None)
    facts = read_json(tmp_path / "adapter" / "provenance.json")
    assert facts["base_parameters"] == count(make_model())


@pytest.mark.parametrize("longest", [2, 5])
def test_both_texts_are_cut_and_counted(longest, finetuned, examples):
    lengths = [(len(e["input_ids"]), len(e["labels"])) for e in examples]
    run = finetuned(max_length=longest, epochs=1.0)
    assert run.facts["truncated"] == sum(max(pair) > longest for pair in lengths)
    assert run.facts["tokens"] == sum(min(length, longest) for pair in lengths for length in pair)
    assert run.facts["dropped"] == 0


@pytest.mark.parametrize("name", ["packing", "kernels", "packing,graphs"])
def test_accelerations_are_refused_by_name(name, finetuned):
    with pytest.raises(ValueError, match=r"acceleration '\w+' cannot be used with a t5 model"):
        finetuned(options={"acceleration": name})


def test_the_cache_keeps_texts_of_different_lengths(tiny_t5, tmp_path, examples):
    arguments = (
        make_tokenizer(), own_protocol("pairs", **TRAINING), tiny_t5 / "data",
        tiny_t5 / "model", None, 0, 32, tmp_path / "tokens",
    )  # fmt: skip
    for _ in range(2):
        found = cached_encode(*arguments, encoder_decoder=True).examples
        for one, other in zip(found, examples, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in ("input_ids", "labels"))
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    causal = cached_encode(*arguments).examples
    assert all(len(e["input_ids"]) == len(e["labels"]) for e in causal)
    assert len(list((tmp_path / "tokens").iterdir())) == 2


class Stop(Exception):
    """Stands for a kill, in the middle of a step."""


@pytest.mark.parametrize("method", ["diablo", "lora-ga", "full"])
@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(method, finetuned, tmp_path, monkeypatch):
    """With T5's own dropout, whose draws have to go on where they were."""
    from t5_cases import build

    folder = build(tmp_path / "dropout", dropout_rate=0.1)
    settings = {"method": method, "on": folder, "options": {"save_steps": 3}}
    whole = finetuned("whole", **settings)
    original = StepTrainer.training_step

    def stop_in_step_five(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise Stop
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", stop_in_step_five)
        with pytest.raises(Stop):
            finetuned("stopped", **settings)
    stopped = finetuned("stopped", **settings)
    assert stopped.facts["resumed_from_step"] == 3

    def result(run):
        (path,) = (run.folder / "adapter").glob("*.safetensors")
        times = {"tokens_per_second"}
        lines = [{k: v for k, v in line.items() if k not in times} for line in run.log]
        return lines, hashlib.sha256(path.read_bytes()).hexdigest()

    assert result(stopped) == result(whole)
    plain = finetuned("plain", method=method)
    assert [line["loss"] for line in plain.log] != [line["loss"] for line in whole.log]


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(finetuned):
    plain, checkpointed = finetuned("plain"), finetuned("saved", gradient_checkpointing=True)
    losses = [[line["loss"] for line in run.log] for run in (plain, checkpointed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_saved_model_is_the_same_again(tmp_path):
    """Also version 1.1, whose decoder's output must stay unscaled."""
    for version, changes in VERSIONS.items():
        model = make_model(**changes).eval()
        model.save_pretrained(tmp_path / version)
        again = load_base(str(tmp_path / version), "cpu", torch.float32).eval()
        assert is_encoder_decoder(str(tmp_path / version))
        assert is_encoder_decoder(again)
        inputs = {"input_ids": torch.arange(3, 9)[None], "decoder_input_ids": torch.zeros(1, 1).long()}  # fmt: skip
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_a_full_run_leaves_a_whole_model(finetuned):
    run = finetuned(method="full")
    assert run.facts["trainable_parameters"] == run.facts["base_parameters"]
    saved = load_file(run.folder / "adapter" / "model.safetensors")
    assert "shared.weight" in saved
    assert "lm_head.weight" not in saved
