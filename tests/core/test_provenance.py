"""provenance.json says from what, by what, and at what cost."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from diablo.provenance import Provenance


def test_provenance_has_inputs_code_versions_and_cost(tmp_path: Path) -> None:
    source = tmp_path / "input.txt"
    source.write_text("abc")
    provenance = Provenance("finetune", [source], seed=3)
    provenance.add(steps=7)
    provenance.write(tmp_path / "provenance.json")
    facts = json.loads((tmp_path / "provenance.json").read_text())
    assert facts["inputs"] == {str(source): hashlib.sha256(b"abc").hexdigest()}
    assert (facts["verb"], facts["seed"], facts["steps"]) == ("finetune", 3, 7)
    assert facts["code"].get("commit") or facts["code"]["version"]
    assert facts["packages"]["pandas"]
    assert facts["wall_seconds"] >= 0
    assert facts["peak_memory_bytes"] > 1e6


def test_the_cost_is_that_of_child_processes_too() -> None:
    child = "b'x' * 300_000_000; sum(range(10_000_000))"
    code = f"""
import json, subprocess, sys
from diablo.provenance import Provenance
job = Provenance("score")
before = job.finish()
subprocess.run([sys.executable, "-c", {child!r}], check=True)
print(json.dumps([before, job.finish()]))
"""
    # A process begins with the peak memory of the one that started it: with that of a small shell.
    command = ["sh", "-c", '"$0" -c "$1"; :', sys.executable, code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, after = json.loads(done.stdout)
    assert before["peak_memory_bytes"] < 250_000_000 < 300_000_000 < after["peak_memory_bytes"]
    # Of this process the clock starts with the job, so that its imports are not part of it.
    assert before["cpu_seconds"] < after["cpu_seconds"] - 0.05


def test_a_missing_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        Provenance("score", [tmp_path / "absent.txt"])
