"""What the in place form loses in 16 bits: held-out loss of both forms, after equal training.

    python -m benchmarks.precision --model results/models/smollm2-135m --data results/demo/data/...

In place, the forward pass sees W0 + D rounded to the weight's type, as the merged model will; as an
adapter, D acts unrounded. Training goes through the project's own trainer, three seeds a setting.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoTokenizer

import diablo
from diablo.data.protocol import load_protocol
from diablo.methods.base import load_base
from diablo.training.acceleration import choose
from diablo.training.checkpoints import Checkpoints
from diablo.training.examples import Encoded, collate, encode
from diablo.training.finetune import PRECISIONS, make_trainer
from diablo.training.loss import summed_loss
from diablo.training.packing import use_packing

from .shapes import QKVUD
from .timing import RESULTS, free, record


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train, print, record."""
    options = _parser().parse_args(arguments)
    results = {}
    for precision in options.precisions:
        for lr in options.lrs:
            key = f"{Path(options.model).name} {precision} lr={lr:g} N={options.blocks}"
            results[key] = compare(options, precision, lr)
            print(key, json.dumps(results[key]), flush=True)
            record("precision", {key: results[key]}, options.results)


def compare(options: argparse.Namespace, precision: str, lr: float) -> dict[str, Any]:
    """Held-out losses of both forms by seed, and whether they lie within each other's spread."""
    losses = {
        form: [train(options, precision, lr, form, seed) for seed in options.seeds]
        for form in ("inplace", "adapter")
    }
    spread = max(losses["adapter"]) - min(losses["adapter"])
    gap = statistics.mean(losses["inplace"]) - statistics.mean(losses["adapter"])
    return {
        **{form: [round(x, 5) for x in values] for form, values in losses.items()},
        "gap_of_means": round(gap, 5),
        "spread_of_adapter": round(spread, 5),
        "within_spread": gap <= spread,
        "steps": options.steps,
        "batch": options.batch,
    }


def train(options: argparse.Namespace, precision: str, lr: float, form: str, seed: int) -> float:
    """Held-out loss, a mean over labelled tokens, after training one form."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, autocast = PRECISIONS[precision]
    training, held_out = _encoded(options, "train"), _encoded(options, "test")
    torch.manual_seed(seed)
    base = load_base(options.model, device, dtype)
    spec = _spec(options, lr, seed)
    faster = choose("auto", base, spec, device, autocast, training.mean_tokens)
    use_packing(base)
    config = diablo.DiabloConfig(
        num_blocks=options.blocks, target_modules=QKVUD, implementation=form
    )
    model = get_peft_model(base, config)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "work", {}, save_steps=1 << 30)
        make_trainer(model, training.examples, spec, 0, autocast, faster, checkpoints).train()
    loss = evaluate(model, held_out, device, autocast)
    del model, base
    free()
    return loss


@torch.no_grad()
def evaluate(model: Any, held_out: Encoded, device: str, autocast: str | None) -> float:
    """Mean cross-entropy of the held-out answers' tokens."""
    model.eval()
    batch = collate(held_out.examples, 64, pad=0, packed=True)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(autocast or "")
    total = 0.0
    for micro in batch["micro_batches"]:
        inputs = {k: _to(v, device) for k, v in micro["inputs"].items()}
        with torch.autocast(device, kind, enabled=kind is not None):
            positions, targets = micro["positions"].to(device), micro["targets"].to(device)
            total += float(summed_loss(model, positions, targets, inputs))
    return total / batch["targets"]


def _to(value: Any, device: str) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _encoded(options: argparse.Namespace, split: str) -> Encoded:
    lines = (Path(options.data) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    protocol = load_protocol("commonsense", "paper")
    return encode(tokenizer, protocol, [json.loads(line) for line in lines], 256)


def _spec(options: argparse.Namespace, lr: float, seed: int) -> Any:
    return SimpleNamespace(
        run="benchmark",
        method="diablo",
        epochs=100,
        max_steps=options.steps,
        batch_size=options.batch,
        micro_batch_size=options.batch,
        max_length=256,
        lr=lr,
        weight_decay=0.0,
        max_grad_norm=1.0,
        schedule="linear",
        warmup_steps=options.steps // 20,
        warmup_ratio=None,
        gradient_checkpointing=False,
        seed=seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.precision", description=__doc__)
    parser.add_argument("--model", required=True, help="a Hugging Face model folder")
    parser.add_argument("--data", required=True, help="folder of train.jsonl and test.jsonl")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["bf16", "fp16"])
    parser.add_argument("--lrs", nargs="+", type=float, default=[2e-4, 2e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
