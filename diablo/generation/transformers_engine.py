"""The `transformers` backend: a model in memory and `model.generate`.

A causal model's prompts are padded on the left, those of an encoder-decoder on the right of its encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diablo.data.decoding import Decoding
from diablo.generation.draws import Draw
from diablo.methods.base import is_encoder_decoder

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

NAME = "transformers"

#: `complete` ends a row early where its caller says so.
ENDS_EARLY = True

#: Padded prompt tokens plus new tokens of one batch, all beams and samples counted: bounds the memory,
#: and on a CPU the padding too (about 28 short prompts at a time was fastest). There a prompt counts once
#: for all its samples, as it is computed once: small models' keys and values fit, and a step of one
#: prompt's ten samples costs nearly as much as one of five prompts'.
TOKEN_BUDGET = {"cpu": 3072, "cuda": 131072}


def batches(
    lengths: list[int], decoding: Decoding, device: str, batch_size: int | None = None
) -> list[list[int]]:
    """Group prompts of like length; longest first, so that running out of memory shows at once.

    Args:
        lengths: prompt lengths in tokens.
        decoding: its beams, samples and new tokens count against the budget.
        device: "cpu" or "cuda".
        batch_size: prompts a batch; None fills `TOKEN_BUDGET`.

    Returns:
        Indices into `lengths`, batch by batch. It depends only on the lengths: equal ones keep
        their order.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    grouped: list[list[int]] = []
    for index in order:
        if grouped:
            longest, new = lengths[grouped[-1][0]], decoding.max_new_tokens
            if device == "cpu":
                each = (longest + new * decoding.samples) * decoding.num_beams
            else:
                each = (longest + new) * decoding.samples * decoding.num_beams
            room = batch_size or max(1, TOKEN_BUDGET[device] // each)
            if len(grouped[-1]) < room:
                grouped[-1].append(index)
                continue
        grouped.append([index])
    return grouped


class TransformersEngine:
    """Decodes batches of token ids with `model.generate`.

    Args:
        model: in evaluation mode, on its device; causal or encoder-decoder.
        tokenizer: for stop strings only.
        eos: ids that end a sequence; the first also pads finished ones.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, eos: list[int]):
        from transformers import GenerationConfig

        self.model = model
        self.eos = eos
        self._tokenizer = tokenizer
        #: The id that an encoder-decoder's decoder starts with; None for a causal model.
        self._start = _decoder_start(model) if is_encoder_decoder(model) else None
        if self._start is None:
            from diablo.generation.decode_step import use_grouped_attention

            use_grouped_attention(model)
        # Ours replaces the model's own: a model's default (sampling, a repetition penalty) would
        # otherwise fill in whatever is left unset here.
        model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=eos[0],
            decoder_start_token_id=self._start,
        )

    def complete(
        self,
        prompts: list[list[int]],
        decoding: Decoding,
        ended: Callable[[int, list[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """The `decoding.samples` completions of each prompt: token ids without the end-of-sequence id.

        The batch ends when each row has its end of sequence, a stop string, or `ended(prompt, new
        ids)`: not with beams, because one that ends is scored against the others.

        Raises:
            ValueError: `ended` with several beams.
        """
        import torch

        samples = decoding.samples
        options: dict[str, Any] = {
            "num_beams": decoding.num_beams,
            "max_new_tokens": decoding.max_new_tokens,
        }
        if decoding.stop and decoding.num_beams == 1:
            # An early end only: the text is cut at the stop string by the caller.
            options |= {"stop_strings": list(decoding.stop), "tokenizer": self._tokenizer}
        with torch.inference_mode():
            inputs = self._inputs(prompts, decoding)
            # What comes back starts with the padded prompt, or with the decoder's start alone.
            width = inputs["input_ids"].shape[1] if self._start is None else 1
            if decoding.drawn:
                options["logits_processor"] = [Draw(decoding, prompts, width)]
            if ended is not None:
                options["stopping_criteria"] = [self._ending(ended, decoding, width)]
            out = self.model.generate(**inputs, **options)  # type: ignore[operator]
        rows = [until_eos(row, self.eos) for row in out[:, width:].tolist()]
        return [rows[start : start + samples] for start in range(0, len(rows), samples)]

    def _ending(
        self, ended: Callable[[int, list[int]], bool], decoding: Decoding, width: int
    ) -> Callable:
        """`ended` as a stopping criterion: which rows are over, bool (rows,)."""
        import torch

        if decoding.num_beams != 1:
            raise ValueError("rows end early in greedy decoding only, not with num_beams > 1")
        over: set[int] = set()

        def criterion(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            for row, new in enumerate(ids[:, width:].tolist()):
                prompt = row // decoding.samples
                if row not in over and (new[-1] in self.eos or ended(prompt, new)):
                    over.add(row)
            return torch.tensor([row in over for row in range(len(ids))], device=ids.device)

        return criterion

    def _inputs(self, prompts: list[list[int]], decoding: Decoding) -> dict[str, Any]:
        """`generate`'s tensors, a row for each sample: ids, mask, and keys and values already computed."""
        from diablo.generation.decode_step import with_room

        padded = self._padded(prompts)
        if self._start is not None:
            return _repeated(padded, decoding.samples)
        # The start that all share (the protocol's frame) is computed once, not once a prompt ...
        cache = self._shared(prompts, decoding.num_beams)
        if decoding.num_beams > 1:
            return {**padded, "past_key_values": cache}
        if decoding.samples > 1:
            # ... and the rest of a prompt once, not once a sample.
            cache = self._extended(padded, cache)
            if cache is not None:
                cache.batch_repeat_interleave(decoding.samples)
        done = 0 if cache is None else cache.get_seq_length()
        room = padded["input_ids"].shape[1] - done + decoding.max_new_tokens
        cache = with_room(cache, self.model, room)
        return {**_repeated(padded, decoding.samples), "past_key_values": cache}

    def next_logprobs(self, prompts: list[list[int]]) -> torch.Tensor:
        """Log-probability of every id as the first new one, float32 (prompts, vocabulary)."""
        import torch

        with torch.inference_mode():
            inputs: dict[str, Any] = self._padded(prompts)
            if self._start is None:
                inputs["position_ids"] = _places(inputs["attention_mask"])
                inputs["logits_to_keep"] = 1
            else:
                inputs["decoder_input_ids"] = inputs["input_ids"].new_full(
                    (len(prompts), 1), self._start
                )
            logits = self.model(**inputs).logits[:, -1]
        return logits.float().log_softmax(-1).cpu()

    def _shared(self, prompts: list[list[int]], copies: int) -> Cache | None:
        """Keys and values of the prompts' common start, for each prompt so often; None if there is none."""
        import torch

        start = common_start(prompts)
        if not start:
            return None
        ids = torch.tensor([start], device=self.model.device)
        cache = self.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(prompts) * copies)
        return cache

    def _extended(self, padded: dict[str, torch.Tensor], cache: Cache | None) -> Cache | None:
        """Keys and values of all but the last token of each prompt, those of the common start given."""
        mask = padded["attention_mask"][:, :-1]
        done = 0 if cache is None else cache.get_seq_length()
        if done == mask.shape[1]:
            return cache
        return self.model(
            input_ids=padded["input_ids"][:, done:-1],
            attention_mask=mask,
            position_ids=_places(mask)[:, done:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).past_key_values

    def _padded(self, prompts: list[list[int]]) -> dict[str, torch.Tensor]:
        """Ids and mask, (prompts, longest): the common start, padding, the rest of each prompt.

        An encoder's texts are padded at their end.
        """
        import torch

        width = max(map(len, prompts))
        start = len(common_start(prompts)) if self._start is None else width
        ids = torch.full((len(prompts), width), self.eos[0])
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            for part, place in ((prompt[:start], 0), (prompt[start:], width - len(prompt) + start)):
                ids[row, place : place + len(part)] = torch.tensor(part)
                mask[row, place : place + len(part)] = 1
        device = self.model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    def close(self) -> None:
        """Nothing to stop."""


def _decoder_start(model: PreTrainedModel) -> int:
    start = model.generation_config.decoder_start_token_id  # type: ignore[union-attr]
    return model.config.decoder_start_token_id if start is None else start


def _repeated(inputs: dict[str, torch.Tensor], samples: int) -> dict[str, torch.Tensor]:
    """Each row so often, one after the other."""
    return {key: tensor.repeat_interleave(samples, dim=0) for key, tensor in inputs.items()}


def _places(mask: torch.Tensor) -> torch.Tensor:
    """Positions of the tokens, padding not counted: `generate` does this by itself, a bare call does not."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def common_start(prompts: list[list[int]]) -> list[int]:
    """The ids that all prompts begin with, short of the whole of any."""
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return first[:same]


def until_eos(ids: list[int], eos: list[int]) -> list[int]:
    """`ids` up to the first id of `eos`, which is left out."""
    ends = [place for place, token in enumerate(ids) if token in eos]
    return ids[: ends[0]] if ends else ids
