"""`generate`: a run's completions for all tasks of a suite, with one engine start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diablo.data.protocol import Decoding, load_protocol
from diablo.generation.engines import BACKENDS, choose_backend, dtype_of, open_engine
from diablo.generation.partial import Partial
from diablo.generation.prompts import Prompt, suite_decoding, suite_prompts
from diablo.io import sha256_json, write_jsonl
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
) -> int:
    """Write the completions of a suite's prompts by a run's merged model.

    Finished batches are kept in `work_folder` until all are there: a killed job continues.

    Args:
        spec: RunSpec.
        suite: SuiteSpec; its `decoding` holds, not the protocol's.
        run_folder: holds `adapter/`.
        out_path: `generations/<suite>.jsonl`; `<suite>.provenance.json` is written beside it.
        work_folder: for partial results and merged weights; emptied at the end.
        backend: "auto" (vLLM on a GPU, transformers on a CPU), "vllm" or "transformers".
        batch_size: prompts at a time; None fits the memory.
        threads: CPU threads; None leaves the default.

    Returns:
        How many completions were written (one for each prompt).

    Raises:
        ValueError: data, adapter or backend missing, a decoding that the backend cannot do, or a
            prompt that is too long for the model.
    """
    run_folder, out_path, work_folder = Path(run_folder), Path(out_path), Path(work_folder)
    backend, device = choose_backend(backend)
    decoding, prompts = suite_decoding(suite), suite_prompts(suite)
    provenance = Provenance("generate", inputs=_inputs(spec, suite, run_folder))
    tokenizer, ids = encode(spec, suite, prompts, decoding)
    batches = BACKENDS[backend].batches([len(row) for row in ids], decoding, device, batch_size)
    setting = {
        "run": spec.run,
        "suite": suite.suite,
        "variant": suite.variant,
        "backend": backend,
        "dtype": dtype_of(spec),
        "decoding": {
            "num_beams": decoding.num_beams,
            "max_new_tokens": decoding.max_new_tokens,
            "stop": list(decoding.stop),
        },
        "limit_per_task": suite.limit_per_task,
    }
    # Inputs with their hashes, setting and ids: whatever the completions depend on.
    key = sha256_json([setting, device, _fields(spec), provenance.facts["inputs"], ids])
    partial = Partial(work_folder, key)
    todo = [rows for rows in batches if partial[rows] is None]

    generated = 0
    if todo:
        longest = max(map(len, ids)) + decoding.max_new_tokens
        with open_engine(
            spec, run_folder, work_folder, backend, device, decoding, tokenizer, longest, threads
        ) as engine:
            for rows in _progress(todo, len(prompts), f"generate {spec.run}"):
                new = engine.complete([ids[row] for row in rows])
                generated += sum(map(len, new))
                partial.add(rows, [text_of(tokenizer, each, decoding) for each in new])

    completions = {
        row: text for rows in batches for row, text in zip(rows, partial[rows] or [], strict=True)
    }
    write_jsonl(
        out_path,
        (
            {"task": p.task, "id": p.id, "prompt": p.text, "completions": [completions[row]]}
            for row, p in enumerate(prompts)
        ),
    )
    provenance.add(
        **setting,
        n=len(prompts),
        reused_from_partial=len(prompts) - sum(map(len, todo)),
        prompt_tokens=sum(map(len, ids)),
        generated_tokens=generated,
    )
    provenance.write(out_path.with_suffix(".provenance.json"))
    partial.delete()
    return len(prompts)


def encode(
    spec: Any, suite: Any, prompts: list[Prompt], decoding: Decoding
) -> tuple[Any, list[list[int]]]:
    """The run's tokenizer and the prompts' token ids, the same for every backend.

    Raises:
        ValueError: if a prompt and its new tokens do not fit the model; names task and id.
    """
    from transformers import AutoConfig, AutoTokenizer

    from diablo.data.encode import encode_prompt

    protocol = load_protocol(suite.suite, suite.variant)
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    room = getattr(AutoConfig.from_pretrained(spec.model_path), "max_position_embeddings", None)
    ids = []
    for prompt in prompts:
        row = encode_prompt(tokenizer, protocol, prompt.record)
        if room is not None and len(row) + decoding.max_new_tokens > room:
            raise ValueError(
                f"{suite.data_path}: {prompt.task} {prompt.id!r}: {len(row)} prompt tokens and "
                f"{decoding.max_new_tokens} new ones do not fit {spec.model_path} ({room} positions)"
            )
        ids.append(row)
    return tokenizer, ids


def text_of(tokenizer: Any, ids: list[int], decoding: Decoding) -> str:
    """The completion's text, cut before the first stop string."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    places = [place for stop in decoding.stop if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


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
