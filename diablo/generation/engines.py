"""Which engine decodes, with which weights: a run's model, merged, behind one interface.

An engine has `complete(prompts)` and `close()`; its module has `batches(...)`, which needs no engine,
and `ENDS_EARLY`, whether `complete` takes `ended`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from diablo.data.decoding import Decoding
from diablo.data.protocol import unknown
from diablo.generation import transformers_engine, vllm_engine

if TYPE_CHECKING:
    import torch

BACKENDS: dict[str, ModuleType] = {
    module.NAME: module for module in (transformers_engine, vllm_engine)
}


class Engine(Protocol):
    """What decodes token ids."""

    def complete(
        self,
        prompts: list[list[int]],
        decoding: Decoding,
        ended: Callable[[int, list[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """The `decoding.samples` completions of each prompt: token ids without the end-of-sequence id.

        The same prompt has the same samples whatever else is asked. `ended(prompt, new ids)` ends a
        completion early; only for engines whose module says `ENDS_EARLY`.
        """

    def next_logprobs(self, prompts: list[list[int]]) -> torch.Tensor:
        """Log-probabilities of the first new id, (prompts, vocabulary); NaN where not known."""

    def close(self) -> None:
        """Free what it holds."""


def choose_backend(backend: str, encoder_decoder: bool = False) -> tuple[str, str]:
    """(backend, device): `auto` is vLLM on a GPU and transformers on a CPU; device "cuda" or "cpu".

    Args:
        encoder_decoder: whether the model is one, which transformers alone decodes.

    Raises:
        ValueError: for an unknown backend, or vLLM with an encoder-decoder.
    """
    import torch

    if backend not in ("auto", *BACKENDS):
        raise ValueError(unknown("backend", backend, ("auto", *BACKENDS), "--backend"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if encoder_decoder and backend == "vllm":
        raise ValueError(
            "backend vllm: it has no encoder-decoder models such as T5; use --backend transformers"
        )
    if backend == "auto":
        backend = "vllm" if device == "cuda" and not encoder_decoder else "transformers"
    return backend, device


def dtype_of(spec: Any) -> str:
    """Type of the weights that are served: the type that the frozen weights had in training."""
    return {"fp32": "float32", "fp16": "float16"}.get(spec.precision, "bfloat16")


def end_ids(model_path: str | Path, tokenizer: Any) -> list[int]:
    """Ids that end a sequence: the tokenizer's own (the one that is trained) and the model's others.

    Raises:
        ValueError: if the tokenizer has none.
    """
    from transformers import AutoConfig, GenerationConfig

    if tokenizer.eos_token_id is None:
        raise ValueError(f"{model_path}: the tokenizer has no end-of-sequence token")
    try:
        others = GenerationConfig.from_pretrained(model_path).eos_token_id
    except OSError:  # a folder without generation_config.json
        others = AutoConfig.from_pretrained(model_path).eos_token_id
    others = others if isinstance(others, list) else [others]
    ends = [tokenizer.eos_token_id, *(other for other in others if other is not None)]
    return list(dict.fromkeys(ends))


@contextlib.contextmanager
def open_engine(
    spec: Any,
    run_folder: Path,
    work_folder: Path,
    backend: str,
    device: str,
    decoding: Decoding,
    tokenizer: Any,
    longest: int,
    threads: int | None = None,
    gpus: int = 1,
) -> Iterator[Engine]:
    """A running engine with the run's merged model; stopped, and its files removed, at the end.

    Args:
        backend, device: of `choose_backend`.
        decoding: of the suite; that of a task may be another, but for the beams.
        longest: tokens of the longest prompt plus the new tokens.
        threads: CPU threads; None leaves the default.
        gpus: vLLM splits the model over so many on a GPU; transformers uses one.
    """
    eos, dtype = end_ids(spec.model_path, tokenizer), dtype_of(spec)
    adapter = Path(run_folder) / "adapter"
    if backend == "transformers":
        from diablo.methods import load_for_inference

        with cpu_threads(threads):
            model = load_for_inference(spec, adapter, device, dtype)
            yield transformers_engine.TransformersEngine(model, tokenizer, eos)
        return
    with merged_folder(spec, adapter, work_folder, dtype) as folder:
        beams = decoding.num_beams
        split = max(1, gpus) if device == "cuda" else 1
        engine = vllm_engine.VllmEngine(folder, beams, eos, dtype, longest, threads, split)
        try:
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def merged_folder(spec: Any, adapter: Path, work_folder: Path, dtype: str) -> Iterator[Path]:
    """A model folder that an engine can load: adapters merged into a temporary one.

    A run without an adapter is served from its base model's folder as it is.
    """
    from transformers import AutoTokenizer

    from diablo.methods import get_method, load_for_inference

    if get_method(spec.method).artifact == "none":
        yield Path(spec.model_path)
        return
    folder = Path(work_folder) / "merged"
    shutil.rmtree(folder, ignore_errors=True)  # a killed job's
    try:
        load_for_inference(spec, adapter, "cpu", dtype).save_pretrained(folder)
        AutoTokenizer.from_pretrained(spec.model_path).save_pretrained(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Run with so many torch threads (None: as it is), and put the old number back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
