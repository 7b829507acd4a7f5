"""Faster starts: packages that a job has no use for are not imported.

transformers imports scikit-learn for assisted decoding alone and PEFT imports bitsandbytes wherever the two are
installed: together nearly half of the seconds that a job takes to start, some hundreds of times in a table.
"""

from __future__ import annotations

import sys

#: For generation with an assistant model; for 4-bit base models.
ASSISTED, PACKED = "sklearn", "bitsandbytes"


def leave_out(*packages: str) -> None:
    """Make packages look as if they were not installed, for this process; those already imported stay.

    Both libraries ask `importlib.util.find_spec` first, which finds nothing where `sys.modules` has None.
    """
    for package in packages:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]


def leave_out_unused(quantized: str | None) -> None:
    """Before a job that fine-tunes or runs a model: leave out what this model's base has no use for.

    Args:
        quantized: name of the run's quantised base model, None for one in floating point.
    """
    leave_out(ASSISTED, *([] if quantized else [PACKED]))
