"""What a restart needs: checkpoints that are whole or absent, and only ever of the same job.

A checkpoint is a folder `checkpoint-<step>` with the trainable weights, the optimiser, the schedule,
the random states and Trainer's own state. Frozen weights are not in it: they come from the model
again. It is written beside its place and renamed, so any folder of that name is complete.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diablo.io import atomic_path, read_json, write_json

logger = logging.getLogger(__name__)

WEIGHTS = "trainable.safetensors"
IDENTITY = "identity.json"

#: Seconds between checkpoints, unless a number of steps is asked for.
INTERVAL = float(os.environ.get("DIABLO_CHECKPOINT_SECONDS", "30"))
#: Checkpoints of large models take longer: no more than this share of the time goes into them.
SHARE = 0.05


class Checkpoints:
    """The checkpoints of one job, of which only the last is kept.

    Args:
        folder: the job's work folder.
        identity: JSON facts that the job's result follows from. What a job with other facts left in
            the folder is deleted.
        save_steps: optimiser steps between checkpoints; None goes by time (`INTERVAL`, `SHARE`).
    """

    def __init__(self, folder: Path, identity: dict[str, Any], save_steps: int | None = None):
        self.folder = folder
        self.save_steps = save_steps
        self._interval = INTERVAL
        self._saved_at = time.monotonic()
        known = folder / IDENTITY
        if folder.is_dir() and not (known.is_file() and read_json(known) == identity):
            if any(folder.iterdir()):
                logger.warning(
                    "%s: left by another job (spec, data or model differ); deleted", folder
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*"):
            # What `atomic_path` was writing when the job was killed.
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        write_json(known, identity)

    def last(self) -> Path | None:
        """The last checkpoint, None before the first."""
        found = [path for path in self.folder.glob("checkpoint-*") if path.is_dir()]
        return max(found, key=step_of, default=None)

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be written after this step."""
        if self.save_steps is not None:
            return step % self.save_steps == 0
        return time.monotonic() - self._saved_at >= self._interval

    @contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """Yield the folder to write the checkpoint of a step to; put it in place and drop older ones."""
        started = time.monotonic()
        with atomic_path(self.folder / f"checkpoint-{step}") as temporary:
            yield temporary
            _flush(temporary)
        for path in self.folder.glob("checkpoint-*"):
            if step_of(path) != step:
                shutil.rmtree(path)
        self._saved_at = time.monotonic()
        self._interval = max(INTERVAL, (self._saved_at - started) / SHARE)

    def delete(self) -> None:
        """Remove the work folder: the job is done."""
        shutil.rmtree(self.folder)


def step_of(checkpoint: Path | None) -> int:
    """Optimiser steps done at a checkpoint; 0 for none."""
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def save_trainable(model: nn.Module, folder: Path) -> None:
    """Write the trainable weights of a model into `folder`, as they are."""
    tensors = {name: p.detach().contiguous() for name, p in _trainable(model)}
    save_file(tensors, folder / WEIGHTS)


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Read them back, in place.

    Raises:
        ValueError: if the checkpoint has other weights than the model trains.
    """
    tensors = load_file(folder / WEIGHTS)
    parameters = dict(_trainable(model))
    if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in parameters.items()}:
        raise ValueError(f"{folder}: not a checkpoint of this model; delete {folder.parent}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _flush(folder: Path) -> None:
    """Bring a folder's files to the disk, so that a machine that goes down leaves no empty ones."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
