"""Is the model that was trained the model that was merged, and the model that was served?

The same prompts are decoded greedily, in the same type, by the adapter model (PEFT active, nothing
merged), by the merged model in memory, and by the merged model as an engine serves it. Whatever
differs is reported, not raised: rounding to 16 bits does change a word now and then.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.data.decoding import Decoding
from diablo.generation.engines import (
    BACKENDS,
    Engine,
    choose_backend,
    cpu_threads,
    dtype_of,
    end_ids,
    merged_folder,
    open_engine,
)
from diablo.generation.prompts import Prompt, suite_decoding, suite_prompts
from diablo.generation.run import encode
from diablo.generation.transformers_engine import TransformersEngine
from diablo.io import write_json
from diablo.methods import get_method
from diablo.methods.base import is_encoder_decoder, load_base
from diablo.precision import check_bf16
from diablo.provenance import Provenance

if TYPE_CHECKING:
    import torch

PAIRS = (("adapter", "merged"), ("merged", "served"), ("adapter", "served"))


@dataclasses.dataclass
class View:
    """What one form of the model says to each prompt."""

    tokens: list[list[int]]
    logprobs: torch.Tensor  # of the first new id, (prompts, vocabulary); NaN where not known


def check_serving(
    spec: Any,
    suite: Any,
    out_path: str | Path,
    prompts: int = 32,
    backend: str = "auto",
    tolerance: float = 0.05,
    threads: int | None = None,
    gpus: int = 1,
) -> dict[str, Any]:
    """Compare the adapter, merged and served model of a run, and write the report.

    Args:
        spec: RunSpec.
        suite: SuiteSpec; prompts are taken evenly from all its tasks. Decoding is greedy whatever
            the suite says: beams and draws would hide small differences or blow them up.
        out_path: `<run folder>/serving/<suite>.json`; the run folder's `adapter/` is checked.
        prompts: how many (fewer if the suite has fewer).
        backend: "served" is vLLM on the merged folder, or (transformers) the folder saved and
            loaded again.
        tolerance: share of prompts whose answers may differ before the status is "differs".
        threads: CPU threads; None leaves the default.
        gpus: of `diablo.generation.engines.open_engine`.

    Returns:
        What was written: `status` ("same" or "differs") and, for each pair, the share of prompts
        that differ, the first that does, and the largest difference of a log-probability of the
        first new token (over the whole vocabulary; against vLLM over the ids that it reports).

    Raises:
        ValueError: bfloat16 on a CPU that has none, or as `diablo.generation.generate`.
    """
    out_path = Path(out_path)
    run_folder, work_folder = out_path.parent.parent, out_path.parent / ".work"
    provenance = Provenance("check-serving", inputs=[Path(suite.data_path) / "test.jsonl"])
    backend, device = choose_backend(backend, is_encoder_decoder(spec.model_path))
    check_bf16(spec.run, spec.precision, device)
    decoding = greedy(suite_decoding(suite))
    chosen = spread(suite_prompts(suite), prompts)
    tokenizer, ids = encode(spec, suite, chosen, decoding)

    views = {}
    for name, opened in _forms(
        spec, run_folder, work_folder, backend, device, decoding, tokenizer, ids, threads, gpus
    ):
        with cpu_threads(threads), opened as engine:
            views[name] = _view(engine, backend, device, decoding, ids)
    with contextlib.suppress(OSError):
        work_folder.rmdir()

    pairs = {
        f"{one}/{other}": compare(views[one], views[other], chosen, tokenizer)
        for one, other in PAIRS
        if one in views and other in views
    }
    worst = max(pair["disagreement"] for pair in pairs.values())
    provenance.add(device=device)
    report = {
        "run": spec.run,
        "suite": suite.suite,
        "variant": suite.variant,
        "method": spec.method,
        "status": "differs" if worst > tolerance else "same",
        "tolerance": tolerance,
        "prompts": len(chosen),
        "backend": backend,
        "dtype": dtype_of(spec),
        "pairs": pairs,
        "provenance": provenance.finish(),
    }
    write_json(out_path, report)
    print(
        f"serving of {spec.run}: {report['status']}; largest share of differing answers {worst:.3f}"
    )
    return report


def greedy(decoding: Decoding) -> Decoding:
    """The same lengths and stop strings, but the likeliest token always."""
    return dataclasses.replace(
        decoding, num_beams=1, temperature=0.0, temperature_by_task={}, samples=1
    )


def spread(prompts: list[Prompt], count: int) -> list[Prompt]:
    """`count` prompts, evenly spaced, so that every task has its share."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def compare(one: View, other: View, prompts: list[Prompt], tokenizer: Any) -> dict[str, Any]:
    """Disagreement of two forms: share of prompts, first difference, log-probabilities."""
    rows = list(zip(prompts, one.tokens, other.tokens, strict=True))
    differing = [(prompt, a, b) for prompt, a, b in rows if a != b]
    gaps = (one.logprobs - other.logprobs).abs()
    return {
        "disagreement": len(differing) / len(rows),
        "first": _first(*differing[0], tokenizer) if differing else None,
        "max_logprob_difference": gaps[~gaps.isnan()].max().item(),
    }


def _first(prompt: Prompt, one: list[int], other: list[int], tokenizer: Any) -> dict[str, Any]:
    """Where two answers to a prompt part: position, ids there (None at an end), and both texts."""
    place = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    return {
        "task": prompt.task,
        "id": prompt.id,
        "position": place,
        "tokens": [ids[place] if place < len(ids) else None for ids in (one, other)],
        "texts": [tokenizer.decode(ids) for ids in (one, other)],
    }


def _view(
    engine: Engine, backend: str, device: str, decoding: Decoding, ids: list[list[int]]
) -> View:
    """Greedy answers and first log-probabilities, in the order of `ids`."""
    import torch

    tokens: dict[int, list[int]] = {}
    logprobs: dict[int, torch.Tensor] = {}
    for rows in BACKENDS[backend].batches([len(row) for row in ids], decoding, device):
        batch = [ids[row] for row in rows]
        answers = [sample for (sample,) in engine.complete(batch, decoding)]
        tokens.update(zip(rows, answers, strict=True))
        logprobs.update(zip(rows, engine.next_logprobs(batch), strict=True))
    order = range(len(ids))
    return View([tokens[row] for row in order], torch.stack([logprobs[row] for row in order]))


def _forms(
    spec: Any,
    run_folder: Path,
    work_folder: Path,
    backend: str,
    device: str,
    decoding: Decoding,
    tokenizer: Any,
    ids: list[list[int]],
    threads: int | None,
    gpus: int,
) -> Iterator[tuple[str, contextlib.AbstractContextManager[Engine]]]:
    """(name, not yet opened engine) of each form of the model that the run's method has."""
    longest = max(map(len, ids)) + decoding.max_new_tokens
    args = (spec, run_folder, work_folder)
    if get_method(spec.method).artifact == "adapter":
        yield "adapter", _unmerged(spec, run_folder / "adapter", device, tokenizer)
    yield (
        "merged",
        open_engine(*args, "transformers", device, decoding, tokenizer, longest, threads),
    )
    if backend == "transformers":
        yield "served", _reloaded(*args, device, tokenizer)
    else:
        yield (
            "served",
            open_engine(*args, backend, device, decoding, tokenizer, longest, threads, gpus),
        )


@contextlib.contextmanager
def _unmerged(spec: Any, adapter: Path, device: str, tokenizer: Any) -> Iterator[Engine]:
    """The base model with the adapter active beside its weights, as in training."""
    import torch
    from peft import PeftModel

    import diablo  # noqa: F401 - makes the method known to PEFT

    base = load_base(spec.model_path, device, getattr(torch, dtype_of(spec)))
    # PEFT puts its layers into `base` itself; generation needs nothing of the wrapper.
    PeftModel.from_pretrained(base, adapter).eval()
    yield TransformersEngine(base, tokenizer, end_ids(spec.model_path, tokenizer))


@contextlib.contextmanager
def _reloaded(
    spec: Any,
    run_folder: Path,
    work_folder: Path,
    device: str,
    tokenizer: Any,
) -> Iterator[Engine]:
    """The merged model after a round trip through a folder."""
    import torch

    dtype = dtype_of(spec)
    with merged_folder(spec, run_folder / "adapter", work_folder, dtype) as folder:
        model = load_base(str(folder), device, getattr(torch, dtype)).eval()
        yield TransformersEngine(model, tokenizer, end_ids(spec.model_path, tokenizer))
