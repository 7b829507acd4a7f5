"""What an experiment costs before it is run: runs, GPU-hours, disk, download. No torch.

`facts` (cards and assumptions, as data), `sizes` (examples and tokens), `flops` and `memory` (formulas),
`cards` (several GPUs for a run), `rates` (what the benchmark files say), `jobs` (every job's cost), `fits` (what a
card cannot hold, and what would help), `run` (the totals), `render` (the text).
"""

from .run import estimate

__all__ = ["estimate"]
