"""The same run on one and on several GPUs: how much faster, and whether the losses are the same.

    python -m benchmarks.several_gpus --shape llama3-8b
    python -m benchmarks.several_gpus --shape llama3-8b --gpus 2 4 --sharded

Examples as in `end_to_end`, random weights. Without a GPU the processes share the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diablo.io import read_json, write_json
from diablo.launch import launch

# The others where they are used: each process imports this file before it hides the GPUs that are not its
# own, and PEFT imports bitsandbytes, which starts CUDA.
from .timing import RESULTS, record


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print, record."""
    options = _parser().parse_args(arguments)
    sharded = " sharded" if options.sharded else ""
    result = measure(options)
    key = f"{options.shape} batch {options.batch} micro {options.micro_batch} {options.precision}{sharded}"
    key += f" on {', '.join(result['gpus'])} GPUs"
    for count, row in result["gpus"].items():
        print(f"{key:50} {count} GPU", "  ".join(f"{k} {v}" for k, v in row.items()))
    print(f"recorded in {record('several_gpus', {key: result}, options.results)}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Each number of GPUs on the same examples in the same order, the most first."""
    rows: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # One GPU last: it is used from this process, which keeps its memory.
        for count in sorted({1, *options.gpus}, reverse=True):
            path = Path(folder) / f"{count}.json"
            launch(count, train, options, path)
            rows[count] = read_json(path)
    alone = rows[1]
    for row in rows.values():
        row["speed_up"] = round(row["examples_per_second"] / alone["examples_per_second"], 3)
        pairs = zip(row["losses"], alone["losses"], strict=True)
        row["largest_loss_difference"] = round(max(abs(a - b) for a, b in pairs), 5)
    settings = {k: v for k, v in vars(options).items() if k != "results"}
    return {"settings": settings, "gpus": {str(count): rows[count] for count in sorted(rows)}}


def train(options: argparse.Namespace, path: Path) -> None:
    """The run in the processes that were started for it; the first one writes what it measured."""
    from diablo.training import together

    from .end_to_end import acceleration_names, make_examples, peak_gib
    from .forms import PRECISIONS, Form
    from .shapes import random_weights
    from .through_trainer import run_trainer

    torch.set_num_threads(options.threads or torch.get_num_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = random_weights(options.shape, PRECISIONS[options.precision][0], device)
    # Sharded weights allow the adapter form alone, so one GPU has that too.
    name = "strided" if options.sharded else "inplace"
    form = Form(name, options.shape, weights, options.precision, options.blocks, rank=0)
    del weights
    examples = make_examples(options.shape, options.steps * options.batch)
    clock, faster = run_trainer(
        form,
        examples,
        options.batch,
        options.micro_batch,
        options.steps,
        options.precision,
        options.acceleration,
        sharded=options.sharded and together.processes() > 1,
    )
    if together.rank() == 0:
        row = clock.row(peak_gib(device))
        write_json(path, {**row, "acceleration": acceleration_names(faster)})


def _parser() -> argparse.ArgumentParser:
    from .forms import PRECISIONS
    from .shapes import SHAPES

    parser = argparse.ArgumentParser(prog="benchmarks.several_gpus", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="llama3-8b")
    parser.add_argument("--gpus", type=int, nargs="+", default=[2], help="compared with one")
    parser.add_argument("--sharded", action="store_true", help="frozen weights split over the GPUs")
    parser.add_argument("--batch", type=int, default=32, help="examples of an optimiser step")
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16+fp32")
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--acceleration", default="auto")
    parser.add_argument(
        "--steps", type=int, default=100, help="the first half warms up (CUDA graphs)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads of each process")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
