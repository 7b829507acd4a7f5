"""Widths of the linear layers of a Llama-like model or a T5, and parameter counts, without torch.

Counts know about grouped-query attention: k and v project to `kv`, not to `hidden`. (The paper's
Tables 1, 3 and 6 count them as square; its Table 10 does not.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

Width = tuple[int, int]

#: What of a weight W of Y = X W trains beside the diagonal blocks: rectangles of a grid; whole inputs
#: (rows of W, columns of a torch weight); whole outputs (columns of W, rows of a torch weight); entries.
Pattern = Literal["blocks", "inputs", "outputs", "entries"]


@dataclass(frozen=True)
class Shapes:
    """Widths of one model: layers, hidden size, key/value size, feed-forward size.

    An encoder-decoder has `decoder_layers` beside its encoder's `layers`; q, k and v of all its
    attentions are `kv` wide.
    """

    layers: int
    hidden: int
    kv: int
    ffn: int
    base_parameters: int
    decoder_layers: int | None = None

    @property
    def modules(self) -> list[str]:
        """Names of the linear layers of the model's blocks: all but embeddings and head."""
        return list(dict.fromkeys(name for _, block in self._blocks() for name, _ in block))

    def part(self, layers: str) -> list[int]:
        """Indices of a part of the model's layers: `2/4` is the second quarter, of any depth.

        Raises:
            ValueError: an encoder-decoder, or fewer layers than parts.
        """
        part, parts = map(int, layers.split("/"))
        if self.decoder_layers is not None:
            raise ValueError(f"layers = {layers}: only for a model with one stack of layers")
        if self.layers < parts:
            raise ValueError(f"layers = {layers}: the model has {self.layers} layers")
        return list(range((part - 1) * self.layers // parts, part * self.layers // parts))

    def widths(self, modules: list[str], layers: str | None = None) -> list[Width]:
        """(input, output) widths of every targeted linear layer of the model.

        Args:
            modules: module names, such as `q_proj`.
            layers: a part of the model's layers, such as `2/4`; None: all.

        Raises:
            ValueError: if a module is not a linear layer of the model's blocks, or see :meth:`part`.
        """
        if layers is not None:
            return replace(self, layers=len(self.part(layers))).widths(modules)
        if unknown := [module for module in modules if module not in self.modules]:
            raise ValueError(
                f"modules {unknown}: not linear layers of this model, which has {self.modules}; "
                "`modules: all` names them all"
            )
        return [
            width
            for count, block in self._blocks()
            for _ in range(count)
            for name, width in block
            if name in modules
        ]

    def _blocks(self) -> list[tuple[int, list[tuple[str, Width]]]]:
        """(how many, linear layers by name) of each kind of block; a name may come twice in one."""
        h, kv, ffn = self.hidden, self.kv, self.ffn
        if self.decoder_layers is None:
            attention = [
                ("q_proj", (h, h)),
                ("k_proj", (h, kv)),
                ("v_proj", (h, kv)),
                ("o_proj", (h, h)),
            ]
            dense = [("gate_proj", (h, ffn)), ("up_proj", (h, ffn)), ("down_proj", (ffn, h))]
            return [(self.layers, attention + dense)]
        # T5's names. A decoder's block attends to itself and to the encoder.
        attention = [("q", (h, kv)), ("k", (h, kv)), ("v", (h, kv)), ("o", (kv, h))]
        dense = [("wi", (h, ffn)), ("wo", (ffn, h))]
        return [(self.layers, attention + dense), (self.decoder_layers, 2 * attention + dense)]


def diablo_parameters(widths: list[Width], num_blocks: int) -> int:
    """DiaBlo's trainable parameters: N · ceil(m1/N) · ceil(m2/N) a layer (paper, section 3.1)."""
    return sum(num_blocks * ceil(m1 / num_blocks) * ceil(m2 / num_blocks) for m1, m2 in widths)


def live_parameters(widths: list[Width], num_blocks: int) -> int:
    """Those of DiaBlo's parameters that lie inside the weights; the others are padding without effect."""
    return sum(_live(m1, m2, num_blocks) for m1, m2 in widths)


def pattern_shape(pattern: Pattern, width: Width, num_blocks: int) -> tuple[int, int, int]:
    """The blocks of a pattern in one layer: how many, and inputs and outputs of each.

    As many entries as N diagonal blocks have inside the weight, as nearly as the pattern allows: exactly
    so wherever N divides both widths.

    Args:
        width: m1 inputs and m2 outputs.
        num_blocks: N. `blocks` are those of the N x N grid, of shape (ceil(m1/N), ceil(m2/N)).
    """
    m1, m2 = width
    d1, d2 = {
        "blocks": (ceil(m1 / num_blocks), ceil(m2 / num_blocks)),
        "inputs": (1, m2),
        "outputs": (m1, 1),
        "entries": (1, 1),
    }[pattern]
    there_are = (m1 // d1) * (m2 // d2)
    wanted = round(_live(m1, m2, num_blocks) / (d1 * d2))
    return min(there_are, max(1, wanted)), d1, d2


def pattern_parameters(pattern: Pattern, widths: list[Width], num_blocks: int) -> int:
    """A pattern's trainable parameters; compare :func:`live_parameters`."""
    total = 0
    for width in widths:
        count, d1, d2 = pattern_shape(pattern, width, num_blocks)
        total += count * d1 * d2
    return total


def _live(m1: int, m2: int, num_blocks: int) -> int:
    """Entries of N diagonal blocks that lie inside an m1 by m2 matrix."""
    d1, d2 = ceil(m1 / num_blocks), ceil(m2 / num_blocks)
    whole = min(num_blocks, m1 // d1, m2 // d2)
    # One more may lie inside in part (of N, nothing is left); of all further ones an input or an output is missing.
    return whole * d1 * d2 + min(d1, m1 - whole * d1) * min(d2, m2 - whole * d2)


def lora_parameters(widths: list[Width], rank: int) -> int:
    """LoRA's trainable parameters: r · (m1 + m2) a layer."""
    return sum(rank * (m1 + m2) for m1, m2 in widths)


def lora_b_parameters(widths: list[Width], rank: int) -> int:
    """Those of LoRA's B alone: r · m2 a layer."""
    return sum(rank * m2 for _, m2 in widths)


def lori_kept(entries: int) -> int:
    """How many of all `entries` of LoRI's B train in LoRI-S: 10 %, rounded down (Zhang et al. 2025)."""
    return entries // 10


def matched_rank(paper_ratio: float, widths: list[Width], num_blocks: int) -> int:
    """The rank whose parameter count has `paper_ratio` to that of DiaBlo with `num_blocks`.

    `max(1, round(ratio · P_DiaBlo / Σ(m1 + m2)))`.
    """
    return max(
        1, round(paper_ratio * diablo_parameters(widths, num_blocks) / lora_parameters(widths, 1))
    )


def matched_blocks(
    paper_ratio: float, widths: list[Width], num_blocks: int, block_size: int
) -> int:
    """The number of square blocks whose parameters have `paper_ratio` to DiaBlo's with `num_blocks`."""
    return max(1, round(paper_ratio * diablo_parameters(widths, num_blocks) / block_size**2))
