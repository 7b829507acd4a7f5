"""One linear layer's weight in, its quantised weight and errors out: all quantisers behind one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .gptq import gptq
from .grid import Grid, GridSettings
from .loftq import loftq
from .magr import ALPHA_PER_CHANNEL, ALPHA_PER_GROUP, magr
from .nf4 import BLOCK as NF4_BLOCK
from .nf4 import nf4
from .quality import output_energy, relative

#: precision of a spec -> dtype that quantised weights and scales are stored in
DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "bf16-pure": torch.bfloat16,
}


@dataclass
class Quantised:
    """What a quantiser made of one linear layer.

    Attributes:
        tensors: `weight` (outputs, inputs) in the stored dtype; `scale` and `zero` (outputs, groups)
            if it lies on a grid; LoftQ's `lora_A` (rank, inputs) and `lora_B` (outputs, rank).
        facts: its errors and what the quantiser had to change.
    """

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def start(self) -> torch.Tensor:
        """The weight that fine-tuning starts from: quantised, with LoftQ's correction added."""
        weight = self.tensors["weight"]
        if "lora_A" not in self.tensors:
            return weight
        correction = self.tensors["lora_B"] @ self.tensors["lora_A"]
        return (weight.to(correction.dtype) + correction).to(weight.dtype)


def check(spec: Any) -> None:
    """ValueError naming the key if the settings of a QuantSpec make no quantiser."""
    where = f"quantised model {spec.name}"
    if spec.bits == 1:
        raise ValueError(
            f"{where}: bits = 1: one bit has two values, and a grid that holds zero has only one "
            "other, so half of the signs are lost; use 2 bits or more"
        )
    if not 2 <= spec.bits <= 8:
        raise ValueError(f"{where}: bits = {spec.bits}: use 2 to 8")
    if spec.quantizer == "nf4" and (spec.bits != 4 or spec.group_size not in (None, 64)):
        raise ValueError(
            f"{where}: NF4 has 4 bits and blocks of 64, but bits = {spec.bits} and group_size = "
            f"{spec.group_size}; leave both out"
        )
    if spec.quantizer in ("gptq", "magr") and spec.calibration_path is None:
        raise ValueError(f"{where}: {spec.quantizer} needs calibration_path, a data set's folder")
    if spec.quantizer == "loftq" and not (spec.rank and spec.loftq_iterations >= 1):
        raise ValueError(
            f"{where}: loftq needs a rank and one iteration or more, but rank = {spec.rank!r} and "
            f"loftq_iterations = {spec.loftq_iterations}"
        )
    for key in ("samples", "length", "group_size"):
        value = getattr(spec, key)
        if value is not None and value < (2 if key == "length" else 1):
            raise ValueError(f"{where}: {key} = {value}: too small")


def on_grid(spec: Any) -> bool:
    """Whether the weights lie on a uniform grid. LoftQ at 4 bits without a group size uses NF4."""
    if spec.quantizer == "loftq":
        return spec.bits != 4 or spec.group_size is not None
    return spec.quantizer != "nf4"


def check_group(spec: Any, name: str, inputs: int) -> None:
    """ValueError if the group size, or NF4's packed block, does not divide a layer's inputs."""
    if on_grid(spec) and spec.group_size is not None and inputs % spec.group_size:
        raise ValueError(
            f"{name}: its {inputs} inputs are no multiple of group_size = {spec.group_size}; use a "
            "divisor, or none for one scale an output row"
        )
    if not on_grid(spec) and spec.form == "packed" and inputs % NF4_BLOCK:
        raise ValueError(
            f"{name}: its {inputs} inputs are no multiple of {NF4_BLOCK}, which bitsandbytes needs to "
            "multiply with packed NF4 weights on a CPU; use the form `fake`"
        )


def quantise_weight(
    spec: Any, weight: torch.Tensor, hessian: torch.Tensor | None, name: str
) -> Quantised:
    """Quantise one weight as a QuantSpec says.

    Args:
        weight: (outputs, inputs), as in the model.
        hessian: (inputs, inputs), XᵀX of its calibration inputs up to a factor, float32; None without
            calibration: there are no errors on inputs then.
        name: the module's, for messages.

    Raises:
        ValueError: names the module if its group size, its inputs or its weight do not fit.
    """
    original = weight.float()
    if not torch.isfinite(original).all():
        raise ValueError(f"{name}: its weight has NaN or infinite entries")
    check_group(spec, name, weight.shape[1])
    settings = GridSettings(
        spec.bits, spec.group_size, spec.symmetric, spec.shrink, DTYPES[spec.precision]
    )
    made = _QUANTISERS[spec.quantizer](spec, settings, original, hessian, name)
    plain = _plain(spec, settings)(original)
    made.facts |= _errors(original, made.start(), plain, hessian)
    return made


def _plain(spec: Any, settings: GridSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """Rounding to the nearest value of the spec's grid."""
    if on_grid(spec):
        return lambda weight: Grid.fit(weight, settings).round(weight)
    return lambda weight: nf4(weight).to(settings.dtype)


def _errors(
    original: torch.Tensor,
    made: torch.Tensor,
    plain: torch.Tensor,
    hessian: torch.Tensor | None,
) -> dict[str, float | None]:
    """Relative errors of the quantised and the plainly rounded weight, on inputs and by itself."""
    change, rounding = made.float() - original, plain.float() - original
    size = original.norm().item() ** 2
    facts: dict[str, float | None] = {
        "error": None,
        "rtn_error": None,
        "weight_error": relative(change.norm().item() ** 2, size),
        "rtn_weight_error": relative(rounding.norm().item() ** 2, size),
    }
    if hessian is not None:
        whole = output_energy(original, hessian)
        facts["error"] = relative(output_energy(change, hessian), whole)
        facts["rtn_error"] = relative(output_energy(rounding, hessian), whole)
    return facts


def _rtn(spec: Any, settings: GridSettings, weight: torch.Tensor, *_: Any) -> Quantised:
    return _with_grid(Grid.fit(weight, settings), weight)


def _with_grid(grid: Grid, weight: torch.Tensor) -> Quantised:
    return Quantised({"weight": grid.round(weight), "scale": grid.scale, "zero": grid.zero})


def _gptq(
    spec: Any, settings: GridSettings, weight: torch.Tensor, hessian: torch.Tensor, name: str
) -> Quantised:
    rounded = gptq(weight, hessian, settings, spec.damp, spec.act_order, name)
    tensors = {"weight": rounded.values, "scale": rounded.grid.scale, "zero": rounded.grid.zero}
    return Quantised(tensors, {"damp": rounded.damp})


def _magr(
    spec: Any, settings: GridSettings, weight: torch.Tensor, hessian: torch.Tensor, name: str
) -> Quantised:
    usual = ALPHA_PER_CHANNEL if spec.group_size is None else ALPHA_PER_GROUP
    alpha = usual if spec.alpha is None else spec.alpha
    weight = magr(weight, hessian, alpha, spec.group_size, spec.iterations)
    return _gptq(spec, settings, weight, hessian, name)


def _nf4(spec: Any, settings: GridSettings, weight: torch.Tensor, *_: Any) -> Quantised:
    return Quantised({"weight": nf4(weight).to(settings.dtype)})


def _loftq(
    spec: Any, settings: GridSettings, weight: torch.Tensor, hessian: Any, name: str
) -> Quantised:
    if spec.rank > min(weight.shape):
        raise ValueError(f"{name}: rank = {spec.rank} exceeds its smaller side {min(weight.shape)}")
    grids: list[Grid] = []

    def on_its_grid(target: torch.Tensor) -> torch.Tensor:
        grids.append(Grid.fit(target, settings))
        return grids[-1].round(target)

    quantise = on_its_grid if on_grid(spec) else _plain(spec, settings)
    quantised, down, up = loftq(weight, quantise, spec.rank, spec.loftq_iterations)
    tensors = {"weight": quantised, "lora_A": down, "lora_B": up}
    if grids:
        tensors |= {"scale": grids[-1].scale, "zero": grids[-1].zero}
    return Quantised(tensors)


_QUANTISERS: dict[str, Callable[..., Quantised]] = {
    "rtn": _rtn,
    "gptq": _gptq,
    "magr": _magr,
    "nf4": _nf4,
    "loftq": _loftq,
}
