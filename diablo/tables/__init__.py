"""Tables and figures: from a plan and the scores of its runs to numbers a reader can judge.

`aggregate` is what the verb of that name calls; `load_table` gives the same table as data.
Submodules are imported on first use, so that `import diablo.tables` costs nothing while the
workflow is only planned.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["aggregate", "load_table"]

_HOMES = {"aggregate": "diablo.tables.build", "load_table": "diablo.tables.collect"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
