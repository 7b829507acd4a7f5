"""Tokens drawn at random, for each prompt from numbers of its own.

What a prompt's samples are follows from the seed and the prompt: neither the prompts that share its batch
nor a restart in between can change them. Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diablo.data.decoding import Decoding

if TYPE_CHECKING:
    from torch import Tensor

#: So many of the likeliest tokens are looked at first; where they are too few, eight times as many.
LIKELIEST = 64


def prompt_seed(seed: int, prompt: Sequence[int]) -> int:
    """The seed of one prompt's samples, from the decoding's seed and the prompt's token ids; below 2^56."""
    text = f"{seed}:{' '.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


class Draw:
    """Draws the next token of each row, as a logits processor of transformers' `generate`.

    Only the drawn token keeps a finite score, so greedy decoding takes it. `generate`'s own sampling
    would draw for all rows from one generator, and sort the whole vocabulary to find the likeliest tokens.

    Args:
        decoding: its temperature, top_p, samples, new tokens and seed.
        prompts: token ids; each has `decoding.samples` rows, one after the other.
        width: of the rows before the first new token.
    """

    def __init__(self, decoding: Decoding, prompts: Sequence[Sequence[int]], width: int):
        import torch

        self._decoding, self._width = decoding, width
        size = (decoding.samples, decoding.max_new_tokens)
        seeds = [prompt_seed(decoding.seed, prompt) for prompt in prompts]
        numbers = [torch.rand(size, generator=torch.Generator().manual_seed(s)) for s in seeds]
        # 24 bits each: in float64 the product with a total stays below it.
        self._numbers = torch.cat(numbers).double()

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """ids (rows, tokens so far), scores (rows, vocabulary): 0 for the drawn tokens, -inf elsewhere."""
        import torch

        numbers = self._numbers[:, ids.shape[1] - self._width].to(scores.device)
        tokens = draw(scores / self._decoding.temperature, self._decoding.top_p, numbers)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens.unsqueeze(1), 0.0)


def draw(scores: Tensor, top_p: float, numbers: Tensor) -> Tensor:
    """The token of each row into whose share of the probability a number falls.

    Args:
        scores: (rows, vocabulary), divided by the temperature.
        top_p: see `likeliest`.
        numbers: (rows,) in [0, 1), float64.

    Returns:
        Token ids, (rows,).
    """
    import torch

    shares, tokens = scores.softmax(dim=-1), None
    if top_p < 1:
        shares, tokens = likeliest(shares, top_p)
    sums = shares.double().cumsum(dim=-1)
    # The first whose sum is above the number: one without a share never is.
    places = torch.searchsorted(sums, numbers.unsqueeze(1) * sums[:, -1:], right=True)
    return (places if tokens is None else tokens.gather(1, places)).squeeze(1)


def likeliest(shares: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest tokens that make up `top_p` of the probability, the likeliest first.

    Args:
        shares: (rows, vocabulary), each row's sum 1.

    Returns:
        Shares and token ids, both (rows, as many as any row needs or more); shares beyond are 0.
    """
    size = shares.shape[1]
    count = min(LIKELIEST, size)
    while True:
        found, tokens = shares.topk(count, dim=-1)
        sums = found.cumsum(dim=-1)
        if count == size or bool((sums[:, -1] >= top_p).all()):
            return found.masked_fill(sums - found >= top_p, 0), tokens
        count = min(8 * count, size)
