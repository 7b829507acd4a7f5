"""Floating-point operations and sizes of a model, by hand-checkable formulas.

A product of a token with a weight of n entries takes 2 n operations forward, 2 n for the input's gradient and
2 n for the weight's own (Kaplan et al. 2020, section 2.1). Attention over s tokens (6 L h s a token, trained)
is left out: under 2 % of an 8B model's up to 512 tokens.
"""

from __future__ import annotations

from dataclasses import replace

from diablo import shapes
from diablo.data.catalog import Model
from diablo.methods import METHODS
from diablo.specs import QuantSpec, RunSpec


def shapes_of(model: Model) -> shapes.Shapes:
    """The widths of a catalogue model, as `diablo.shapes` counts with them."""
    return shapes.Shapes(**model.shapes.model_dump(exclude={"heads", "vocab"}))


def matrix_parameters(model: Model) -> int:
    """Weights that a token is multiplied with: linear layers and the head; an embedding is a look-up."""
    own = shapes_of(model)
    linear = sum(m1 * m2 for m1, m2 in own.widths(own.modules))
    return linear + model.shapes.vocab * model.shapes.hidden


def trainable_parameters(run: RunSpec, model: Model) -> int:
    """Trainable parameters of a run, as its method counts them; a retained update trains none."""
    if run.method == "retained":
        return 0
    own = shapes_of(model)
    if run.layers is not None:
        own = replace(own, layers=len(run.layers))
    return METHODS[run.method].parameters(
        own.widths(run.modules),
        num_blocks=run.num_blocks,
        rank=run.rank,
        base_parameters=model.shapes.base_parameters,
        block_size=run.block_size,
        chosen_blocks=run.chosen_blocks,
        pattern=run.pattern,
    )


def training_flops(parameters: int, trainable: int, full: bool, checkpointing: bool) -> int:
    """Operations of a training step for each token.

    Args:
        parameters: weights that a token is multiplied with (:func:`matrix_parameters`).
        trainable: an adapter's parameters; of no account where all weights train.
        full: 6 P; else 4 P for the frozen weights and 6 for each of the adapter's parameters (blocks
            inside the weight need 2 only; the difference is below a hundredth).
        checkpointing: the forward pass is done twice.
    """
    once = 6 * parameters if full else 4 * parameters + 6 * trainable
    return once + 2 * parameters * checkpointing


def quantising_flops(spec: QuantSpec, model: Model) -> tuple[int, int, int]:
    """(operations of products, operations of singular value decompositions, columns rounded one by one).

    GPTQ: two forward passes over the calibration tokens, a Hessian of 2 m1² a token, its inverse (2 m1³) and
    the update (m1² m2) for each weight of m1 inputs; MagR: 2 m1² m2 a step; LoftQ: a decomposition a step,
    20 m1 m2 min(m1, m2). Rounding alone and NF4 take one pass over the weights.
    """
    own = shapes_of(model)
    widths = own.widths(spec.modules or own.modules)
    tokens = spec.samples * spec.length
    products = decompositions = columns = 0
    if spec.quantizer in ("gptq", "magr"):
        products += 4 * matrix_parameters(model) * tokens
        products += sum(2 * m1 * m1 * tokens + 2 * m1**3 + m1 * m1 * m2 for m1, m2 in widths)
        columns = sum(m1 for m1, _ in widths)
    if spec.quantizer == "magr":
        products += sum(2 * m1 * m1 * m2 * spec.iterations for m1, m2 in widths)
    if spec.quantizer == "loftq":
        decompositions = spec.loftq_iterations * sum(
            20 * m1 * m2 * min(m1, m2) for m1, m2 in widths
        )
    products += 2 * matrix_parameters(model) * spec.perplexity_tokens
    return products, decompositions, columns
