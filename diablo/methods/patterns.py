"""Random patterns (section 4.6): as many entries as DiaBlo's blocks have, elsewhere in the weights.

| method | what trains of W in Y = X W | of a torch weight |
|---|---|---|
| `random-entries` | single entries | the same |
| `random-blocks` | N blocks of DiaBlo's shape in the N × N grid | the same |
| `random-inputs` | whole rows: all weights of some inputs | whole columns |
| `random-outputs` | whole columns: all weights of some outputs | whole rows |

The paper does not say in which of the two orientations its random rows and columns are. Where a pattern
lies follows from the run's seed and each module's name; the adapter keeps it in its file. They are trained
by the same layer as DiaBlo's blocks (`diablo.tuner`), and their gradient alone is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.tuner import DiabloConfig

from . import RANDOM
from .adapters import load, save, wrap

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from . import Gradients

__all__ = ["load", "prepare", "save"]


def prepare(
    model: PreTrainedModel,
    spec: Any,
    work_folder: Path | None = None,
    gradients: Gradients | None = None,
) -> PeftModel:
    """Let a random part of each targeted layer train, of the size of `spec.num_blocks` diagonal blocks."""
    config = DiabloConfig(
        pattern=RANDOM[spec.method],
        pattern_seed=spec.seed,
        num_blocks=spec.num_blocks,
        dropout=spec.dropout,
        target_modules=list(spec.modules),
        task_type="CAUSAL_LM",
    )
    return wrap(model, config, spec)
