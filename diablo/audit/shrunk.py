"""DiaBlo's size where N does not divide the widths, as the released code has it: N is made smaller.

The paper keeps N and pads (`diablo.shapes.diablo_parameters`); wherever N divides both widths they agree.
"""

from __future__ import annotations

from math import ceil

from diablo.shapes import Width


def shrunk_blocks(width: Width, num_blocks: int) -> int:
    """N of the released code: the edges of a block rounded up, and as many blocks as cover both widths."""
    return max(ceil(m / ceil(m / num_blocks)) for m in width)


def shrunk_parameters(widths: list[Width], num_blocks: int) -> int:
    """DiaBlo's parameters with the released code's N."""
    return sum(
        shrunk_blocks((m1, m2), num_blocks) * ceil(m1 / num_blocks) * ceil(m2 / num_blocks)
        for m1, m2 in widths
    )
