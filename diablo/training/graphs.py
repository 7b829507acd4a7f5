"""CUDA graphs of whole micro batches: for small models, whose GPU otherwise waits for Python.

A step of a 135M model launches some ten thousand kernels of a few microseconds each. Recorded once
for each shape and replayed, they run back to back. What is recorded is the ordinary forward and
backward pass, of any method, so the loss curve is that of the ordinary trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import together

#: Packed rows are filled up to a multiple of this share of their usual length, which costs half of it.
BUCKETS = 16

#: Up to so much arithmetic a micro batch (4 x parameters x tokens), Python may be slower than the GPU:
#: an H200 does it in 0.3 s, and on a slow host the launches of 32 layers took 0.2 s.
SMALL = 2e14

Batch = dict[str, Any]


def bucket_size(tokens_per_micro_batch: float) -> int:
    """The multiple that packed rows are filled up to: at most 1/:data:`BUCKETS` of their usual length."""
    return max(16, int(tokens_per_micro_batch / BUCKETS) // 16 * 16)


def worth_recording(parameters: int, tokens_per_micro_batch: float) -> bool:
    """Whether launching takes longer than computing on a GPU of today."""
    return 4 * parameters * tokens_per_micro_batch < SMALL


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class RecordedMicroBatches:
    """Runs ``run(batch) -> loss``, which adds to the parameters' gradients, from recordings.

    The first batch of a shape runs as it is (kernels are compiled, buffers made), the second one is
    recorded, and every further one replays the recording on its own data.

    Args:
        parameters: those that get gradients; their gradients stay where they are from then on.
        run: forward and backward pass of one micro batch, without anything that waits for the GPU.
    """

    def __init__(self, parameters: list[nn.Parameter], run: Callable[[Batch], Tensor]):
        self._parameters = parameters
        self._grads = [torch.zeros_like(p) for p in parameters]
        self._run = run
        self._recordings: dict[Any, _Recording | None] = {}
        self._pool: Any = None
        # Autograd adds a gradient up on the stream that first used its parameter. So what is not
        # recorded runs on the recordings' stream too.
        self._stream = torch.cuda.Stream()

    def begin_step(self) -> None:
        """Set all gradients to zero, in place."""
        if self._grads:
            torch._foreach_zero_(self._grads)
        for parameter, grad in zip(self._parameters, self._grads, strict=True):
            parameter.grad = grad

    def __call__(self, batch: Batch) -> Tensor:
        """The micro batch's loss; valid until the next call."""
        key = tuple((k, v.shape) for k, v in _tensors(batch))
        if key not in self._recordings:
            self._recordings[key] = None
            return self._as_it_is(batch)
        recording = self._recordings[key]
        if recording is None:
            recording = self._recordings[key] = self._record(batch)
        for (_, static), (_, given) in zip(_tensors(recording.batch), _tensors(batch), strict=True):
            static.copy_(given, non_blocking=True)
        recording.graph.replay()
        return recording.loss

    def _as_it_is(self, batch: Batch) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = self._run(batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        for _, tensor in _tensors(batch):
            tensor.record_stream(self._stream)
        return loss

    def _record(self, batch: Batch) -> _Recording:
        static = _clone(batch)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # With several processes, a thread of NCCL's asks for its events meanwhile, which is no error.
        mode = "thread_local" if together.processes() > 1 else "global"
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode):
            loss = self._run(static)
        # All recordings share their memory: one is done before the next one starts.
        self._pool = self._pool or graph.pool()
        return _Recording(graph, static, loss)


def _tensors(batch: Batch, prefix: str = "") -> list[tuple[str, Tensor]]:
    found = []
    for key, value in batch.items():
        if isinstance(value, dict):
            found += _tensors(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            found.append((prefix + key, value))
    return found


def _clone(batch: Batch) -> Batch:
    return {
        key: _clone(value)
        if isinstance(value, dict)
        else (value.clone() if isinstance(value, Tensor) else value)
        for key, value in batch.items()
    }
