"""LoftQ (Li et al. 2024): LoRA on a quantised base, started so that both together are near the weights.

`diablo quantize` computes the pair: the base model at `spec.model_path` and the factors beside it, in
`loftq/`, a PEFT adapter of that base. Here the adapter is read and trained; the base stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.io import read_json

from .adapters import load, save, wrap
from .lora import ADAPTER, config

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["load", "prepare", "save"]

#: Folder of the initial adapter, beside the quantised weights.
INITIAL = "loftq"


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Add LoRA with LoftQ's factors to the targeted layers of the quantised base.

    The scale is the one that LoftQ was computed with, so that the start is as computed; `spec.alpha` is
    not used.

    Raises:
        ValueError: if `spec.model_path` has no LoftQ adapter, or one of another rank or other modules;
            names the folder and both values.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    folder = Path(spec.model_path) / INITIAL
    if not (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"run {spec.run}: no LoftQ adapter in {folder}; method 'loftq' trains on a model that "
            "`diablo quantize` made with quantizer loftq (give the row `quantize: {quantizer: loftq, ...}`)"
        )
    saved = read_json(folder / "adapter_config.json")
    ours = {"r": spec.rank, "target_modules": sorted(spec.modules)}
    theirs = {"r": saved["r"], "target_modules": sorted(saved["target_modules"])}
    for key, value in ours.items():
        if theirs[key] != value:
            raise ValueError(
                f"{folder}: LoftQ was computed with {key} = {theirs[key]}, run {spec.run} says {value}; "
                "quantise again with the run's settings"
            )
    wrapped = wrap(model, config(spec, lora_alpha=saved["lora_alpha"]), spec)
    result: Any = set_peft_model_state_dict(wrapped, load_peft_weights(str(folder)), ADAPTER)
    if result.unexpected_keys:
        raise ValueError(
            f"{folder}: factors of layers that the model lacks: {result.unexpected_keys[:3]}"
        )
    return wrapped
