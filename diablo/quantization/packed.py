"""Packed checkpoints: codes in 32-bit words, as transformers and vLLM load them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .quantisers import DTYPES, Quantised


def save_fake(model: Any, folder: Path) -> None:
    """Write the model with its grid values as ordinary weights."""
    model.save_pretrained(folder)


def save_packed(model: Any, quantised: dict[str, Quantised], spec: Any, folder: Path) -> None:
    """Write a `compressed-tensors` checkpoint ("pack-quantized"), or a bitsandbytes one for NF4.

    Args:
        model: its quantised modules hold the values that `quantised` describes.
        quantised: by module name; those on a grid have `scale` and `zero`.
    """
    if all("scale" in result.tensors for result in quantised.values()):
        _save_compressed(model, quantised, spec, folder)
    else:
        _save_bitsandbytes(model, quantised, spec, folder)


def _save_compressed(model: Any, quantised: dict[str, Quantised], spec: Any, folder: Path) -> None:
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.config import CompressionFormat
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        QuantizationStatus,
        QuantizationStrategy,
    )
    from huggingface_hub import save_torch_state_dict

    per_channel = spec.group_size is None
    strategy = QuantizationStrategy.CHANNEL if per_channel else QuantizationStrategy.GROUP
    arguments = QuantizationArgs(
        num_bits=spec.bits,
        symmetric=spec.symmetric,
        strategy=strategy,
        group_size=spec.group_size,
    )
    scheme = QuantizationScheme(
        targets=["Linear"], weights=arguments, format=CompressionFormat.pack_quantized.value
    )
    # A tied head is stored once, under the embedding's name, where all readers look for it.
    tied = model.all_tied_weights_keys
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    for name, result in quantised.items():
        packed = PackedQuantizationCompressor.compress(_local(result, spec), scheme)
        del state[f"{name}.weight"]
        state |= {f"{name}.{key}": tensor for key, tensor in packed.items()}
    linear = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        format=CompressionFormat.pack_quantized.value,
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=[name for name in linear if name not in quantised],
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(state, folder, metadata={"format": "pt"})
    model.config.quantization_config = config.model_dump(mode="json")
    model.config.save_pretrained(folder)
    del model.config.quantization_config
    model.generation_config.save_pretrained(folder)


def _local(result: Quantised, spec: Any) -> dict[str, torch.Tensor]:
    """A module's tensors as the compressor reads them: zero points around 0, not from it."""
    tensors, middle = result.tensors, 2 ** (spec.bits - 1)
    return {
        "weight": tensors["weight"],
        "weight_scale": tensors["scale"].to(DTYPES[spec.precision]),
        "weight_zero_point": (tensors["zero"] - middle).to(torch.int8),
    }


def _save_bitsandbytes(
    model: Any, quantised: dict[str, Quantised], spec: Any, folder: Path
) -> None:
    """Quantise the model by bitsandbytes as it loads one: NF4 values are rounded to themselves."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = DTYPES[spec.precision]
    keep = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=False,
        llm_int8_skip_modules=[name for name in keep if name not in quantised],
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as plain:
        model.save_pretrained(plain)
        packed = AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=config, dtype=dtype
        )
    packed.config._name_or_path = ""
    packed.save_pretrained(folder)
