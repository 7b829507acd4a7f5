"""DiaBlo: fine-tuning the diagonal blocks of a model's weight matrices.

``import diablo`` makes the method known to PEFT without importing torch or PEFT itself (the workflow
imports ``diablo`` while it plans, where a second of import time counts): if PEFT is already loaded
the method is registered at once, otherwise right after PEFT has been imported by whoever needs it.
So ``PeftModel.from_pretrained(base, "adapter")`` works in either import order.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

# Names served from diablo.tuner on first use (PEP 562), so that this file stays free of torch.
_TUNER_NAMES = ("DiabloConfig", "DiabloLayer", "DiabloLinear", "DiabloModel", "register")

__all__ = ["__version__", *_TUNER_NAMES]


def __getattr__(name: str) -> Any:
    if name in _TUNER_NAMES:
        return getattr(importlib.import_module("diablo.tuner"), name)
    raise AttributeError(f"module 'diablo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_TUNER_NAMES))


def _register() -> None:
    importlib.import_module("diablo.tuner.register").register()


class _RegisterAfterPeft:
    """A meta-path finder whose only effect is to call ``_register`` once PEFT has been imported.

    It finds nothing by itself: it asks the finders behind it for PEFT's spec and wraps the loader's
    ``exec_module``. It leaves ``sys.meta_path`` when PEFT is executed, not when it is looked up,
    because transformers looks PEFT up (``importlib.util.find_spec``) without importing it.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "peft":
            return None
        others = [f for f in sys.meta_path if f is not self and hasattr(f, "find_spec")]
        spec = next((s for f in others if (s := f.find_spec(name, path, target))), None)
        if spec is None or spec.loader is None:
            return spec  # PEFT is not installed: the import fails as it would without us
        exec_module = spec.loader.exec_module

        def exec_and_register(module: ModuleType) -> None:
            exec_module(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _register()

        spec.loader.exec_module = exec_and_register  # type: ignore[method-assign]
        return spec


if "peft" in sys.modules:
    _register()
elif not any(type(finder).__name__ == "_RegisterAfterPeft" for finder in sys.meta_path):
    sys.meta_path.insert(0, _RegisterAfterPeft())  # type: ignore[arg-type]
