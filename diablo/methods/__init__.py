"""How a model is fine-tuned: the registry of methods, one file each.

The registry is free of torch, because the workflow counts parameters while it plans; a method's own
file is imported when its model is built. Such a file has three functions:

    prepare(model, spec, work_folder=None, gradients=None) -> model
                                        ready to train: what trains has requires_grad
    save(model, folder) -> None         the trained model's artifact, into `folder`
    load(base_model, folder) -> model   the artifact merged, as a plain model

A prepared model on which a mask holds trainable entries at zero says how many: `masked_entries`.
QLoRA is LoRA on an NF4 base (`quantize: {quantizer: nf4}` of a row), not a method of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

from diablo.data.protocol import unknown
from diablo.shapes import (
    Pattern,
    Width,
    diablo_parameters,
    live_parameters,
    lora_b_parameters,
    lora_parameters,
    lori_kept,
    pattern_parameters,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: (model, examples): adds to `.grad` of every parameter of `model` with requires_grad the gradient of
#: the mean loss per labelled token over the first `examples` of the run's own training examples.
Gradients = Callable[["torch.nn.Module", int], None]


@dataclass(frozen=True)
class Sizes:
    """All that a method's number of trainable parameters depends on; a setting not given is 0.

    Attributes:
        widths: (input, output) widths of the targeted linear layers.
        base_parameters: those of the whole base model.
        block_size: edge of SMT's square blocks.
        chosen_blocks: how many of them train, over the whole model.
        pattern: which part of an update is retained.
    """

    widths: list[Width]
    base_parameters: int = 0
    num_blocks: int = 0
    rank: int = 0
    block_size: int = 0
    chosen_blocks: int = 0
    pattern: str = ""


@dataclass(frozen=True)
class Method:
    """One fine-tuning method.

    Attributes:
        needs: settings of a spec that must be given, such as `rank`.
        artifact: what a run leaves behind: nothing, a PEFT adapter or a whole model.
        module: file in this package with `prepare`, `save` and `load`.
        on_packed: whether it trains beside weights that are packed, which it cannot read or write.
    """

    name: str
    title: str
    module: str
    needs: tuple[str, ...]
    artifact: Literal["none", "adapter", "model"]
    count: Callable[[Sizes], int]
    on_packed: bool = False

    def parameters(
        self,
        widths: Sequence[Width],
        *,
        num_blocks: int | None = None,
        rank: int | None = None,
        base_parameters: int = 0,
        block_size: int | None = None,
        chosen_blocks: int | None = None,
        pattern: str | None = None,
    ) -> int:
        """Trainable parameters, from the (input, output) widths of the targeted linear layers.

        Of a retained update: the entries that are kept.

        Raises:
            ValueError: if a setting that the count depends on is missing.
        """
        settings = {
            "num_blocks": num_blocks,
            "rank": rank,
            "block_size": block_size,
            "chosen_blocks": chosen_blocks,
            "pattern": pattern,
        }
        for name, value in settings.items():
            if name in self.needs and value is None:
                raise ValueError(f"method {self.name!r} needs {name}, but it is not given")
        given: dict[str, Any] = {name: v for name, v in settings.items() if v is not None}
        return self.count(Sizes(list(widths), base_parameters, **given))

    def check(self, spec: Any) -> None:
        """ValueError naming the run and the setting if `spec` lacks what the method needs."""
        for name in self.needs:
            if not getattr(spec, name):
                raise ValueError(
                    f"run {spec.run}: method {self.name!r} needs {name!r}, but it is "
                    f"{getattr(spec, name)!r}; give it to the row of the experiment's YAML"
                )
        if getattr(spec, "layers", None) and self.name in WHOLE:
            raise ValueError(
                f"run {spec.run}: method {self.name!r} looks at all layers of the model; leave `layers` out"
            )

    def prepare(
        self,
        model: PreTrainedModel,
        spec: Any,
        work_folder: Path | None = None,
        gradients: Gradients | None = None,
    ) -> torch.nn.Module:
        """Make `model` (on its device) trainable by this method.

        Args:
            work_folder: where an initialisation that must survive a restart is kept.
            gradients: the run's gradients, for methods that start from them (those that need
                `calibration`, the number of examples).

        Raises:
            ValueError: if `spec` lacks what the method needs, or it needs `gradients` and has none.
        """
        self.check(spec)
        if getattr(model, "hf_quantizer", None) is not None and not self.on_packed:
            able = ", ".join(name for name, method in METHODS.items() if method.on_packed)
            raise ValueError(
                f"run {spec.run}: method {self.name!r} reads or changes the base model's weights, but "
                f"those in {spec.model_path} are packed; quantise with `form: fake`, or use one of {able}"
            )
        return self._functions().prepare(model, spec, work_folder, gradients)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the artifact of a trained model into `folder` (made if need be)."""
        self._functions().save(model, folder)

    def load(self, base_model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The base model with the artifact in `folder` merged in; `base_model` is used up."""
        return self._functions().load(base_model, folder)

    def _functions(self) -> ModuleType:
        return importlib.import_module(f"diablo.methods.{self.module}")


def _none(sizes: Sizes) -> int:
    return 0


def _all(sizes: Sizes) -> int:
    return sizes.base_parameters


def _factors(sizes: Sizes) -> int:
    return lora_parameters(sizes.widths, sizes.rank)


def _factors_and_magnitudes(sizes: Sizes) -> int:
    return _factors(sizes) + sum(m2 for _, m2 in sizes.widths)


def _factor_b(sizes: Sizes) -> int:
    return lora_b_parameters(sizes.widths, sizes.rank)


def _sparse_factor_b(sizes: Sizes) -> int:
    return lori_kept(_factor_b(sizes))


def _blocks(sizes: Sizes) -> int:
    return diablo_parameters(sizes.widths, sizes.num_blocks)


def _chosen_blocks(sizes: Sizes) -> int:
    return sizes.chosen_blocks * sizes.block_size**2


def _pattern(pattern: Pattern, sizes: Sizes) -> int:
    return pattern_parameters(pattern, sizes.widths, sizes.num_blocks)


def _kept(sizes: Sizes) -> int:
    if sizes.pattern == "diagonal":
        return live_parameters(sizes.widths, sizes.num_blocks)
    return pattern_parameters(cast(Pattern, sizes.pattern), sizes.widths, sizes.num_blocks)


#: Trains nothing: keeps a part of what a full fine-tuning changed.
RETAINED = "retained"

#: Methods that cannot train a part of the model's layers alone.
WHOLE = ("zero-shot", "full", "smt", "loftq", "lori-s", RETAINED)

#: Methods that train a random pattern of the weights, of the size of DiaBlo's N blocks.
RANDOM: dict[str, Pattern] = {
    "random-entries": "entries",
    "random-blocks": "blocks",
    "random-inputs": "inputs",
    "random-outputs": "outputs",
}

_BLOCKS = ("modules", "num_blocks")
_LORA = ("modules", "rank", "alpha")
_RETAINED = ("modules", "num_blocks", "pattern", "full_adapter", "gammas", "held_out")
_SMT = ("modules", "block_size", "chosen_blocks", "calibration")

_ALL = (
    Method("zero-shot", "Zero-shot", "zero_shot", (), "none", _none),
    Method("full", "Full fine-tuning", "full", (), "model", _all),
    Method("lora", "LoRA", "lora", _LORA, "adapter", _factors, True),
    Method("dora", "DoRA", "dora", _LORA, "adapter", _factors_and_magnitudes),
    Method("pissa", "PiSSA", "pissa", ("modules", "rank"), "adapter", _factors),
    Method("milora", "MiLoRA", "milora", ("modules", "rank"), "adapter", _factors),
    Method(
        "lora-ga", "LoRA-GA", "lora_ga", ("modules", "rank", "calibration"), "adapter", _factors
    ),
    Method("loftq", "LoftQ", "loftq", ("modules", "rank"), "adapter", _factors, True),
    Method("lori-d", "LoRI-D", "lori", _LORA, "adapter", _factor_b, True),
    Method("lori-s", "LoRI-S", "lori", (*_LORA, "mask_adapter"), "adapter", _sparse_factor_b, True),
    Method("diablo", "DiaBlo", "diablo_blocks", _BLOCKS, "adapter", _blocks, True),
    Method("smt", "SMT", "smt", _SMT, "adapter", _chosen_blocks),
    *(
        Method(
            name,
            f"Random {pattern}",
            "patterns",
            _BLOCKS,
            "adapter",
            partial(_pattern, pattern),
            True,
        )
        for name, pattern in RANDOM.items()
    ),
    Method(RETAINED, "Retained update", "retained", _RETAINED, "adapter", _kept),
)

#: The methods that are implemented, by name.
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get_method(name: str) -> Method:
    """The method `name`; ValueError with the nearest valid name if there is none."""
    if name not in METHODS:
        raise ValueError(unknown("method", name, METHODS, "diablo.methods"))
    return METHODS[name]


def load_for_inference(
    spec: Any, adapter: str | Path, device: str = "cpu", dtype: str | torch.dtype = "float32"
) -> PreTrainedModel:
    """A run's model for generation: the base model with the artifact merged into its weights.

    Args:
        adapter: the run's adapter folder (`results/<scale>/runs/<run>/adapter`).
        dtype: type of the weights, which is also the type that the merge is rounded to. Packed weights
            are dequantised to it first: nothing is merged into packed ones.

    Raises:
        ValueError: if the base model or the artifact is not there.
    """
    import torch

    from diablo.methods.base import load_base

    method = get_method(spec.method)
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if not Path(adapter).is_dir():
        raise ValueError(f"run {spec.run}: no adapter in {adapter}; run `diablo finetune` first")
    if method.artifact == "model":
        model = load_base(str(adapter), device, dtype)
    else:
        merged = method.artifact != "none"
        base = load_base(spec.model_path, device, dtype, dequantise=merged)
        model = method.load(base, Path(adapter))
    return model.eval().requires_grad_(False)
