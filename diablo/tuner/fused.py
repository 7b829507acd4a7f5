"""The block write of all layers as one Triton kernel (NVIDIA and AMD GPUs).

Views of blocks are strided, and PyTorch's foreach functions fall back to one launch per tensor for
those. 224 launches a step are a fifth of the step of a small model; chosen blocks would need one each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .layout import Layout

TILE = 64
_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}

#: weight (m2, m1), copy of W0's blocks (N, d1, d2) contiguous, D (N, d1, d2) contiguous, layout
Operands = tuple[Tensor, Tensor, Tensor, Layout]


@triton.jit
def _kernel(table, owner, origins, WEIGHT: tl.constexpr, BLOCKS: tl.constexpr, TILE: tl.constexpr):
    # One program writes one tile of one block: W[row + j, column + i] = W0 + D[n, i, j], where the block
    # begins at (row, column) of the torch weight, origins[n] elements after its first.
    layer = tl.load(owner + tl.program_id(0)).to(tl.int64)
    row = table + layer * 8
    weight = tl.load(row).to(tl.pointer_type(WEIGHT))
    backup = tl.load(row + 1).to(tl.pointer_type(WEIGHT))
    blocks = tl.load(row + 2).to(tl.pointer_type(BLOCKS))
    d1 = tl.load(row + 3)
    d2 = tl.load(row + 4)
    stride = tl.load(row + 5)
    local = tl.program_id(0) - tl.load(row + 6)
    first_block = tl.load(row + 7)
    across = (d2 + TILE - 1) // TILE
    down = (d1 + TILE - 1) // TILE
    block = local // (across * down)
    i = (local // across) % down * TILE + tl.arange(0, TILE)[:, None]
    j = local % across * TILE + tl.arange(0, TILE)[None, :]
    inside = (i < d1) & (j < d2)
    source = (block * d1 + i) * d2 + j
    total = tl.load(backup + source, mask=inside).to(tl.float32)
    total += tl.load(blocks + source, mask=inside).to(tl.float32)
    target = weight + tl.load(origins + first_block + block) + j * stride + i
    tl.store(target, total.to(WEIGHT), mask=inside)


@dataclass(frozen=True)
class _Group:
    """One launch: the layers of one device and one pair of types."""

    table: Tensor
    owner: Tensor
    origins: Tensor
    weight_type: torch.dtype
    block_type: torch.dtype


class FusedWrite:
    """Writes W0 + D into the weights of many layers; keeps the tables of where they are."""

    def __init__(self) -> None:
        self._known: list[tuple[int, int, int, Layout]] = []
        self._groups: list[_Group] = []

    def write(self, layers: list[Operands]) -> None:
        """Write the blocks of every layer; tensors of float32, float16 or bfloat16 on a GPU."""
        where = [(w.data_ptr(), b.data_ptr(), d.data_ptr(), lay) for w, b, d, lay in layers]
        if where != self._known:
            self._groups = _groups(layers)
            self._known = where
        for group in self._groups:
            with torch.cuda.device(group.table.device):
                _kernel[(len(group.owner),)](
                    group.table,
                    group.owner,
                    group.origins,
                    WEIGHT=_TYPES[group.weight_type],
                    BLOCKS=_TYPES[group.block_type],
                    TILE=TILE,
                )


def _groups(layers: list[Operands]) -> list[_Group]:
    by_kind: dict[tuple[torch.device, torch.dtype, torch.dtype], list[Operands]] = {}
    for operands in layers:
        weight, _, blocks, _ = operands
        by_kind.setdefault((weight.device, weight.dtype, blocks.dtype), []).append(operands)
    return [_group(*kind, members) for kind, members in by_kind.items()]


def _group(
    device: torch.device, weight_type: torch.dtype, block_type: torch.dtype, members: list[Operands]
) -> _Group:
    origins: list[int] = []
    rows, owners, first = [], [], 0
    for index, (weight, backup, blocks, layout) in enumerate(members):
        pointers = [tensor.data_ptr() for tensor in (weight, backup, blocks)]
        num_blocks, d1, d2 = layout.shape
        rows.append([*pointers, d1, d2, weight.stride(0), first, len(origins)])
        tiles = num_blocks * -(-d1 // TILE) * -(-d2 // TILE)
        owners.append(torch.full((tiles,), index, dtype=torch.int32))
        origins += layout.origins(weight)
        first += tiles
    table, places = (torch.tensor(v, dtype=torch.int64, device=device) for v in (rows, origins))
    return _Group(table, torch.cat(owners).to(device), places, weight_type, block_type)
