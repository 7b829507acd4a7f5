"""Time one optimiser step of every pattern beside DiaBlo's: Table 5's last column, as one step.

    python -m benchmarks.patterns --threads 2

Diagonal blocks, blocks drawn from the grid, whole inputs, whole outputs and single entries, as many
entries each, on the same weights in the same process. They are checked first: equal loss, and gradients
equal to their part of the full gradient. Then they take turns. On a machine that others use
too a single time says little, so each pattern is compared with DiaBlo within each round, and the
spread of that ratio over the rounds is printed beside its median; `--cpu-time` leaves out the time in
which others had the processor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diablo.tuner import DiabloLinear

from .forms import PATTERNS, PRECISIONS, Form
from .shapes import QKVUD, SHAPES, random_weights
from .timing import RESULTS, alternate, record, summary
from .train_step import GRADIENT, LOSS, check_losses, make_batch

#: Implementation -> the forms of diagonal blocks and of the other patterns.
CHOICES = {
    "inplace": ("inplace", *PATTERNS),
    "adapter": ("strided", *(f"{name}-adapter" for name in PATTERNS)),
}
_SETTINGS = (
    "shape",
    "batch",
    "length",
    "precision",
    "blocks",
    "implementation",
    "rounds",
    "repeats",
    "graphs",
    "cpu_time",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print, record."""
    options = _parser().parse_args(arguments)
    if options.cpu_time and (options.threads != 1 or torch.cuda.is_available()):
        raise SystemExit("--cpu-time adds up the time of all threads; give --threads 1, on a CPU")
    if options.threads:
        torch.set_num_threads(options.threads)
    key, result = measure(options)
    print(table(key, result), flush=True)
    print(f"recorded in {record('patterns', {key: result}, options.results)}", flush=True)


def measure(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Check and time the patterns; returns the setting's name and its result."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, _, _ = PRECISIONS[options.precision]
    weights = random_weights(options.shape, dtype, device)
    batch = make_batch(options.shape, options.batch, options.length, device)
    settings = (options.shape, weights, options.precision, options.blocks, 1)
    names = CHOICES[options.implementation]
    forms = [Form(name, *settings) for name in ("frozen", *names)]
    checks = check_losses(forms, batch, LOSS[dtype]) | check_gradients(options, device)
    for form in forms:
        form.step(batch)
        if options.graphs:
            form.record(batch)
    steps = [lambda form=form: form.step(batch) for form in forms]
    restores = [form.restore for form in forms]
    clock = time.process_time if options.cpu_time else time.perf_counter
    times = alternate(steps, device, options.rounds, options.repeats, restores, clock)
    by_name = {form.name: t for form, t in zip(forms, times, strict=True)}
    rows = {
        form.name: summary(by_name[form.name])
        | _ratios(by_name[form.name], by_name[names[0]], options.repeats)
        | {"trainable": sum(p.numel() for p in form.parameters)}
        for form in forms
    }
    name = f"{options.shape} {options.batch}x{options.length} {options.precision}"
    name += (
        f" N={options.blocks} {options.implementation}"
        + " graphs" * options.graphs
        + " cpu-time" * options.cpu_time
    )
    used = {name: getattr(options, name) for name in _SETTINGS}
    return name, {"settings": used, "checks": checks, "forms": rows}


def check_gradients(options: argparse.Namespace, device: str) -> dict[str, float]:
    """In float32, on two layers: each pattern's gradient is its part of the full gradient.

    Raises:
        AssertionError: one differs by more than :data:`~benchmarks.train_step.GRADIENT`.
    """
    weights = random_weights(options.shape, torch.float32, device, layers=2)
    batch = make_batch(options.shape, 2, 64, device)
    full = Form("full", options.shape, weights, "fp32", options.blocks, 1)
    full.loss(batch).backward()
    wanted = {
        name: module.weight.grad
        for name, module in full.model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(tuple(QKVUD))
    }
    worst = 0.0
    for name in CHOICES[options.implementation]:
        form = Form(name, options.shape, weights, "fp32", options.blocks, 1)
        form.loss(batch).backward()
        for layer in form.model.modules():
            if isinstance(layer, DiabloLinear):
                grad = layer.diablo_blocks["default"].grad
                expected = layer.layouts["default"].read(wanted[layer.module_name])
                worst = max(worst, float((grad - expected).norm() / expected.norm()))
        form.restore()
        assert worst <= GRADIENT, f"{name}: gradients differ by {worst}"
    return {"largest_gradient_difference": worst}


def _ratios(times: Sequence[float], base: Sequence[float], repeats: int) -> dict[str, Any]:
    """Median time over DiaBlo's, and the lowest and highest such ratio of single rounds."""
    rounds = range(0, len(times), repeats)
    single = [
        statistics.median(times[n : n + repeats]) / statistics.median(base[n : n + repeats])
        for n in rounds
    ]
    return {
        "x_diablo": round(statistics.median(times) / statistics.median(base), 4),
        "x_diablo_rounds": [round(ratio, 4) for ratio in sorted(single)],
    }


def table(key: str, result: dict[str, Any]) -> str:
    """The result as text, one pattern a line."""
    lines = [
        key,
        f"{'form':15} {'entries':>11} {'ms':>9} {'min':>9} {'max':>9} {'x DiaBlo':>9}  of single rounds",
    ]
    for name, row in result["forms"].items():
        ratios = row["x_diablo_rounds"]
        lines.append(
            f"{name:15} {row['trainable']:11d} {row['median_ms']:9.2f} "
            f"{row['min_ms']:9.2f} {row['max_ms']:9.2f} {row['x_diablo']:9.3f}  "
            f"{ratios[0]:.3f} .. {statistics.median(ratios):.3f} .. {ratios[-1]:.3f}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.patterns", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--blocks", type=int, default=64, help="N of DiaBlo")
    parser.add_argument("--implementation", choices=CHOICES, default="inplace")
    parser.add_argument("--graphs", action="store_true", help="replay every form as a CUDA graph")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--cpu-time", action="store_true", help="time of this process, with --threads 1"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
