"""Time one optimiser step in every form: section 4.5 of the paper, and its limit.

    python -m benchmarks.train_step --shape llama3-8b --batch 8 --length 256 --precision bf16+fp32

All forms live on the same weights in the same process. They are first checked against each other: equal
loss as they are, and DiaBlo's forms in float32 equal gradients in layers of the same widths. Then they
are timed in alternating order, warm. The row `trainer` is the in place form under the project's own
trainer: batches, clipping, schedule and log included. `--graphs` replays forward and backward pass of
every form as a CUDA graph: what the GPU needs, wherever Python is the slower of the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diablo.training.examples import IGNORE, Example

from .forms import DIABLO, FORMS, PRECISIONS, Form
from .shapes import SHAPES, config, random_weights
from .through_trainer import run_trainer
from .timing import RESULTS, alternate, free, matrix_rate, record, summary

#: How far two forms may lie apart, relative: losses by the type of the products, and gradients in
#: float32 on two layers. (In 16 bits, rounding alone moves the gradients of 32 random layers by 20 %.)
LOSS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
GRADIENT = 1e-4

#: What `--typical` measures: section 4.5's comparison on a GPU, the stand-in model's shape on a CPU.
TYPICAL: dict[str, dict[str, Any]] = {
    "cuda": {"shape": "llama3-8b", "batch": 8, "length": 256, "precision": "bf16+fp32"},
    "cpu": {"shape": "smollm2-135m", "batch": 4, "length": 64, "precision": "fp32", "repeats": 3},
}

_SETTINGS = (
    "shape",
    "batch",
    "length",
    "labels",
    "precision",
    "blocks",
    "rank",
    "kernels",
    "graphs",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print, record."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.typical:
        vars(options).update(TYPICAL[device])
    if not 0 <= options.labels < options.length:
        raise SystemExit(
            f"--labels {options.labels}: the first of {options.length} tokens is never predicted; give 0 "
            f"(all) to {options.length - 1}"
        )
    key, result = measure(options)
    print(table(key, result), flush=True)
    print(f"recorded in {record('train_step', {key: result}, options.results)}", flush=True)


def measure(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Check and time the forms; returns the setting's name and its result."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, _, _ = PRECISIONS[options.precision]
    weights = random_weights(options.shape, dtype, device)
    batch = make_batch(options.shape, options.batch, options.length, device, options.labels)
    settings = (options.shape, weights, options.precision, options.blocks, options.rank)
    # The frozen limit always, because everything else is told in multiples of it.
    chosen = ("frozen", *options.forms)
    together = [name for name in dict.fromkeys(chosen) if name not in ("full", "trainer")]
    forms = [Form(name, *settings, kernels=options.kernels) for name in together]
    checks = check_losses(forms, batch, LOSS[dtype])
    names = [name for name in together if name in DIABLO]
    checks |= check_gradients(names, options, device)
    rows = _time(forms, batch, device, options)
    forms.clear()
    free()
    if "trainer" in options.forms:
        row = _through_trainer(Form("inplace", *settings), batch, options)
        rows["trainer"] = row | {"x_frozen": _share(row, rows["frozen"])}
        free()
    if "full" in options.forms:
        # Alone, because its gradients and its optimiser's state are larger than all others together.
        try:
            alone = [Form(name, *settings, kernels=options.kernels) for name in ("frozen", "full")]
            # Relative to the frozen model beside it, which had the same memory to itself.
            rows["full"] = _time(alone, batch, device, options)["full"]
        except torch.cuda.OutOfMemoryError:
            rows["full"] = {"failed": "out of memory"}
    tokens = options.batch * options.length
    result: dict[str, Any] = {
        "settings": {name: getattr(options, name) for name in _SETTINGS},
        "checks": checks,
        "forms": rows,
        "tokens": tokens,
    }
    if device == "cuda":
        # Tied weights are used once as a matrix; the embedding itself is a look-up.
        used = sum(w.numel() for n, w in weights.items() if "embed_tokens" not in n)
        rate = matrix_rate(torch.bfloat16)
        result["matrix_rate"] = rate
        for row in rows.values():
            if "median_ms" in row:
                achieved = 4 * used * tokens / row["median_ms"] * 1000
                row["of_matrix_rate"] = round(achieved / rate, 4)
    name = f"{options.shape} {options.batch}x{options.length} {options.precision}"
    name += f" labels={options.labels}" if options.labels else ""
    name += f" N={options.blocks} r={options.rank}"
    return name + " kernels" * options.kernels + " graphs" * options.graphs, result


def make_batch(shape: str, batch: int, length: int, device: str, labels: int = 0) -> dict[str, Any]:
    """Random tokens; the last ``labels`` of each row labelled, or (0) all but the first."""
    labels = labels or length - 1
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config(shape).vocab_size, (batch, length), generator=generator)
    ids = ids.to(device)
    places = torch.arange(batch * length, device=device).view(batch, length)[:, -labels - 1 : -1]
    return {
        "positions": places.flatten(),
        "targets": ids[:, -labels:].flatten(),
        "inputs": {"input_ids": ids},
    }


def check_losses(forms: Sequence[Form], batch: dict[str, Any], tolerance: float) -> dict[str, Any]:
    """Every form starts at the frozen model's loss.

    Raises:
        AssertionError: two forms differ by more than the tolerance.
    """
    with torch.no_grad():
        losses = {}
        for form in forms:
            losses[form.name] = float(form.loss(batch))
            form.restore()
    first = next(iter(losses.values()))
    for name, loss in losses.items():
        assert abs(loss - first) <= tolerance * first, f"{name}: loss {loss}, expected {first}"
    return {"initial_losses": losses}


def check_gradients(
    names: Sequence[str], options: argparse.Namespace, device: str
) -> dict[str, float]:
    """The forms of DiaBlo have the same gradients, away from D = 0: in float32, on two layers.

    Raises:
        AssertionError: two forms differ by more than :data:`GRADIENT`.
    """
    weights = random_weights(options.shape, torch.float32, device, layers=2)
    batch = make_batch(options.shape, 2, 64, device)
    found = {}
    for name in names:
        form = Form(name, options.shape, weights, "fp32", options.blocks, options.rank)
        found[name] = _gradients(form, batch)
    worst = 0.0
    for name, gradients in found.items():
        for a, b in zip(gradients, found[names[0]], strict=True):
            worst = max(worst, float((a - b).norm() / b.norm()))
        assert worst <= GRADIENT, f"{name}: gradients differ by {worst}"
    return {"largest_gradient_difference": worst}


def _gradients(form: Form, batch: dict[str, Any]) -> list[torch.Tensor]:
    """Gradients of the blocks at the same random D for each form."""
    for index, parameter in enumerate(form.parameters):
        generator = torch.Generator(parameter.device).manual_seed(index)
        with torch.no_grad():
            parameter.normal_(0, 1e-3, generator=generator)
    form.loss(batch).backward()
    gradients = [p.grad.float() for p in form.parameters if p.grad is not None]
    form.restore()
    return gradients


def _time(
    forms: Sequence[Form], batch: dict[str, Any], device: str, options: argparse.Namespace
) -> dict[str, Any]:
    memory = {form.name: _memory(form, batch, device) for form in forms}
    if options.graphs:
        for form in forms:
            form.record(batch)
    steps = [lambda form=form: form.step(batch) for form in forms]
    restores = [form.restore for form in forms]
    times = alternate(steps, device, options.rounds, options.repeats, restores)
    rows: dict[str, Any] = {
        form.name: summary(t) | memory[form.name] | {"trainable": _size(form)}
        for form, t in zip(forms, times, strict=True)
    }
    return {name: row | {"x_frozen": _share(row, rows["frozen"])} for name, row in rows.items()}


def _share(row: dict[str, Any], frozen: dict[str, Any]) -> float:
    return round(row["median_ms"] / frozen["median_ms"], 4)


def _through_trainer(
    form: Form, batch: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """The same batch, as the trainer runs it; the first half of the steps warms up."""
    ids = batch["inputs"]["input_ids"].cpu()
    flat = torch.full((ids.numel(),), IGNORE)
    flat[batch["positions"].cpu() + 1] = batch["targets"].cpu()
    pairs = zip(ids, flat.view_as(ids), strict=True)
    steps = 2 * options.rounds * options.repeats
    examples = [Example(input_ids=row, labels=labels) for row, labels in pairs] * steps
    names = {"kernels": options.kernels, "packing": options.graphs, "graphs": options.graphs}
    wanted = ",".join(name for name, use in names.items() if use) or "none"
    sizes = (options.batch, options.batch)
    clock, _ = run_trainer(form, examples, *sizes, steps, options.precision, wanted)
    form.restore()
    return summary(clock.times()) | {"trainable": _size(form)}


def _memory(form: Form, batch: dict[str, Any], device: str) -> dict[str, float]:
    """Two warm-up steps; peak memory of the second as if the form were alone on the GPU."""
    form.step(batch)
    if device == "cpu":
        form.step(batch)
        return {}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    form.step(batch)
    torch.cuda.synchronize()
    transient = torch.cuda.max_memory_allocated() - before
    peak = form.state_bytes() + transient
    form.restore()
    return {"peak_gib": round(peak / 2**30, 2)}


def _size(form: Form) -> int:
    return sum(p.numel() for p in form.parameters)


def table(key: str, result: dict[str, Any]) -> str:
    """The result as text, one form a line."""
    lines = [
        key,
        f"{'form':10} {'ms':>9} {'min':>9} {'max':>9} {'x frozen':>9} {'GiB':>7} {'% peak':>7}",
    ]
    for name, row in result["forms"].items():
        if "failed" in row:
            lines.append(f"{name:10} {row['failed']}")
            continue
        share = 100 * row["of_matrix_rate"] if "of_matrix_rate" in row else float("nan")
        lines.append(
            f"{name:10} {row['median_ms']:9.2f} {row['min_ms']:9.2f} {row['max_ms']:9.2f} "
            f"{row['x_frozen']:9.3f} {row.get('peak_gib', float('nan')):7.2f} {share:7.1f}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.train_step", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--labels", type=int, default=0, help="labelled tokens of a row; 0: all")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--blocks", type=int, default=64, help="N of DiaBlo")
    parser.add_argument("--rank", type=int, default=32, help="r of LoRA, DoRA and PiSSA")
    parser.add_argument(
        "--forms", nargs="+", choices=(*FORMS, "trainer"), default=(*FORMS, "trainer")
    )
    parser.add_argument("--kernels", action="store_true", help="liger-kernel under every form")
    parser.add_argument("--graphs", action="store_true", help="replay every form as a CUDA graph")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--typical", action="store_true", help="the settings of the target speed")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
