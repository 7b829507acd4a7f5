"""The GPUs of a run's jobs: how many each computes on, and how much of the model lies on one of them."""

from __future__ import annotations

from dataclasses import dataclass

from diablo.data.catalog import Model
from diablo.launch import SHARE, not_sharded
from diablo.methods import METHODS, RETAINED
from diablo.planning import Plan
from diablo.rows import is_trained
from diablo.specs import RunSpec

from .facts import Gpu
from .flops import shapes_of
from .memory import FROZEN, GB


def gpus_of(plan: Plan, backend: str, rule: str, name: str) -> int:
    """GPUs that a job computes on where there are any: the run's own `gpus` if it trains or vLLM splits its model.

    Args:
        backend: the config's.
        rule: as a job's, or `check-serving` or `ranks`.
        name: the run, or what else the job works on.
    """
    if rule not in ("finetune", "generate", "check-serving"):
        return 1
    run = plan.runs[name]
    if rule == "finetune":
        # The search of a retained update is one process; zero-shot writes its provenance and loads no model.
        return plan.gpus[name] if is_trained(run.method) else int(run.method == RETAINED)
    served = plan.backends.get(name, backend)
    alone = served == "transformers" or plan.catalog.model(run.model).kind == "seq2seq"
    return 1 if alone else plan.gpus[name]


@dataclass(frozen=True)
class Cards:
    """The GPUs that a run trains on.

    Attributes:
        gpu: each of them.
        count: processes, a GPU each.
    """

    gpu: Gpu
    count: int = 1

    def shard(self, run: RunSpec, model: Model) -> bool:
        """Whether each keeps a part of the frozen weights alone, as `training.finetune` decides."""
        if self.count == 1 or METHODS[run.method].artifact == "model" or run.quantized:
            return False
        weights = FROZEN[run.precision] * model.shapes.base_parameters
        return weights > SHARE * self.gpu.memory_gb * GB

    def refusal(self, run: RunSpec, model: Model) -> str | None:
        """Why the run's weights cannot be sharded although they have to be; None if nothing is wrong."""
        return not_sharded(run, METHODS[run.method].artifact) if self.shard(run, model) else None

    def part(self, run: RunSpec, model: Model) -> float:
        """Frozen weights on one of them, in multiples of the whole model's.

        Where they are sharded: a part of every layer, the layer that is at work and the next one, which is
        fetched already, and embeddings and head, which stay whole (`training.sharding`).
        """
        if not self.shard(run, model):
            return 1.0
        own, base = shapes_of(model), model.shapes.base_parameters
        linear = sum(m1 * m2 for m1, m2 in own.widths(own.modules))
        layers = model.shapes.layers + (model.shapes.decoder_layers or 0)
        return (base - linear + linear / self.count + 2 * linear / layers) / base
