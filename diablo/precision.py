"""Which CPUs compute in bfloat16. Nothing here imports torch unless /proc/cpuinfo is missing."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

#: Flags of /proc/cpuinfo: x86's, and Arm's (`bf16`).
FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
#: The same in `torch.cpu.get_capabilities()`, where there is no /proc/cpuinfo.
CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")

CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def native_bf16() -> bool:
    """Whether this machine's CPU multiplies in bfloat16; others convert each number, slowly."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        import torch

        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(bool(capabilities.get(name)) for name in CAPABILITIES)
    flags = (line.partition(":") for line in lines)
    return any(
        name.strip() in ("flags", "Features") and not FLAGS.isdisjoint(value.split())
        for name, _, value in flags
    )


def check_bf16(run: str, precision: str, device: str) -> None:
    """Refuse a run in bfloat16 on a CPU without it.

    Args:
        run: name of the run, for the message.
        precision: of RunSpec: "bf16" and "bf16-pure" are checked.
        device: "cpu" or "cuda"; only "cpu" is checked.

    Raises:
        ValueError: says what to set.
    """
    if device == "cpu" and precision in ("bf16", "bf16-pure") and not native_bf16():
        raise ValueError(
            f"run {run}: precision {precision!r}: this CPU has no bfloat16 arithmetic (none of "
            f"{', '.join(sorted(FLAGS))} in {CPUINFO}) and would convert every number; set "
            "`precision: fp32` in the scale file's settings, or use a GPU"
        )
