"""Registration with PEFT, in every import order, each in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peft import get_peft_model
from tuner_cases import ALL, llama

from diablo import DiabloConfig
from diablo.tuner import register as registration

ROOT = Path(__file__).parents[2]

LOAD = """
import sys, torch
from peft import PeftModel, PeftConfig
model = PeftModel.from_pretrained(torch.load(sys.argv[1] + "/base.pt", weights_only=False), sys.argv[1])
config = PeftConfig.from_pretrained(sys.argv[1])
assert type(config).__module__ == "diablo.tuner.config", type(config)
assert type(model.base_model).__name__ == "DiabloModel"
import diablo
assert isinstance(config, diablo.DiabloConfig)
assert not any(type(f).__module__ == "diablo" for f in sys.meta_path)
"""

ORDERS = {
    "peft-first": "import peft, diablo\n" + LOAD,
    "name-first": "from diablo import DiabloConfig\n" + LOAD,
    # transformers and others ask whether PEFT is there without importing it
    "diablo-first-then-a-look": (
        "import diablo, importlib.util\nassert importlib.util.find_spec('peft')\n"
        "import transformers\n" + LOAD
    ),
}


def run(code, *args, flags=()):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *flags, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    import torch

    folder = tmp_path_factory.mktemp("adapter")
    torch.save(llama(), folder / "base.pt")
    config = DiabloConfig(num_blocks=4, target_modules=ALL)
    get_peft_model(llama(), config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_every_import_order(order, adapter):
    run(ORDERS[order], adapter)


def test_importing_diablo_imports_neither_torch_nor_peft():
    run(
        "import sys, diablo\n"
        "assert diablo.__version__ and 'DiabloConfig' in dir(diablo)\n"
        "assert not {'torch', 'peft', 'transformers', 'numpy'} & set(sys.modules), 'heavy import'\n"
        "try: diablo.absent\n"
        "except AttributeError as e: assert 'absent' in str(e)\n"
        "else: raise AssertionError\n"
    )


def test_peft_missing_is_the_usual_error():
    run(
        "import diablo\n"
        "try: import peft\n"
        "except ModuleNotFoundError as e: assert e.name == 'peft'\n"
        "else: raise AssertionError\n",
        flags=["-S"],  # no site-packages
    )


def test_register_is_idempotent():
    registration()
    registration()


def test_a_changed_peft_fails_with_its_version(monkeypatch):
    import enum

    import peft
    from peft.utils import peft_types

    from diablo.tuner.register import extend_peft_type

    class Changed(enum.IntEnum):
        LORA = 1

    monkeypatch.setattr(peft_types, "PeftType", Changed)
    with pytest.raises(RuntimeError, match=rf"peft {peft.__version__}: PeftType is no longer"):
        extend_peft_type()
    monkeypatch.delattr(peft_types, "PeftType")
    with pytest.raises(RuntimeError, match="PeftType is gone"):
        extend_peft_type()
