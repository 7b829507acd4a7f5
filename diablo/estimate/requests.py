"""What a job asks a scheduler for: memory of the host and of a GPU, minutes. Sizes are those of the estimate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from diablo.data.decoding import Decoding
from diablo.experiments import Device
from diablo.planning import Plan

from .cards import Cards
from .facts import load_assumptions, load_gpus
from .jobs import Costs
from .memory import FROZEN, GB, Need, generation_need, training_need
from .rates import Rates


def grown(mb: float, attempt: int) -> int:
    """MB of an attempt: half as much again at every further one."""
    return ceil(mb * (1 + attempt) / 2)


@dataclass(frozen=True)
class Requests:
    """Requests of a plan's jobs, each named by a rule's verb and the run (or quantised model) it works on.

    Attributes:
        costs: of the plan on the card that runtimes are asked for (`requests` of assumptions.yaml).
        device: what the jobs compute on.
    """

    costs: Costs
    device: Device

    @classmethod
    def of(cls, plan: Plan, device: Device, backend: str = "auto") -> Requests:
        """The requests of a plan on a device; `backend` is the config's."""
        known, gpus = load_assumptions(), load_gpus()
        rates = Rates.load(known.requests.gpu, gpus, plan.catalog)
        return cls(Costs(plan, rates, known, backend), device)

    def gpus(self, verb: str, name: str) -> int:
        """How many GPUs a job computes on; 0 where the jobs have none."""
        return self.costs.gpus(verb, name) if self.device == "gpu" else 0

    def need(self, verb: str, name: str, cards: Cards | None = None) -> Need:
        """Memory where a job computes, as `diablo estimate` has it.

        Args:
            verb: `quantize`, `finetune`, `generate`, `check-serving`, `measure` or `ranks`.
            name: the run, or the quantised model.
            cards: fine-tuning's, for what one of them holds; None: one that holds the whole model.
        """
        known = self.costs.known
        if verb == "quantize":
            spec = self.costs.plan.quantized[name]
            parameters = self.costs.plan.catalog.model(spec.model).shapes.base_parameters
            weights = float(FROZEN[spec.precision] * parameters)
            return Need(weights, activations=known.memory.logits_gb * GB)
        run, model, suite = self.costs.parts(name)
        if verb == "finetune" and run.dataset is None:
            return Need(0.0)
        if verb == "finetune":
            return training_need(run, model, self.costs.quantized(run), known, cards)
        if verb == "ranks":  # in float32, whatever the run trained in
            run = run.model_copy(update={"precision": "fp32"})
        tokens, decoding = known.tokens_of(suite.suite), Decoding(**suite.decoding)
        new = max(decoding.of(task).max_new_tokens for task in suite.tasks)
        return generation_need(run, model, max(tokens.train, tokens.prompt + new))

    def mem_mb(self, verb: str, name: str, least: int, attempt: int) -> int:
        """Memory of the host in MB, by attempt (:func:`grown`).

        Weights pass through the host on their way to a GPU, as they are read and as they are converted, and so
        does a checkpoint of all that trains. Each of several processes that train together does so by itself.

        Args:
            least: what the rule needs with the small model.
        """
        asked, need = self.costs.known.requests, self.need(verb, name)
        processes = max(1, self.gpus(verb, name)) if verb == "finetune" else 1
        host = asked.base_gb[self.device] * GB + max(asked.copies * need.weights, need.fixed)
        return grown(processes * max(least, host / 1e6), attempt)

    def gpu_mem_mb(self, verb: str, name: str) -> int:
        """Memory of a GPU, of each if the job trains on several, in MB; 0 where the jobs have none."""
        if self.device == "cpu":
            return 0
        cards = self.costs.cards(name) if verb == "finetune" else None
        return ceil(self.need(verb, name, cards).total / 1e6)

    def minutes(self, verb: str, name: str, attempt: int) -> int:
        """Time limit: the high end of the estimate times the attempt, and no less than the least."""
        known, asked = self.costs.known, self.costs.known.requests
        if self.device == "cpu":
            return asked.least_minutes["cpu"] * attempt
        rule = {"check-serving": "generate", "ranks": "measure"}.get(verb, verb)
        spread = known.ranges[rule].high
        more = 1.0 if self.costs.rates.measured else known.unmeasured_card.factor
        seconds = self.costs.job(rule, name).seconds * spread * more
        return ceil(max(asked.least_minutes["gpu"], seconds / 60)) * attempt
