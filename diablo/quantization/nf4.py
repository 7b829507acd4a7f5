"""NF4 (Dettmers et al., 2023, arXiv:2305.14314): sixteen quantiles of a normal distribution, by bitsandbytes."""

from __future__ import annotations

import torch

#: Consecutive weights that share a scale (their largest absolute value).
BLOCK = 64


def nf4(weight: torch.Tensor) -> torch.Tensor:
    """`weight` rounded to NF4 and back, in its own dtype; absolute maxima are kept in float32."""
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=False
    )
    return functional.dequantize_4bit(codes, state)
