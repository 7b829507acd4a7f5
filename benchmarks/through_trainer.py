"""A form under the project's own trainer, step by step."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import TrainerCallback

from diablo.training.acceleration import Acceleration, choose
from diablo.training.checkpoints import Checkpoints
from diablo.training.examples import Encoded, Example
from diablo.training.finetune import make_trainer
from diablo.training.sharding import shard

from .forms import PRECISIONS, Form

#: The type of autocast in the trainer's words.
AUTOCAST = {torch.bfloat16: "bf16", torch.float16: "fp16", None: None}


def run_trainer(
    form: Form,
    examples: list[Example],
    batch: int,
    micro_batch: int,
    steps: int,
    precision: str,
    acceleration: str,
    sharded: bool = False,
) -> tuple[Clock, Acceleration]:
    """Train for some steps; returns their times and facts, and the accelerations that were used.

    Several processes that call this train together (`diablo.training.together`).
    """
    spec = _spec(batch, micro_batch, steps, max(len(e["input_ids"]) for e in examples))
    autocast, base = AUTOCAST[PRECISIONS[precision][2]], form.model.get_base_model()
    mean = Encoded(examples, truncated=0, dropped=0).mean_tokens
    faster = choose(acceleration, base, spec, form.device, autocast, mean, sharded)
    faster.apply(base)
    if sharded:
        shard(form.model, form.device)
    clock = Clock(form.device)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "work", {}, save_steps=1 << 30)
        job = make_trainer(form.model, examples, spec, 0, autocast, faster, checkpoints)
        job.add_callback(clock)
        clock.facts = job.facts
        if form.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        job.train()
    return clock, faster


class Clock(TrainerCallback):
    """Times each step; in :meth:`row` the second half as one stretch, and the first half warms up."""

    def __init__(self, device: str):
        self.device = device
        self.facts: dict[str, Any] = {}
        self._lines: list[dict[str, Any]] = []
        self._last: float | None = None

    def add(self, milliseconds: float, facts: dict[str, Any]) -> None:
        self._lines.append({**facts, "ms": milliseconds})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # From one step's end to the next one's: batches, logs and bookkeeping are part of it.
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.add(0.0 if self._last is None else 1000 * (now - self._last), dict(self.facts))
        self._last = now

    def times(self) -> list[float]:
        """Milliseconds of each step of the second half."""
        return [line["ms"] for line in self._counted()]

    def _counted(self) -> list[dict[str, Any]]:
        return self._lines[len(self._lines) // 2 :]

    def row(self, peak: float | None) -> dict[str, Any]:
        counted = self._counted()
        seconds = sum(line["ms"] for line in counted) / 1000
        total = {k: sum(line[k] for line in counted) for k in ("examples", "tokens", "computed")}
        return {
            "examples_per_second": round(total["examples"] / seconds, 2),
            "tokens_per_second": round(total["tokens"] / seconds, 1),
            "computed_per_token": round(total["computed"] / total["tokens"], 4),
            "steps": len(counted),
            **({} if peak is None else {"peak_gib": peak}),
            "losses": [round(line["loss"], 5) for line in self._lines],
        }


def _spec(batch: int, micro_batch: int, steps: int, longest: int) -> Any:
    return SimpleNamespace(
        run="benchmark",
        method="diablo",
        epochs=1,
        max_steps=steps,
        batch_size=batch,
        micro_batch_size=micro_batch,
        max_length=longest,
        lr=1e-5,
        weight_decay=0.0,
        max_grad_norm=1.0,
        schedule="constant",
        warmup_steps=0,
        warmup_ratio=None,
        gradient_checkpointing=False,
        seed=0,
    )
