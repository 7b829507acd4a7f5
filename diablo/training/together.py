"""Several processes train one model: each does a part of every step, and all make the same update.

A step's micro batches are dealt out, and what they add to the gradients is added up over the processes
before anything looks at them. So clipping, optimiser, schedule, log and checkpoints are those of a
single process, and so are the examples of each step. Its loss is the mean over all labelled tokens of
the step already, whoever computed them: nothing is averaged. With one process nothing here does anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from diablo.launch import check_division, dealt

#: Numbers that are sent at once: an adapter is hundreds of small tensors, a whole model must not be copied.
MESSAGE = 1 << 26

Batch = TypeVar("Batch")


def processes() -> int:
    """How many processes train together."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def rank() -> int:
    """Which of them this is, from 0 on; the first one alone writes files."""
    return distributed.get_rank() if processes() > 1 else 0


def wait() -> None:
    """Go on when all processes are here."""
    if processes() > 1:
        # Not `barrier()`, which would take the GPU's group.
        distributed.all_reduce(torch.zeros(1))


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does the block before all others, who find the files that it wrote."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()
    wait()


def micro_batch_size(spec: Any) -> int:
    """Examples of a forward pass: the run's, or fewer, so that all processes have as many.

    Raises:
        ValueError: if a step's examples cannot be dealt out evenly.
    """
    count = processes()
    if count == 1:
        return spec.micro_batch_size
    check_division(f"run {spec.run}", spec.batch_size, count)
    return dealt(spec.batch_size, spec.micro_batch_size, count)


def part(micro_batches: Sequence[Batch]) -> list[tuple[Batch, bool]]:
    """This process's micro batches of a step, and whether each counts.

    Every process does as many passes, as sharded weights are gathered by all at once: where there are
    too few micro batches (an epoch's last step), one is done again and does not count.
    """
    count = processes()
    own = [(batch, True) for batch in micro_batches[rank() :: count]]
    passes = -(-len(micro_batches) // count)
    return own + [(micro_batches[0], False)] * (passes - len(own))


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their sums over all processes, which have tensors of the same shapes."""
    if processes() == 1:
        return
    alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        bucket = alike.setdefault((tensor.dtype, tensor.device), [])
        bucket.append(tensor)
        if sum(t.numel() for t in bucket) >= MESSAGE:
            _add_up(bucket)
            bucket.clear()
    for bucket in alike.values():
        if bucket:
            _add_up(bucket)


def _add_up(tensors: list[Tensor]) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    sums = flat.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [s.view_as(t) for s, t in zip(sums, tensors, strict=True)])


def agree(model: nn.Module) -> None:
    """Let what trains start from the first process's values in all of them."""
    if processes() > 1:
        for parameter in model.parameters():
            if parameter.requires_grad:
                distributed.broadcast(parameter.data, src=0)


def seed_step(seed: int, step: int) -> None:
    """Random numbers (dropout) that differ from process to process, and are the same after a restart."""
    if processes() > 1:
        # A hash, as torch takes 64 bits at most, whatever the seed.
        digest = hashlib.sha256(f"{seed} {step} {rank()}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
