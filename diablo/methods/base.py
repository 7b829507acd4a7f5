"""Base models from their folders: floating-point ones, and quantised ones whose weights are packed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_base(
    model_path: str, device: str, dtype: torch.dtype, dequantise: bool = False
) -> PreTrainedModel:
    """The language model in a folder, causal or encoder-decoder, on its device.

    Args:
        dtype: of the weights; of the arithmetic where they are packed. T5 keeps its `wo` in float32 where
            the others are float16, in which they overflow.
        dequantise: packed weights become floating-point ones of `dtype`, into which can be merged; those
            of compressed-tensors always do, as transformers has no arithmetic on them.

    Raises:
        ValueError: if there is no such folder.
    """
    if not Path(model_path).is_dir():
        raise ValueError(
            f"model folder {model_path!r} does not exist; build it with `diablo download --model`, or "
            "with `diablo quantize` if it is a quantised one"
        )
    model: Any = auto_class(model_path).from_pretrained(model_path, dtype=dtype)
    set_compute_dtype(model, dtype)
    # transformers decompresses these at the first forward pass anyway, for good.
    if dequantise or packing(model) == "compressed-tensors":
        model = dequantised(model, dtype)
    return model.to(device)


def is_encoder_decoder(model: torch.nn.Module | str) -> bool:
    """Whether a model, or the one in a folder, has an encoder for its prompts (T5, say)."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model) if isinstance(model, str) else model.config
    return bool(getattr(config, "is_encoder_decoder", False))


def auto_class(model_path: str) -> Any:
    """transformers' auto class for the model in a folder."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if is_encoder_decoder(model_path) else AutoModelForCausalLM


def packing(model: torch.nn.Module) -> str | None:
    """How the weights of a model are packed, such as `bitsandbytes`; None for floating-point ones."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None:
        return None
    method = quantizer.quantization_config.quant_method
    return str(getattr(method, "value", method))


def set_compute_dtype(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Let bitsandbytes' layers compute in `dtype`, whatever they were saved with."""
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            vars(module)["compute_dtype"] = dtype


def dequantised(model: Any, dtype: torch.dtype) -> Any:
    """`model` with floating-point weights of `dtype` in place of packed ones; others stay as they are.

    What comes back is a plain model: it can be merged into, moved and saved. Its config records the type
    that the weights were dequantised to (`diablo_dequantised_to`), as merging rounds to it.
    """
    if packing(model) is None:
        return model
    if packing(model) == "compressed-tensors":
        model.hf_quantizer.compressor.decompress_model(model=model)
        _forget_scales(model)
        model.to(dtype)
    else:
        model = model.dequantize(dtype=dtype)
    # What is left of the quantisation would be written into the config of a saved model, or undone.
    for name in ("hf_quantizer", "quantization_method", "_weight_conversions"):
        if hasattr(model, name):
            delattr(model, name)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)
    model.is_quantized = False
    model.config.diablo_dequantised_to = str(dtype).removeprefix("torch.")
    return model


def targeted_layers(model: torch.nn.Module, modules: Sequence[str]) -> dict[str, torch.nn.Linear]:
    """The linear layers that `modules` name, as PEFT matches names, in the model's order."""
    from torch.nn import Linear

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear) and f".{name}".endswith(tuple(f".{m}" for m in modules))
    }


def _forget_scales(model: torch.nn.Module) -> None:
    """Drop what compressed-tensors leaves beside the weights that it unpacked: scales, zero points."""
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            for name in [*module._parameters, *module._buffers]:
                if name not in ("weight", "bias"):
                    delattr(module, name)
            for name in ("quantization_scheme", "quantization_status"):
                vars(module).pop(name, None)
