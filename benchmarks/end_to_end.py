"""Time the whole trainer on batches of real lengths, and what each acceleration adds.

    python -m benchmarks.end_to_end --shape llama3-8b --micro-batch 16

Examples have the lengths of commonsense fine-tuning (`commonsense_lengths.csv`: tokens of the prompt
and of the answer under SmolLM2's tokenizer) and random tokens. `plain` is the loop that a user would
write: the adapter as the paper writes it, padded batches, logits for every token.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import TrainerCallback

from diablo.training.acceleration import Acceleration, choose
from diablo.training.checkpoints import Checkpoints
from diablo.training.examples import IGNORE, Example
from diablo.training.finetune import make_trainer
from diablo.training.kernels import use_kernels
from diablo.training.packing import use_packing

from .forms import PRECISIONS, Form
from .shapes import SHAPES, config, random_weights
from .timing import RESULTS, free, record, timed

LENGTHS = Path(__file__).parent / "commonsense_lengths.csv"
AUTOCAST = {"bf16+fp32": "bf16", "fp16+fp32": "fp16", "bf16": None, "fp32": None}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print, record."""
    options = _parser().parse_args(arguments)
    key = f"{options.shape} micro {options.micro_batch} {options.precision} N={options.blocks}"
    result = measure(options)
    for name, row in result["variants"].items():
        print(f"{key:45} {name:28}", "  ".join(f"{k} {v}" for k, v in row.items() if k != "losses"))
    print(f"recorded in {record('end_to_end', {key: result}, options.results)}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every variant on the same examples in the same order, one after the other."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, _, _ = PRECISIONS[options.precision]
    weights = random_weights(options.shape, dtype, device)
    examples = make_examples(options.shape, options.steps * options.batch)
    variants: dict[str, Any] = {}
    for variant in options.variants:
        if variant == "plain":
            row = plain(options, weights, examples, device)
        else:
            row = trainer(options, weights, examples, device, variant)
        variants[variant] = row
        print(variant, {k: v for k, v in row.items() if k != "losses"}, flush=True)
        free()
    settings = {k: v for k, v in vars(options).items() if k not in ("results", "variants")}
    return {"settings": settings, "variants": variants}


def make_examples(shape: str, count: int) -> list[Example]:
    """Random tokens in recorded lengths, the answer labelled."""
    with LENGTHS.open(encoding="utf-8") as file:
        lengths = [(int(row["prompt"]), int(row["answer"])) for row in csv.DictReader(file)]
    generator = torch.Generator().manual_seed(0)
    examples = []
    for index in range(count):
        prompt, answer = lengths[index % len(lengths)]
        vocabulary = config(shape).vocab_size
        ids = torch.randint(1, vocabulary, (prompt + answer,), generator=generator)
        labels = ids.clone()
        labels[:prompt] = IGNORE
        examples.append({"input_ids": ids, "labels": labels})
    return examples


def trainer(
    options: argparse.Namespace, weights: Any, examples: list[Example], device: str, variant: str
) -> dict[str, Any]:
    """Our trainer as it is, with the accelerations that the variant names."""
    spec = _spec(options, max(len(e["input_ids"]) for e in examples))
    autocast = AUTOCAST[options.precision]
    form = Form(
        options.form, options.shape, weights, options.precision, options.blocks, options.rank
    )
    base = form.model.get_base_model()
    mean = sum(len(e["input_ids"]) for e in examples) / len(examples)
    faster = choose(variant, base, spec, device, autocast, mean)
    # After the adapter here, before it in the job: neither kernels nor attention look at linear layers.
    if faster.kernels:
        use_kernels(base)
    if faster.packing:
        use_packing(base)
    clock = _Clock(spec.max_steps, device)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "work", {}, save_steps=1 << 30)
        job = make_trainer(form.model, examples, spec, 0, autocast, faster, checkpoints)
        job.add_callback(clock)
        clock.facts = job.facts
        torch.cuda.reset_peak_memory_stats() if device == "cuda" else None
        job.train()
    form.restore()
    return clock.row(_peak(device)) | {"acceleration": _names(faster)}


def plain(
    options: argparse.Namespace, weights: Any, examples: list[Example], device: str
) -> dict[str, Any]:
    """Einsum adapter, padded batches in the order they come, the model's own loss."""
    form = Form("einsum", options.shape, weights, options.precision, options.blocks, options.rank)
    clock = _Clock(options.steps, device)
    autocast = PRECISIONS[options.precision][2]
    torch.cuda.reset_peak_memory_stats() if device == "cuda" else None
    scaler = torch.amp.GradScaler(device, enabled=autocast == torch.float16)
    assert form.optimizer is not None
    for step in range(options.steps):
        chunk = examples[step * options.batch : (step + 1) * options.batch]

        def one_step(chunk: list[Example] = chunk) -> None:
            count = sum(int((e["labels"] != IGNORE).sum()) for e in chunk)
            total = 0.0
            for start in range(0, len(chunk), options.micro_batch):
                part = chunk[start : start + options.micro_batch]
                ids, labels = (
                    torch.nn.utils.rnn.pad_sequence(
                        [e[key] for e in part], batch_first=True, padding_value=value
                    ).to(device)
                    for key, value in (("input_ids", 0), ("labels", IGNORE))
                )
                with torch.autocast(device, autocast, enabled=autocast is not None):
                    loss = form.model(
                        input_ids=ids, labels=labels, num_items_in_batch=count, use_cache=False
                    ).loss
                scaler.scale(loss).backward()
                total += loss.item()
            scaler.unscale_(form.optimizer)
            torch.nn.utils.clip_grad_norm_(form.parameters, 1.0)
            scaler.step(form.optimizer)
            scaler.update()
            form.optimizer.zero_grad()
            clock.facts = {"loss": total}

        milliseconds = timed(one_step, device)
        tokens = [len(e["input_ids"]) for e in chunk]
        groups = [
            tokens[s : s + options.micro_batch] for s in range(0, len(tokens), options.micro_batch)
        ]
        computed = sum(len(group) * max(group) for group in groups)
        clock.add(
            milliseconds,
            {**clock.facts, "examples": len(chunk), "tokens": sum(tokens), "computed": computed},
        )
    return clock.row(_peak(device))


class _Clock(TrainerCallback):
    """Times the second half of the steps as one stretch; the first half warms up."""

    def __init__(self, steps: int, device: str):
        self.steps, self.device = steps, device
        self.facts: dict[str, Any] = {}
        self._lines: list[dict[str, Any]] = []
        self._last: float | None = None

    def add(self, milliseconds: float, facts: dict[str, Any]) -> None:
        self._lines.append({**facts, "ms": milliseconds})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        import time

        # From one step's end to the next one's: batches, logs and bookkeeping are part of it.
        now = time.perf_counter()
        self.add(0.0 if self._last is None else 1000 * (now - self._last), dict(self.facts))
        self._last = now

    def row(self, peak: float | None) -> dict[str, Any]:
        counted = self._lines[len(self._lines) // 2 :]
        seconds = sum(line["ms"] for line in counted) / 1000
        total = {k: sum(line[k] for line in counted) for k in ("examples", "tokens", "computed")}
        return {
            "examples_per_second": round(total["examples"] / seconds, 2),
            "tokens_per_second": round(total["tokens"] / seconds, 1),
            "computed_per_token": round(total["computed"] / total["tokens"], 4),
            "steps": len(counted),
            **({} if peak is None else {"peak_gib": peak}),
            "losses": [round(line["loss"], 5) for line in self._lines],
        }


def _names(faster: Acceleration) -> str:
    return ",".join(k for k, v in faster.facts().items() if v is True) or "none"


def _peak(device: str) -> float | None:
    if device == "cpu":
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


def _spec(options: argparse.Namespace, longest: int) -> Any:
    return SimpleNamespace(
        run="benchmark",
        method="diablo",
        epochs=1,
        max_steps=options.steps,
        batch_size=options.batch,
        micro_batch_size=options.micro_batch,
        max_length=longest,
        lr=1e-5,
        weight_decay=0.0,
        max_grad_norm=1.0,
        schedule="constant",
        warmup_steps=0,
        gradient_checkpointing=False,
        seed=0,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=16, help="examples of an optimiser step")
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16+fp32")
    parser.add_argument("--form", default="inplace")
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40, help="the first half warms up")
    parser.add_argument("--variants", nargs="+", default=["plain", "none", "packing", "auto"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
