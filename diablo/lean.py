"""Faster starts: packages that a job has no use for are not imported.

transformers imports scikit-learn for assisted decoding alone and PEFT imports bitsandbytes wherever the two are
installed: together nearly half of the seconds that a job takes to start, some hundreds of times in a table.
"""

from __future__ import annotations

import sys


def leave_out_unused(quantized: str | None) -> None:
    """Before a job that fine-tunes or runs a model: make packages look as if they were not installed.

    Both libraries ask `importlib.util.find_spec` first, which finds nothing where `sys.modules` has None.
    What is already imported stays.

    Args:
        quantized: name of the run's quantised base model, None for one in floating point.
    """
    for package in ("sklearn", *([] if quantized else ["bitsandbytes"])):
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]
