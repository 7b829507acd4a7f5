"""Which of the accelerations a job can use. All leave the loss as it is, up to rounding."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from .graphs import bucket_size, worth_recording
from .kernels import kernels_available, use_kernels
from .packing import supports_packing, use_packing
from .together import micro_batch_size

NAMES = ("packing", "kernels", "graphs")


@dataclass(frozen=True)
class Acceleration:
    """What a job does faster than the obvious way.

    Attributes:
        packing: micro batches without padding (`packing.py`).
        kernels: liger-kernel's fused RMSNorm, rotary embedding and SwiGLU (`kernels.py`).
        graphs: CUDA graphs of whole micro batches (`graphs.py`); needs packing.
        bucket: packed rows are filled up to a multiple of so many tokens; 1 without graphs.
    """

    packing: bool = False
    kernels: bool = False
    graphs: bool = False
    bucket: int = 1

    def apply(self, model: PreTrainedModel) -> None:
        """Change the model where need be, before or after its adapter: linear layers stay as they are."""
        if self.kernels:
            use_kernels(model)
        if self.packing:
            use_packing(model)

    def facts(self) -> dict[str, Any]:
        """For provenance."""
        return asdict(self)


def choose(
    wanted: str,
    model: PreTrainedModel,
    spec: Any,
    device: str,
    autocast: str | None,
    mean_tokens: float,
    sharded: bool = False,
) -> Acceleration:
    """The accelerations of a job.

    Args:
        wanted: `auto` (all that can be used and help), `none`, or some of :data:`NAMES` by commas.
        autocast: `fp16`, `bf16` or None, as in `finetune.PRECISIONS`.
        mean_tokens: of an example.
        sharded: weights come and go (`sharding.py`), which cannot be recorded.

    Raises:
        ValueError: an unknown name, or one that this model or device does not allow.
    """
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(autocast or "", model.dtype)
    tokens = mean_tokens * micro_batch_size(spec)
    possible = {
        "packing": supports_packing(model, spec.max_length),
        "kernels": kernels_available(model, device),
        # Checkpointing asks for random states, which cannot be recorded.
        "graphs": device == "cuda"
        and kind in (torch.float16, torch.bfloat16)
        and supports_packing(model, spec.max_length)
        and not (spec.gradient_checkpointing or sharded),
    }
    if wanted == "auto":
        parameters = sum(p.numel() for p in model.parameters())
        chosen = {**possible, "graphs": possible["graphs"] and worth_recording(parameters, tokens)}
    else:
        chosen = _parse(wanted)
        for name in NAMES:
            if chosen[name] and not possible[name]:
                raise ValueError(
                    f"run {spec.run}: acceleration {name!r} cannot be used with a "
                    f"{model.config.model_type} model in {kind} on {device}; leave it out or use `auto`"
                )
    return Acceleration(**chosen, bucket=bucket_size(tokens) if chosen["graphs"] else 1)


def _parse(wanted: str) -> dict[str, bool]:
    names = [] if wanted == "none" else wanted.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(
            f"acceleration {unknown[0]!r} is not known; give `auto`, `none` or some of "
            f"{', '.join(NAMES)} separated by commas"
        )
    if "graphs" in names and "packing" not in names:
        raise ValueError("acceleration 'graphs' needs 'packing'; give both or neither")
    return {name: name in names for name in NAMES}
