"""Jobs on floating-point models import neither scikit-learn nor bitsandbytes; others keep the latter."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from diablo.lean import leave_out_unused
leave_out_unused({quantized!r})
import peft.import_utils
from transformers.utils import is_sklearn_available
print(is_sklearn_available(), peft.import_utils.is_bnb_available(), "sklearn.metrics" in sys.modules)
"""


@pytest.mark.parametrize(("quantized", "packed"), [(None, False), ("smollm2-135m.nf4", True)])
@pytest.mark.slow
def test_what_is_left_out(quantized, packed):
    pytest.importorskip("bitsandbytes")
    code = CODE.format(quantized=quantized)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(packed), "False"]
