"""The PEFT method: config, layer and model. Importing this package imports torch and PEFT."""

# First of all, on purpose: `import diablo` may have asked to be called back once PEFT is loaded, and
# that call imports the modules below, so PEFT must not be loaded from halfway through one of them.
import peft  # noqa: F401  (isort: keep first)

from .adapters import DiabloLayer
from .config import DiabloConfig
from .layer import DiabloLinear
from .model import DiabloModel
from .register import register

__all__ = ["DiabloConfig", "DiabloLayer", "DiabloLinear", "DiabloModel", "register"]

register()
