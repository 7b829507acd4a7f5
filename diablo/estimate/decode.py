"""Time and operations of decoding: bound by memory, and by arithmetic where many sequences share a step."""

from __future__ import annotations

from dataclasses import dataclass

from diablo.data.catalog import Model
from diablo.data.decoding import Decoding

from .facts import Assumptions
from .flops import matrix_parameters
from .memory import GB, cache_bytes
from .rates import Rates


@dataclass(frozen=True)
class Completed:
    """What a task's completions take: operations, seconds of one GPU, how many are kept (no beams)."""

    flops: float
    seconds: float
    completions: int


@dataclass(frozen=True)
class Decoder:
    """An engine that serves one model on one card.

    Attributes:
        weights: bytes of the model as it is served.
        precision: of the run, for the rate of prefill.
    """

    rates: Rates
    known: Assumptions
    model: Model
    weights: float
    precision: str

    @property
    def basis(self) -> str:
        """What the time rests on, in words."""
        g, gpu = self.known.generation, self.rates.gpu
        return (
            f"decoding bound by memory at an assumed {g.bandwidth_share:.0%} of the published "
            f"{gpu.bandwidth_gbs:,.0f} GB/s ({gpu.source}), {g.slots} sequences at a time; prefill at the "
            "rate of training's forward pass; no generation was timed"
        )

    def complete(self, prompts: int, prompt: int, new: int, decoding: Decoding) -> Completed:
        """Completions of a task.

        Every step reads the weights and the keys and values of the sequences under way; it takes no less
        than their 2 P operations each, and no less than the engine's own time. Prompts are read once, for
        all beams and samples of them.

        Args:
            prompts: how many, those of a second turn included.
            prompt: tokens of each.
            new: tokens of each completion.
        """
        g, rate = self.known.generation, self.rates.frozen(self.model, self.precision)
        each = 2 * matrix_parameters(self.model)
        beams = decoding.num_beams > 1
        kept = prompts * (decoding.samples if decoding.drawn else 1)
        sequences = kept * decoding.num_beams
        cache = (prompt + new) * cache_bytes(self.model)
        free = self.rates.gpu.memory_gb * GB * self.known.memory.usable - self.weights
        slots = max(1, min(g.slots, int(free / cache), sequences))
        again = g.beam_recomputed if beams else 1
        read = (self.weights + slots * cache) / (
            self.rates.gpu.bandwidth_gbs * GB * g.bandwidth_share
        )
        step = max(read, each * slots * again / rate, g.step_floor_ms / 1000)
        steps = new * max(1.0, sequences / slots)
        requests = sequences * (new if beams else 1)
        prefill = prompts * prompt * each
        return Completed(
            flops=prefill + sequences * new * each * again,
            seconds=steps * step + requests * g.host_ms / 1000 + prefill / rate,
            completions=kept,
        )
