"""Which layout a pattern has in a layer, and where a random one lies."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from diablo.shapes import Pattern, pattern_shape

from .chosen import ChosenLayout
from .entries import EntriesLayout
from .layout import Layout
from .lines import InputsLayout, OutputsLayout
from .ops import block_layout
from .placed import PlacedLayout

DIAGONAL = "diagonal"
PATTERNS: tuple[str, ...] = (DIAGONAL, *get_args(Pattern))

_LAYOUTS: dict[str, type[PlacedLayout]] = {
    "blocks": ChosenLayout,
    "inputs": InputsLayout,
    "outputs": OutputsLayout,
    "entries": EntriesLayout,
}


def pattern_layout(
    pattern: str,
    in_features: int,
    out_features: int,
    num_blocks: int,
    seed: int = 0,
    name: str = "",
) -> Layout:
    """A pattern in a layer, with as many entries as N diagonal blocks have there, drawn at random.

    What is drawn depends on the seed, the pattern, the layer's name and its widths alone, and on no
    other generator. (NumPy keeps the stream of the one used here as it is.)

    Args:
        pattern: one of :data:`PATTERNS`; nothing is drawn for `diagonal`.
        num_blocks: N (:func:`diablo.shapes.pattern_shape`).
        name: full name of the module in its model.

    Raises:
        ValueError: N below 1, or above both widths.
    """
    diagonal = block_layout(in_features, out_features, num_blocks)
    if pattern == DIAGONAL:
        return diagonal
    count, d1, d2 = pattern_shape(pattern, (in_features, out_features), num_blocks)  # type: ignore[arg-type]
    columns = out_features // d2
    places = _draw(count, (in_features // d1) * columns, f"{seed}/{pattern}/{name}")
    positions = torch.from_numpy(np.stack([places // columns, places % columns], axis=1))
    return _LAYOUTS[pattern](
        in_features, out_features, d1, d2, positions.to(torch.int32), drawn=True
    )


def given_layout(
    pattern: str,
    in_features: int,
    out_features: int,
    num_blocks: int,
    positions: Sequence[Sequence[int]] | Tensor,
) -> PlacedLayout:
    """A pattern in a layer, at given places.

    Args:
        pattern: one of :data:`PATTERNS` but `diagonal`.
        num_blocks: N, which the shape of `blocks` depends on and nothing else.
        positions: (K, 2): [input block, output block]. Every pattern is blocks: those of `inputs` are
            (1 × m2), so that input i is at [i, 0]; output j is at [0, j] and entry (i, j) at [i, j].

    Raises:
        ValueError: a position lies outside, or `blocks` have an N below 1 or above both widths.
    """
    if pattern == "blocks":
        block_layout(in_features, out_features, num_blocks)
    _, d1, d2 = pattern_shape(pattern, (in_features, out_features), num_blocks)  # type: ignore[arg-type]
    places = torch.as_tensor(positions, dtype=torch.int32)
    return _LAYOUTS[pattern](in_features, out_features, d1, d2, places)


def _draw(count: int, total: int, key: str) -> np.ndarray:
    """`count` different numbers below `total` in rising order; every such set is as likely."""
    seed = np.frombuffer(sha256(key.encode()).digest(), dtype="<u4")
    random = np.random.RandomState(seed)
    if 2 * count > total:
        return np.sort(random.permutation(total)[:count])
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:  # what was drawn before is drawn again, until there is none
        more = random.randint(0, total, count - len(drawn), dtype=np.int64)
        drawn = np.union1d(drawn, more)
    return drawn
