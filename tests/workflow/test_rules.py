"""What every rule's command line must have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from workspace import Workspace

RULES = Path(__file__).parents[2] / "workflow" / "rules"


def test_a_further_attempt_has_more_memory():
    """The clusters' profiles retry what ran out of memory, which works with more of it alone."""
    asked = [
        (path.name, request)
        for path in RULES.glob("*.smk")
        for request in re.findall(r"^ +mem_mb=(\w+)", path.read_text(), re.MULTILINE)
    ]
    assert len(asked) > 15
    assert {request for _, request in asked} == {"growing", "mem_of"}, asked


@pytest.mark.parametrize("verb", ["finetune", "generate", "check-serving", "ranks"])
def test_rules_that_use_torch_keep_to_their_threads(verb):
    """Otherwise each of several jobs side by side takes all cores."""
    rules = [
        rule for path in RULES.glob("*.smk") for rule in re.split(r"\nrule ", path.read_text())[1:]
    ]
    (rule,) = [rule for rule in rules if f"{{DIABLO}} {verb} " in rule]
    assert re.search(r"^    threads: \d+$", rule, re.MULTILINE)
    assert "--threads {threads}" in rule


@pytest.mark.slow
@pytest.mark.parametrize(("device", "hidden"), [("cpu", True), ("gpu", False)])
def test_what_is_planned_for_a_cpu_sees_no_gpu(workspace: Workspace, device: str, hidden: bool):
    """Jobs lease none then, so they would share one that they see."""
    plan = workspace.run("-n", "-p", "theorems", "--cores", "1", "--config", f"device={device}")
    (command,) = [line for line in plan.stdout.splitlines() if " -m diablo theorems " in line]
    assert ("CUDA_VISIBLE_DEVICES= PYTHONPATH=" in command) == hidden
