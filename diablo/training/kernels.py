"""Fused kernels for the frozen parts of a model, from liger-kernel: the same for every method.

RMSNorm, rotary embedding and SwiGLU are chains of small operations in transformers, each of which
reads and writes a whole activation. On a GPU they take a fifth of a step.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from transformers import PreTrainedModel

#: Architectures for which liger-kernel has all three.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def kernels_available(model: PreTrainedModel, device: str) -> bool:
    """Whether fused kernels can be used: a GPU, liger-kernel installed, a model it knows."""
    found = importlib.util.find_spec("liger_kernel") is not None
    gated = getattr(model.config, "hidden_act", None) in ("silu", "swish")
    return device == "cuda" and found and gated and model.config.model_type in FAMILIES


def use_kernels(model: PreTrainedModel) -> None:
    """Replace RMSNorm, rotary embedding and SwiGLU by fused kernels, before any adapter is added.

    The loss stays ours: `diablo.training.loss` never forms the logits that liger-kernel's would save.

    Raises:
        ValueError: the model's architecture is not one of :data:`FAMILIES`.
    """
    family = model.config.model_type
    if family not in FAMILIES:
        raise ValueError(
            f"no fused kernels for the architecture {family!r}; known: {', '.join(FAMILIES)}"
        )
    from liger_kernel.transformers import monkey_patch

    apply: Any = getattr(monkey_patch, f"apply_liger_kernel_to_{family}")
    apply(rope=True, rms_norm=True, swiglu=True, fused_linear_cross_entropy=False, model=model)
