"""What Figures 3 and 4 look at inside of a model, resolved: layer, examples, files. No torch here."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from diablo.experiments import Row
from diablo.rows import Rows, is_trained
from diablo.specs import ProbeSpec

if TYPE_CHECKING:
    from diablo.planning import Plan

#: Methods whose layers compute the full weight's gradient anyway, up to the entries that do not train.
MONITORED = ("diablo",)


def add_probe(rows: Rows, plan: Plan) -> dict[str, Any]:
    """Of an experiment of kind effective-rank: its probe into the plan, and what its table says of it.

    Raises:
        ValueError: if the layer is not in the model, the groups use models of different depth, or a row
            is not fine-tuned; names the key or the row.
    """
    experiment, probe = rows.experiment, rows.experiment.probe
    if probe is None:
        return {}
    depths = {rows.shapes(rows.used_model(group)).layers for group in experiment.groups}
    if len(depths) > 1:
        raise ValueError(
            f"{rows.where}: probe: its models have {sorted(depths)} layers; one layer is probed in all"
        )
    (depth,) = depths
    for group in experiment.groups:
        if rows.shapes(rows.used_model(group)).decoder_layers is not None:
            raise ValueError(f"{rows.where}: {group.label}: probe: not for encoder-decoders")
        for row in group.rows:
            if not is_trained(row.method):
                where = rows.place(group, row)
                raise ValueError(f"{where}: kind effective-rank looks at fine-tuned models only")
    layer, how = probe.layer, "given"
    if layer is None:
        # A generator of its own: no other draw changes it.
        layer = random.Random(f"layer {probe.seed}").randrange(depth)
        how = f"drawn with seed {probe.seed}"
    if layer >= depth:
        raise ValueError(
            f"{rows.where}: probe.layer = {layer}: the model has {depth} layers, 0 to {depth - 1}"
        )
    spec = ProbeSpec(
        name=experiment.name,
        layer=layer,
        layer_from=how,
        examples=min(probe.examples, rows.limits().probe or probe.examples),
        seed=probe.seed,
        thresholds=sorted(probe.thresholds),
    )
    plan.probes[experiment.name] = spec
    return {"probe": {**spec.model_dump(), "layers": depth, "blocks": probe.blocks}}


def probed(rows: Rows, folder: str) -> dict[str, str]:
    """Files of a run that an experiment of one of these kinds is made from, by key of the run's entry."""
    if rows.experiment.probe is not None:
        return {"ranks": f"{folder}/ranks/{rows.experiment.name}.json"}
    if rows.experiment.gradient_examples is not None:
        return {"gradients": f"{folder}/gradients.jsonl"}
    return {}


def gradient_examples(rows: Rows, row: Row, where: str) -> int | None:
    """Training examples behind each gradient of the full weights; None where none is monitored.

    Raises:
        ValueError: if the row's method has no diagonal blocks to compare with.
    """
    examples = rows.experiment.gradient_examples
    if examples is None:
        return None
    if row.method not in MONITORED:
        able = ", ".join(MONITORED)
        raise ValueError(
            f"{where}: method = {row.method}: kind gradient-norms compares the full weight's gradient with "
            f"that of its diagonal blocks, so only {able} can be a row"
        )
    return min(examples, rows.limits().probe or examples)
