"""Time the whole trainer on batches of real lengths, and what each acceleration adds.

    python -m benchmarks.end_to_end --shape llama3-8b --micro-batch 16

Examples have the lengths of commonsense fine-tuning (`commonsense_lengths.csv`: tokens of the prompt
and of the answer under SmolLM2's tokenizer) and random tokens. `plain` is the loop that a user would
write: the adapter as the paper writes it, padded batches, logits for every token.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diablo.training.acceleration import Acceleration
from diablo.training.examples import IGNORE, Example

from .forms import PRECISIONS, Form
from .shapes import SHAPES, config, random_weights
from .through_trainer import Clock, run_trainer
from .timing import RESULTS, free, record, timed

LENGTHS = Path(__file__).parent / "commonsense_lengths.csv"


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
    form = Form(
        options.form, options.shape, weights, options.precision, options.blocks, options.rank
    )
    sizes = (options.batch, options.micro_batch)
    clock, faster = run_trainer(form, examples, *sizes, options.steps, options.precision, variant)
    form.restore()
    return clock.row(peak_gib(device)) | {"acceleration": acceleration_names(faster)}


def plain(
    options: argparse.Namespace, weights: Any, examples: list[Example], device: str
) -> dict[str, Any]:
    """Einsum adapter, padded batches in the order they come, the model's own loss."""
    form = Form("einsum", options.shape, weights, options.precision, options.blocks, options.rank)
    clock = Clock(device)
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
    return clock.row(peak_gib(device))


def acceleration_names(faster: Acceleration) -> str:
    return ",".join(k for k, v in faster.facts().items() if v is True) or "none"


def peak_gib(device: str) -> float | None:
    if device == "cpu":
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


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
