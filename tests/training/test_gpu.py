"""The precisions and the restart on a GPU."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from diablo.io import read_jsonl
from diablo.methods import METHODS, load_for_inference
from diablo.rows import is_trained
from diablo.training.trainer import StepTrainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

TRAINED = [name for name in METHODS if is_trained(name)]


def weights(run):
    (path,) = (run.folder / "adapter").glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize("precision", ["fp16", "bf16", "bf16-pure"])
def test_precision(method, precision, make_run, finetune):
    run = make_run(method=method, precision=precision)
    log = finetune(run)
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    facts = json.loads((run.folder / "adapter" / "provenance.json").read_text())
    assert facts["dtype"]["autocast"] == (None if precision == "bf16-pure" else precision)
    expected = torch.bfloat16 if precision == "bf16-pure" else torch.float32
    # Beside them, a random pattern keeps its places, which are whole numbers.
    kept = {tensor.dtype for tensor in weights(run).values() if tensor.is_floating_point()}
    assert kept == {expected}
    served = load_for_inference(run.spec, run.folder / "adapter", "cuda", "bfloat16")
    assert (served.device.type, served.dtype) == ("cuda", torch.bfloat16)


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("method", ["full", "lora", "milora", "diablo"])
def test_same_bytes_after_a_restart(method, precision, make_run, finetune, monkeypatch):
    settings = {"method": method, "precision": precision}
    whole, stopped = make_run("whole", **settings), make_run("stopped", **settings)
    finetune(whole)
    original = StepTrainer.training_step

    def stop_in_step_five(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise Stop
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StepTrainer, "training_step", stop_in_step_five)
    with pytest.raises(Stop):
        finetune(stopped, save_steps=3)
    monkeypatch.undo()
    finetune(stopped)
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(stopped)[name], tensor), name


def test_overflow_in_fp16_skips_the_step(make_run, finetune, monkeypatch):
    from torch.amp import GradScaler

    # A first scale that must overflow: the scaler halves it until it fits.
    original = GradScaler.__init__

    def high(self, device="cuda", init_scale=2.0**16, **kwargs):
        original(self, device, init_scale=2.0**30, **kwargs)

    monkeypatch.setattr(GradScaler, "__init__", high)
    log = finetune(make_run(method="lora", precision="fp16", dropout=0.0, epochs=10.0, lr=1e-3))
    skipped = [line for line in log if line.get("skipped")]
    assert 0 < len(skipped) <= 20
    assert all(line["grad_norm"] is None for line in skipped)
    assert log[-1]["grad_norm"] > 0
    assert log[-1]["loss"] < log[0]["loss"]


def losses(log):
    return [line["loss"] for line in log]


@pytest.mark.parametrize("method", ["diablo", "lora", "full"])
def test_recorded_steps_have_the_same_losses(method, make_run, finetune):
    """Packing alone against packing with CUDA graphs, and both against padded batches."""
    settings = {"method": method, "precision": "bf16", "epochs": 6.0, "dropout": 0.0}
    logs = {
        names: finetune(make_run(names.replace(",", "-"), **settings), acceleration=names)
        for names in ("none", "packing", "packing,graphs")
    }
    for names in ("packing", "packing,graphs"):
        assert losses(logs[names]) == pytest.approx(losses(logs["none"]), rel=2e-2, abs=2e-2), names
    assert losses(logs["packing,graphs"])[-1] < 0.8 * losses(logs["packing,graphs"])[0]
    tokens = [sum(line[key] for line in logs["packing"]) for key in ("tokens", "computed")]
    assert tokens[0] == tokens[1]


def test_what_depends_on_the_lengths_is_not_recorded():
    from diablo.training.packing import packed_attention, packed_inputs

    q = torch.randn(1, 2, 8, 16, device="cuda")
    ids = torch.zeros(1, 8, dtype=torch.long)
    packed = {k: v for k, v in packed_inputs(ids, ids, [3, 5]).items() if k.startswith("packed")}
    packed["packed_bounds"] = packed["packed_bounds"].cuda()

    def attention():
        return packed_attention(None, q, q, q, None, **packed)[0]

    attention()
    with pytest.raises(RuntimeError, match="float32 cannot be recorded"):  # noqa: SIM117
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            attention()
    # Under autocast the same tensors take the call that reads the lengths on the GPU.
    with torch.autocast("cuda", torch.bfloat16):
        attention()
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            attention()


@pytest.mark.parametrize("method", ["diablo", "lora"])
def test_fused_kernels_have_the_same_losses(method, make_run, finetune):
    pytest.importorskip("liger_kernel")
    settings = {"method": method, "precision": "bf16", "dropout": 0.0}
    # Last, because it replaces the rotary embedding of all Llama models of the process.
    logs = {
        names: finetune(make_run(names.replace(",", "-"), **settings), acceleration=names)
        for names in ("packing", "packing,kernels", "packing,kernels,graphs")
    }
    for names in ("packing,kernels", "packing,kernels,graphs"):
        assert losses(logs[names]) == pytest.approx(losses(logs["packing"]), rel=2e-2), names


def test_flash_attention_on_a_packed_row_equals_each_sequences_own():
    from diablo.training.packing import packed_attention

    torch.manual_seed(0)
    lengths = [5, 0, 37, 64, 1, 21]
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device="cuda")
    q = torch.randn(1, 8, 128, 32, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    k, v = (
        torch.randn(1, 2, 128, 32, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )
    grad = torch.randn(1, 128, 8, 32, device="cuda")
    found = []
    for kind in (torch.bfloat16, torch.float32):
        inputs = [t.detach().to(kind).requires_grad_() for t in (q, k, v)]
        out, _ = packed_attention(
            torch.nn.Identity(),
            *inputs,
            None,
            scaling=0.2,
            packed_bounds=bounds,
            packed_lengths=lengths,
            packed_longest=64,
        )
        out.backward(grad.to(kind))
        found.append([out, *(t.grad for t in inputs)])
    for flash, exact in zip(*found, strict=True):
        assert (flash.float() - exact).norm() < 2e-2 * exact.norm()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("acceleration", ["none", "packing", "auto"])
def test_monitored_gradients_leave_no_trace(precision, acceleration, make_run, finetune):
    settings = {"method": "diablo", "precision": precision}
    plain = make_run("plain", **settings)
    watched = make_run("watched", gradient_examples=22, **settings)
    for run in (plain, watched):
        finetune(run, acceleration=acceleration)
    for name, tensor in weights(plain).items():
        assert torch.equal(weights(watched)[name], tensor), name
    lines = read_jsonl(watched.folder / "gradients.jsonl")
    assert [line["step"] for line in lines] == [0, 6, 12]
    exact = make_run("exact", gradient_examples=22, **settings | {"precision": "fp32"})
    finetune(exact, acceleration="none")
    first = read_jsonl(exact.folder / "gradients.jsonl")[0]["modules"]
    for name, one in lines[0]["modules"].items():
        assert one["full"] == pytest.approx(first[name]["full"], rel=0.05), name
