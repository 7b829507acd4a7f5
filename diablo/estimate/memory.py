"""GPU memory of a training or generating job in bytes: weights, gradients, AdamW's states, activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diablo.data.catalog import Model
from diablo.launch import dealt
from diablo.specs import QuantSpec, RunSpec

from .facts import Assumptions
from .flops import trainable_parameters

if TYPE_CHECKING:
    from .cards import Cards

GB = 1e9

#: Bytes of a frozen weight; where weights train under autocast they are float32 (`training.finetune`).
FROZEN = {"fp32": 4, "fp16": 2, "bf16": 2, "bf16-pure": 2}

#: The benchmark's form whose cost a method has; `frozen` where nothing trains.
FORMS = {
    "zero-shot": "frozen",
    "retained": "frozen",
    "full": "full",
    "dora": "dora",
    "pissa": "pissa",
    "milora": "pissa",
    **dict.fromkeys(("lora", "lora-ga", "loftq", "lori-d", "lori-s"), "lora"),
}


def form_of(method: str) -> str:
    """The benchmark's form of a method: DiaBlo's in place one for blocks and all other patterns."""
    return FORMS.get(method, "inplace")


@dataclass(frozen=True)
class Need:
    """Bytes of a job on a GPU.

    Attributes:
        weights: of the model, with the 16-bit copies that autocast keeps of float32 weights.
        gradients: of what trains.
        states: AdamW's two moments of what trains, and an adapter's own weights.
        activations: what the forward pass keeps for the backward pass; a cache of keys and values.
    """

    weights: float
    gradients: float = 0.0
    states: float = 0.0
    activations: float = 0.0

    @property
    def fixed(self) -> float:
        """What no smaller micro batch saves."""
        return self.weights + self.gradients + self.states

    @property
    def total(self) -> float:
        """All of it at once: an upper bound."""
        return self.fixed + self.activations


def weight_bytes(
    run: RunSpec, model: Model, quantized: QuantSpec | None, known: Assumptions
) -> float:
    """Bytes of a run's frozen weights as they lie on the GPU."""
    packed = quantized is not None and (quantized.quantizer == "nf4" or quantized.form == "packed")
    each = known.memory.packed_bytes if packed else FROZEN[run.precision]
    return model.shapes.base_parameters * each


def token_bytes(model: Model, form: str, known: Assumptions) -> float:
    """Activations of one token in 16 bits, all layers, in a form of the benchmark."""
    s, m = model.shapes, known.memory
    layers = s.layers + (s.decoder_layers or 0)
    each = m.hidden_bytes * s.hidden + m.kv_bytes * s.kv + m.ffn_bytes * s.ffn
    return layers * each * m.of_frozen[form]


def micro_tokens(run: RunSpec, model: Model, known: Assumptions, processes: int = 1) -> float:
    """Tokens of a large micro batch: no example is longer than `max_length`."""
    examples = dealt(run.batch_size, run.micro_batch_size, processes)
    mean = known.tokens_of(run.suite).train
    more = known.memory.packed if model.kind == "causal" else known.memory.padded
    return examples * min(run.max_length, more * mean)


def training_need(
    run: RunSpec,
    model: Model,
    quantized: QuantSpec | None,
    known: Assumptions,
    cards: Cards | None = None,
) -> Need:
    """Memory of a fine-tuning job; of a run that trains nothing, that of its forward passes.

    Args:
        cards: it is that of one of these; None: of one GPU that holds the frozen weights.
    """
    trainable = trainable_parameters(run, model)
    form = form_of(run.method)
    weights = weight_bytes(run, model, quantized, known)
    weights *= cards.part(run, model) if cards else 1
    pure = run.precision == "bf16-pure"
    if run.method == "full" and not pure:
        # float32 weights; autocast casts them to 16 bits for each forward pass and keeps the copies.
        weights = trainable * (4.0 if run.precision == "fp32" else 6.0)
    each = 2 if run.method == "full" and pure else 4
    own = 0 if run.method == "full" else trainable * each
    if run.method == "retained":
        weights *= 2  # the update lies beside the start
    if trainable == 0:
        return Need(weights, activations=known.memory.logits_gb * GB)
    wide = 2 if run.precision == "fp32" else 1
    tokens = micro_tokens(run, model, known, cards.count if cards else 1)
    kept = tokens * token_bytes(model, form, known) * wide
    if run.gradient_checkpointing:
        layers = model.shapes.layers + (model.shapes.decoder_layers or 0)
        # Each layer's input, and everything of the one layer that is computed again.
        inputs = tokens * layers * model.shapes.hidden * 2 * wide
        kept = inputs + kept / layers
    return Need(
        weights=weights,
        gradients=trainable * each,
        states=own + 2 * trainable * each,
        activations=kept + known.memory.logits_gb * GB,
    )


def cache_bytes(model: Model) -> int:
    """Keys and values of one token in 16 bits."""
    layers = model.shapes.decoder_layers or model.shapes.layers
    return 2 * 2 * layers * model.shapes.kv


def generation_need(run: RunSpec, model: Model, context: int) -> Need:
    """Memory of a generating job with a single sequence of `context` tokens: the least that works."""
    weights = model.shapes.base_parameters * FROZEN[run.precision]
    return Need(weights, activations=context * cache_bytes(model) + 0.5 * GB)
