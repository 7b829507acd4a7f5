"""`generate`: a run's completions for all tasks of a suite, with one engine start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diablo.data.protocol import Decoding, protocol_of
from diablo.generation.answers import StopAtAnswer, finished
from diablo.generation.engines import BACKENDS, Engine, choose_backend, dtype_of, open_engine
from diablo.generation.partial import Partial
from diablo.generation.prompts import Prompt, prompt_decoding, suite_decoding, suite_prompts
from diablo.io import sha256_json, write_jsonl
from diablo.methods.base import is_encoder_decoder
from diablo.precision import check_bf16
from diablo.provenance import Provenance


def generate(
    spec: Any,
    suite: Any,
    run_folder: str | Path,
    out_path: str | Path,
    work_folder: str | Path,
    backend: str = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    stop_at_answer: bool = True,
    prompts: list[Prompt] | None = None,
    keep: bool = False,
    gpus: int = 1,
) -> int:
    """Write the completions of a suite's prompts by a run's merged model.

    Finished batches are kept in `work_folder` until all are there: a killed job continues.

    Args:
        spec: RunSpec.
        suite: SuiteSpec; its `decoding` holds, not the protocol's.
        run_folder: holds `adapter/`.
        out_path: `generations/<suite>.jsonl`; `<suite>.provenance.json` is written beside it.
        work_folder: for partial results and merged weights; emptied at the end.
        backend: "auto" (vLLM on a GPU, transformers on a CPU and for encoder-decoders), "vllm" or
            "transformers".
        batch_size: prompts at a time; None fits the memory.
        threads: CPU threads; None leaves the default.
        stop_at_answer: end a completion as soon as its answer is there, where the engine can and
            the answer provably stays the same (`StopAtAnswer.of`). The text is then shorter, and
            says so: `finish` is "answer". False: the text that the model gives by itself.
        prompts: instead of the suite's own.
        keep: leave the partial results where they are: the caller has more to do.
        gpus: of `open_engine`.

    Returns:
        How many prompts were answered; each has `decoding.samples` completions.

    Raises:
        ValueError: data, adapter or backend missing, a decoding that the backend cannot do, a
            prompt that is too long for the model, or bfloat16 on a CPU that has none.
    """
    run_folder, out_path, work_folder = Path(run_folder), Path(out_path), Path(work_folder)
    backend, device = choose_backend(backend, is_encoder_decoder(spec.model_path))
    check_bf16(spec.run, spec.precision, device)
    decoding = suite_decoding(suite)
    prompts = suite_prompts(suite) if prompts is None else prompts
    provenance = Provenance("generate", inputs=_inputs(spec, suite, run_folder))
    tokenizer, ids = encode(spec, suite, prompts, decoding)
    decodings = [prompt_decoding(decoding, prompt) for prompt in prompts]
    batches = _batches(backend, device, decodings, list(map(len, ids)), batch_size)
    protocol = protocol_of(suite)
    stop = None
    if stop_at_answer and BACKENDS[backend].ENDS_EARLY:
        stop = StopAtAnswer.of(tokenizer, decoding, protocol, suite.tasks)
    setting = {
        "run": spec.run,
        "suite": suite.suite,
        "variant": suite.variant,
        "backend": backend,
        "dtype": dtype_of(spec),
        "decoding": decoding.as_dict(),
        "stop_at_answer": stop is not None,
        "limit_per_task": suite.limit_per_task,
    }
    # Inputs with their hashes, setting and ids: whatever the completions depend on; and what is kept.
    key = sha256_json(["samples", setting, device, _fields(spec), provenance.facts["inputs"], ids])
    partial = Partial(work_folder, key)
    todo = [rows for rows in batches if partial[rows] is None]

    generated, seconds = 0, 0.0
    if todo:
        longest = max(
            len(row) + own.max_new_tokens for own, row in zip(decodings, ids, strict=True)
        )
        with open_engine(
            spec,
            run_folder,
            work_folder,
            backend,
            device,
            decoding,
            tokenizer,
            longest,
            threads,
            gpus,
        ) as engine:
            started = time.monotonic()
            for rows in _progress(todo, len(prompts), f"generate {spec.run}"):
                labels = [protocol.labels.get(prompts[row].task, ()) for row in rows]
                own = decodings[rows[0]]  # the same for the whole batch
                new = _complete(engine, [ids[row] for row in rows], labels, stop, own)
                generated += sum(len(sample) for samples in new for sample in samples)
                partial.add(
                    rows,
                    [
                        [_finished(tokenizer, sample, own, stop, found) for sample in samples]
                        for samples, found in zip(new, labels, strict=True)
                    ],
                )
            seconds = time.monotonic() - started

    completions = {
        row: done for rows in batches for row, done in zip(rows, partial[rows] or [], strict=True)
    }
    write_jsonl(
        out_path,
        (
            {
                "task": p.task,
                "id": p.id,
                "prompt": p.text,
                "completions": [text for text, _ in completions[row]],
                "finish": [why for _, why in completions[row]],
            }
            for row, p in enumerate(prompts)
        ),
    )
    asked = sum(map(len, todo))
    cost = throughput(asked, generated, seconds)
    reasons = Counter(why for samples in completions.values() for _, why in samples)
    provenance.add(
        **setting,
        n=len(prompts),
        reused_from_partial=len(prompts) - asked,
        prompt_tokens=sum(map(len, ids)),
        finish=dict(sorted(reasons.items())),
        **cost,
    )
    provenance.write(out_path.with_suffix(".provenance.json"))
    if not keep:
        partial.delete()
    print(
        f"generate {spec.run}: {asked} prompts, {generated} tokens generated in {seconds:.1f} s "
        f"({cost['prompts_per_second'] or 0:.1f} prompts/s, "
        f"{cost['generated_tokens_per_second'] or 0:.1f} tokens/s)"
    )
    return len(prompts)


def _complete(
    engine: Engine,
    prompts: list[list[int]],
    labels: list[tuple[str, ...]],
    stop: StopAtAnswer | None,
    decoding: Decoding,
) -> list[list[list[int]]]:
    """`engine.complete`, where each completion may end at one of its prompt's own labels."""
    ended = None if stop is None else lambda prompt, new: stop(new, labels[prompt])
    return engine.complete(prompts, decoding, ended)


def _finished(
    tokenizer: Any,
    ids: list[int],
    decoding: Decoding,
    stop: StopAtAnswer | None,
    labels: tuple[str, ...],
) -> list[str]:
    """Text of a completion and why it ended, as they are kept."""
    return list(finished(tokenizer, ids, decoding, stop is not None and stop(ids, labels)))


def _batches(
    backend: str,
    device: str,
    decodings: list[Decoding],
    lengths: list[int],
    batch_size: int | None,
) -> list[list[int]]:
    """The backend's batches, each of prompts that are decoded alike.

    Args:
        decodings, lengths: of each prompt; lengths in tokens.
    """
    alike: dict[str, list[int]] = {}
    for row, decoding in enumerate(decodings):
        alike.setdefault(sha256_json(decoding.as_dict()), []).append(row)
    found = []
    for rows in alike.values():
        grouped = BACKENDS[backend].batches(
            [lengths[row] for row in rows], decodings[rows[0]], device, batch_size
        )
        found += [[rows[index] for index in group] for group in grouped]
    return found


def throughput(prompts: int, tokens: int, seconds: float) -> dict[str, Any]:
    """What this job itself generated and how fast; nothing of what an earlier one left.

    `generated_tokens` (ends of sequence not counted), `generating_seconds` (neither loading nor
    tokenising), `prompts_per_second`, `generated_tokens_per_second`; the last two None for no time.
    """

    def rate(count: int) -> float | None:
        return round(count / seconds, 3) if seconds else None

    return {
        "generated_tokens": tokens,
        "generating_seconds": round(seconds, 3),
        "prompts_per_second": rate(prompts),
        "generated_tokens_per_second": rate(tokens),
    }


def encode(
    spec: Any, suite: Any, prompts: list[Prompt], decoding: Decoding
) -> tuple[Any, list[list[int]]]:
    """The run's tokenizer and the prompts' token ids, the same for every backend.

    Raises:
        ValueError: if a prompt and its new tokens do not fit the model; names task and id.
    """
    from transformers import AutoConfig, AutoTokenizer

    from diablo.data.encode import encode_prompt

    protocol = protocol_of(suite)
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    config, pairs = AutoConfig.from_pretrained(spec.model_path), is_encoder_decoder(spec.model_path)
    room = getattr(config, "max_position_embeddings", None)
    ids = []
    for prompt in prompts:
        row = encode_prompt(tokenizer, protocol, prompt.record, pairs)
        new = prompt_decoding(decoding, prompt).max_new_tokens
        # An encoder and a decoder have so many positions each.
        needed = max(len(row), new) if pairs else len(row) + new
        if room is not None and needed > room:
            raise ValueError(
                f"{suite.data_path}: {prompt.task} {prompt.id!r}: {len(row)} prompt tokens and "
                f"{new} new ones do not fit {spec.model_path} ({room} positions)"
            )
        ids.append(row)
    return tokenizer, ids


def _inputs(spec: Any, suite: Any, run_folder: Path) -> list[Path]:
    """Files that the completions depend on: data, artifact, and what made the base model."""
    adapter = run_folder / "adapter"
    made = Path(spec.model_path) / "provenance.json"
    files = [Path(suite.data_path) / "test.jsonl", *sorted(adapter.rglob("*"))]
    return [path for path in [*files, made] if path.is_file()]


def _fields(spec: Any) -> dict[str, Any]:
    return spec.model_dump() if hasattr(spec, "model_dump") else vars(spec)


def _progress(batches: list[list[int]], total: int, title: str) -> Iterator[list[int]]:
    """`batches` with a bar that counts prompts, done ones first."""
    from tqdm import tqdm

    done = total - sum(map(len, batches))
    with tqdm(total=total, initial=done, desc=title, unit="prompt", mininterval=1) as bar:
        for rows in batches:
            yield rows
            bar.update(len(rows))
