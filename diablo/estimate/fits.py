"""Runs that a card's memory cannot hold, and what would help. Sizes are upper bounds (`memory`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from diablo.data.catalog import Model
from diablo.data.decoding import Decoding
from diablo.specs import QuantSpec, RunSpec, SuiteSpec

from .cards import Cards
from .facts import Assumptions, Gpu, Gpus
from .flops import shapes_of
from .memory import GB, Need, generation_need, training_need


@dataclass(frozen=True)
class Misfit:
    """A run that does not fit.

    Attributes:
        run: its name.
        rule: `finetune` or `generate`.
        need, has: bytes of one card, of which only the usable ones.
        advice: what would help, in words.
        count: GPUs that the run trains on.
        refused: why its weights cannot be sharded over them; None if that is not what is wrong.
    """

    run: str
    rule: str
    need: Need
    has: float
    advice: tuple[str, ...]
    count: int = 1
    refused: str | None = None

    def text(self) -> str:
        """One line: what it needs, of what, and what would help."""
        n = self.need
        fit = f"What would fit: {'; '.join(self.advice)}"
        if self.refused:
            return (
                f"{self.run}: {self.rule} has its weights sharded over {self.count} GPUs, which does not go "
                f"with it: {self.refused}. {fit}"
            )
        parts = {
            "weights": n.weights,
            "gradients": n.gradients,
            "optimizer states": n.states,
            "activations" if self.rule == "finetune" else "cache": n.activations,
        }
        texts = " + ".join(f"{name} {value / GB:.1f}" for name, value in parts.items() if value)
        each = f" on each of {self.count} GPUs" if self.count > 1 else ""
        return (
            f"{self.run}: {self.rule} needs about {n.total / GB:.0f} GB of {self.has / GB:.0f} usable{each} "
            f"({texts}). {fit}"
        )


@dataclass(frozen=True)
class Fits:
    """Checks runs against one card.

    Attributes:
        gpus: all cards, for advice.
        name: the card.
    """

    gpus: Gpus
    name: str
    known: Assumptions

    def usable(self, gpu: Gpu) -> float:
        """Bytes of a card that a job can have."""
        return gpu.memory_gb * GB * self.known.memory.usable

    @property
    def has(self) -> float:
        """Usable bytes of this card."""
        return self.usable(self.gpus.gpus[self.name])

    def misfit(
        self,
        run: RunSpec,
        model: Model,
        suite: SuiteSpec,
        quantized: QuantSpec | None,
        cards: Cards,
    ) -> Misfit | None:
        """What does not fit of a run: its training, else its generating; None if both do.

        Generating has to fit one card even where vLLM has several: `measure` loads the model on one.

        Args:
            cards: what the run trains on.
        """
        if run.dataset is not None:
            need = training_need(run, model, quantized, self.known, cards)
            refused = cards.refusal(run, model)
            if refused or need.total > self.has:
                advice = self._advice(run, model, quantized, need, cards)
                return Misfit(run.run, "finetune", need, self.has, advice, cards.count, refused)
        decoding = Decoding(**suite.decoding)
        most = max(decoding.of(task).max_new_tokens for task in suite.tasks)
        need = generation_need(run, model, self.known.tokens_of(suite.suite).prompt + most)
        if need.total > self.has:
            advice = (self._bigger(lambda gpu: need.total <= self.usable(gpu)),)
            return Misfit(run.run, "generate", need, self.has, advice)
        return None

    def _advice(
        self, run: RunSpec, model: Model, quantized: QuantSpec | None, need: Need, cards: Cards
    ) -> tuple[str, ...]:
        def total(gpu: Gpu = cards.gpu, count: int = cards.count, **changes: Any) -> float:
            """Bytes of a card; more than any has where the weights cannot be sharded."""
            changed, given = run.model_copy(update=changes), Cards(gpu, count)
            if given.refusal(changed, model):
                return inf
            return training_need(changed, model, quantized, self.known, given).total

        sizes = [run.micro_batch_size >> power for power in range(1, 12)]
        smaller = [size for size in sizes if size]
        once: dict[str, Any] = {"gradient_checkpointing": True}
        found = []
        if micro := next((m for m in smaller if total(micro_batch_size=m) <= self.has), None):
            found.append(f"micro_batch_size: {micro} instead of {run.micro_batch_size}")
        if not run.gradient_checkpointing and total(**once) <= self.has:
            found.append("gradient_checkpointing: true")
        elif not found and not run.gradient_checkpointing:
            for micro in smaller:
                if total(micro_batch_size=micro, **once) <= self.has:
                    found.append(f"gradient_checkpointing: true with micro_batch_size: {micro}")
                    break
        if cards.refusal(run, model):
            found += ["gpus: 1"] if total(count=1) <= self.has else []
        elif not found:
            found.append(
                "no smaller micro batch and no checkpointing here, as weights, gradients and optimizer "
                f"states alone are {need.fixed / GB:.0f} GB"
            )
        found.append(
            self._bigger(
                lambda gpu: total(gpu) <= self.usable(gpu),
                lambda gpu: total(gpu, micro_batch_size=1, **once) <= self.usable(gpu),
            )
        )
        if run.method == "full":
            pure: dict[str, Any] = {"precision": "bf16-pure", "micro_batch_size": 1}
            if run.precision != "bf16-pure" and total(**pure) <= self.has:
                found.append(
                    "precision: bf16-pure (states in 16 bits too, which is another experiment)"
                )
            found.append(self._adapter(run, model, quantized))
        return tuple(found)

    def _adapter(self, run: RunSpec, model: Model, quantized: QuantSpec | None) -> str:
        """An adapter instead of full fine-tuning: DiaBlo on every linear layer, by its size."""
        changes = {"method": "diablo", "num_blocks": 64, "modules": shapes_of(model).modules}
        small = training_need(run.model_copy(update=changes), model, quantized, self.known).total
        if small <= self.has:
            return f"an adapter instead of full fine-tuning (DiaBlo N = 64 on all layers: {small / GB:.0f} GB)"
        return f"not even an adapter as it is (DiaBlo N = 64: {small / GB:.0f} GB)"

    def _bigger(
        self, whole: Callable[[Gpu], bool], least: Callable[[Gpu], bool] | None = None
    ) -> str:
        """Bigger cards that hold it as it is, else with the smallest micro batch and checkpointing."""
        more = {n: gpu for n, gpu in self.gpus.gpus.items() if self.usable(gpu) > self.has}
        if names := [name for name, gpu in more.items() if whole(gpu)]:
            return f"a bigger GPU ({', '.join(names)})"
        if least and (names := [name for name, gpu in more.items() if least(gpu)]):
            return (
                f"a bigger GPU ({', '.join(names)}) with a smaller micro batch and "
                "gradient checkpointing"
            )
        return "no single bigger GPU that is known here"
