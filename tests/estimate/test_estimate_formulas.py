"""Operations, memory and rates of an estimate against hand computations and recorded measurements."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from diablo.data.catalog import load_catalog
from diablo.data.decoding import Decoding
from diablo.estimate.decode import Decoder
from diablo.estimate.facts import RULES, load_assumptions, load_gpus
from diablo.estimate.flops import matrix_parameters, training_flops
from diablo.estimate.memory import GB, token_bytes, training_need
from diablo.estimate.rates import BENCHMARKS, Rates
from diablo.estimate.sizes import train_size, trained_examples
from diablo.specs import RunSpec

GIB = 2**30
CATALOG, KNOWN = load_catalog(), load_assumptions()
STEPS = json.loads((BENCHMARKS / "nvidia-h200.json").read_text())["train_step"]


def run(**changes) -> RunSpec:
    fields = {
        "run": "r", "scale": "paper", "model": "llama3-8b", "model_path": "m", "dataset": "gsm8k",
        "data_path": "d", "suite": "gsm8k", "variant": "paper", "method": "diablo", "num_blocks": 64,
        "modules": ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"], "precision": "bf16",
    }  # fmt: skip
    return RunSpec(**fields | changes)


def test_operations_of_a_token_by_hand() -> None:
    """Llama-3-8B: 32 layers of q, o (4096²), k, v (4096 x 1024), three of 4096 x 14336, and the head."""
    layer = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    parameters = 32 * layer + 4096 * 128256
    assert matrix_parameters(CATALOG.model("llama3-8b")) == parameters == 7_504_658_432
    assert training_flops(parameters, 0, full=True, checkpointing=False) == 6 * parameters
    assert training_flops(parameters, 10, full=False, checkpointing=False) == 4 * parameters + 60
    assert training_flops(parameters, 10, full=False, checkpointing=True) == 6 * parameters + 60


def test_a_rate_is_the_recorded_one() -> None:
    """4 P x 2,048 tokens in the recorded median time of the plain setting."""
    rates = Rates.load("h200", load_gpus(), CATALOG)
    recorded = STEPS["llama3-8b 8x256 bf16+fp32 N=64 r=32"]["forms"]
    seconds = recorded["frozen"]["median_ms"] / 1000
    model = CATALOG.model("llama3-8b")
    assert rates.measured
    assert rates.frozen(model) == pytest.approx(4 * matrix_parameters(model) * 2048 / seconds)
    assert rates.multiple("lora", model) == recorded["lora"]["x_frozen"]
    # Full fine-tuning ran out of memory in that setting; it was recorded in pure 16 bits alone.
    pure = STEPS["llama3-8b 8x256 bf16 N=64 r=32"]["forms"]["full"]
    assert rates.multiple("full", model) == pure["x_frozen"]


def test_a_rate_agrees_with_the_whole_trainer() -> None:
    """Another measurement: tokens a second of the trainer with all accelerations (end_to_end)."""
    model = CATALOG.model("llama3-8b")
    rates = Rates.load("h200", load_gpus(), CATALOG)
    each = 4 * matrix_parameters(model) / rates.frozen(model) * rates.multiple("inplace", model)
    recorded = json.loads((BENCHMARKS / "nvidia-h200.json").read_text())["end_to_end"]
    auto = recorded["llama3-8b micro 16 bf16+fp32 N=64"]["variants"]["auto"]
    assert 1 / each == pytest.approx(auto["tokens_per_second"], rel=0.1)
    mean = auto["tokens_per_second"] / auto["examples_per_second"]
    assert KNOWN.tokens_of("commonsense").train == pytest.approx(mean, rel=0.01)


def test_a_rate_is_scaled_by_the_published_peaks() -> None:
    model = CATALOG.model("llama3-8b")
    measured = Rates.load("h200", load_gpus(), CATALOG).frozen(model)
    other = Rates.load("a100-80", load_gpus(), CATALOG)
    assert not other.measured
    assert other.frozen(model) == pytest.approx(measured * 312 / 989)
    assert "not measured" in other.basis(model)
    assert "peaks" in other.basis(model)


@pytest.mark.parametrize(
    ("setting", "form"),
    [
        (f"{shape} 8x256 bf16+fp32 N=64 r=32", form)
        for shape in ("llama3-8b", "llama2-7b")
        for form in ("frozen", "inplace", "lora", "dora")
    ],
)
def test_memory_is_near_the_recorded_peak(setting: str, form: str) -> None:
    """Within 10 % of peak_gib, whose weights, states and activations are those of the formulas."""
    entry = STEPS[setting]
    model = CATALOG.model(entry["settings"]["shape"])
    row = entry["forms"][form]
    bytes_ = 2 * model.shapes.base_parameters + 16 * row["trainable"]
    bytes_ += entry["tokens"] * token_bytes(model, form, KNOWN)
    assert bytes_ / GIB == pytest.approx(row["peak_gib"], rel=0.1)


def test_memory_of_full_fine_tuning_by_hand() -> None:
    """float32 weights, gradients and two moments: 16 bytes a parameter, and autocast's 16-bit copies."""
    model = CATALOG.model("llama3-8b")
    need = training_need(run(method="full", modules=[]), model, None, KNOWN)
    assert need.fixed == 18 * model.shapes.base_parameters
    pure = training_need(run(method="full", precision="bf16-pure"), model, None, KNOWN)
    assert pure.fixed == 8 * model.shapes.base_parameters
    assert pure.fixed / GIB < STEPS["llama3-8b 8x256 bf16 N=64 r=32"]["forms"]["full"]["peak_gib"]


def test_memory_of_an_adapter() -> None:
    """71,303,168 float32 blocks with gradient and moments beside 16-bit weights; all smaller helps."""
    model = CATALOG.model("llama3-8b")
    need = training_need(run(), model, None, KNOWN)
    assert need.weights == 2 * model.shapes.base_parameters
    assert need.gradients == 4 * 71_303_168
    assert need.states == 12 * 71_303_168
    half = training_need(run(micro_batch_size=8), model, None, KNOWN)
    assert half.activations < need.activations
    again = training_need(run(gradient_checkpointing=True), model, None, KNOWN)
    assert again.activations < need.activations / 2
    assert again.fixed == half.fixed == need.fixed


@pytest.mark.parametrize(
    ("dataset", "batch", "steps"),
    [("commonsense_170k", 16, 10_643), ("metamathqa", 16, 24_687), ("math_10k", 16, 619),
     ("codealpaca", 32, 625), ("saferpaca", 32, 687), ("gsm8k", 32, 233), ("wizardlm_52k", 32, 1625),
     ("glue_mrpc", 32, 114), ("glue_cola", 32, 267), ("glue_sst2", 32, 2104), ("glue_qnli", 32, 3273),
     ("glue_mnli", 32, 12_271)],
)  # fmt: skip
def test_examples_give_the_papers_steps(dataset: str, batch: int, steps: int) -> None:
    """An epoch's steps, as worked out from the paper's hyper-parameters, within a hundredth."""
    size = train_size(dataset, CATALOG.dataset(dataset), KNOWN).examples
    assert size / batch == pytest.approx(steps, rel=0.01)


def test_caps_on_training() -> None:
    assert trained_examples(run(epochs=3), 1000) == 3000
    assert trained_examples(run(epochs=3, train_limit=512, held_out=12), 1000) == 1500
    assert trained_examples(run(epochs=3, max_steps=10, batch_size=16), 1000) == 160


def test_a_decoding_step_reads_the_weights_once() -> None:
    """One sequence at a time: each token takes the weights' bytes over 60 % of the bandwidth."""
    model = CATALOG.model("llama3-8b")
    weights = 2.0 * model.shapes.base_parameters
    rates = Rates.load("h200", load_gpus(), CATALOG)
    decoder = Decoder(rates, KNOWN, model, weights, "bf16")
    one, two = (decoder.complete(1, 100, new, Decoding()) for new in (100, 200))
    each = (two.seconds - one.seconds) / 100
    assert each == pytest.approx(weights / (0.6 * 4800 * GB), rel=0.01)
    assert one.flops == 2 * matrix_parameters(model) * 200
    assert decoder.complete(10, 100, 100, Decoding(num_beams=4)).completions == 10
    beams, greedy = (decoder.complete(10, 100, 100, Decoding(num_beams=n)) for n in (4, 1))
    assert beams.seconds > greedy.seconds


def test_what_is_assumed_is_complete() -> None:
    assert set(KNOWN.ranges) == set(RULES)
    assert all(spread.why for spread in KNOWN.ranges.values())
    datasets = {*KNOWN.train_examples, *KNOWN.test_examples}
    assert datasets <= set(CATALOG.datasets)
    assert {"a100-40", "a100-80", "h100", "h200", "l40s", "rtx4090"} == set(load_gpus().gpus)


def test_an_estimate_needs_no_torch() -> None:
    code = (
        "import sys; from diablo.cli import main; main(['estimate', 'table9', '--scale', 'paper']); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "table9" in done.stdout
