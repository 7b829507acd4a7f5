"""What a change reruns: Snakemake's plan after an edit of a copy of the checkout, with everything built.

Nothing is trained: outputs are empty files that `--touch` declares to be what the rules made.
"""

from __future__ import annotations

import re
import shutil

import pytest
from workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.slow

SETTINGS = (
    "limits={train: 24, test_per_task: 2, steps: 6}",
    "filters={only: [zero-shot, diablo-n64], skip: []}",
)

#: Rules from the training on, for the two runs of the table.
SCORE = {"score_suite": 2, "aggregate_table1": 1}
GENERATE = {"generate_suite": 2, **SCORE}
LOSS = {"measure_loss": 2, "aggregate_table1": 1}
TRAIN = {"finetune_run": 2, **GENERATE, **LOSS}
TABLE = {"aggregate_table1": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of what the workflow is made of, and a folder where all of Table 1 is up to date."""
    copy, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for name in ("diablo", "workflow", "report", "profiles", "benchmarks"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copy(REPOSITORY / "config.yaml", folder)
    workspace = Workspace(folder, copy)
    told = workspace.run("--summary", "table1", "--cores", "1", "--config", *SETTINGS).stdout
    outputs = [line.split("\t")[0] for line in told.splitlines()[1:] if "\t" in line]
    assert len(outputs) > 20
    # Jobs that the touch finds up to date keep no record of their parameters: none may be there yet.
    (folder / "results").mkdir(exist_ok=True)
    for output in outputs:
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).touch()
    workspace.run("--touch", "--forceall", "table1", "--cores", "1", "--config", *SETTINGS)
    assert planned(workspace) == {}
    return workspace


def planned(workspace: Workspace, *settings: str) -> dict[str, int]:
    """How many jobs of each rule would run (less the target's own, which does nothing)."""
    done = workspace.run("-n", "table1", "--cores", "1", "--config", *(settings or SETTINGS))
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    return {rule: int(n) for rule, n in jobs.items() if rule not in ("table1", "total")}


def plan_after(workspace: Workspace, file: str, old: str, new: str) -> dict[str, int]:
    """The plan with `old` replaced by `new` in a file of the copy, which is put back afterwards."""
    path = workspace.repository / file
    before = path.read_text()
    assert old in before, f"{file}: {old!r} is not there any more; the test needs another example"
    path.write_text(before.replace(old, new, 1))
    try:
        return planned(workspace)
    finally:
        path.write_text(before)


ONE = {
    "resolve_run": 1,
    "finetune_run": 1,
    "generate_suite": 1,
    "score_suite": 1,
    "measure_loss": 1,
    "resolve_plan": 1,
    "aggregate_table1": 1,
}
PROTOCOL = "diablo/data/protocols/commonsense.yaml"
CHANGES = {
    "a hyper-parameter": (
        "workflow/scales/demo.yaml",
        "  diablo: {lr: 2.0e-3",
        "  diablo: {lr: 2.5e-3",
        ONE,
    ),
    # Zero-shot trains on nothing.
    "what is learnt": (
        PROTOCOL,
        'response: "{output}"',
        'response: "{output}."',
        {**TRAIN, "finetune_run": 1},
    ),
    "how an answer is read": (PROTOCOL, "after: null", "after: is", {**GENERATE, **LOSS}),
    # The demo scale has a decoding of its own; what is used stands in the suite's spec.
    "how the paper's scale decodes": (PROTOCOL, "max_new_tokens: 32", "max_new_tokens: 33", {}),
    "what a protocol says of itself": (
        PROTOCOL,
        "describe: the",
        "describe: The",
        {"resolve_plan": 1, **TABLE},
    ),
    "another suite's protocol": (
        "diablo/data/protocols/metamath.yaml",
        "mask_prompt: true",
        "mask_prompt: false",
        {},
    ),
    "the lock": (
        "workflow/rules/common.smk",
        "LOCK = (lock_version() or {})",
        "LOCK = dict(sha256='other')",
        TRAIN,
    ),
    "the training loop": (
        "diablo/training/trainer.py",
        "self._skips += 1",
        "self._skips += 2",
        TRAIN,
    ),
    "a comment in the loop": (
        "diablo/training/trainer.py",
        "self._skips += 1",
        "self._skips += 1  # one more",
        {},
    ),
    "a docstring in the loop": ("diablo/training/trainer.py", '"""', '"""In other words. ', {}),
    "another method": (
        "diablo/methods/lora_ga.py",
        "import torch\n",
        "import torch as other\n\nother.x = 1\n",
        {},
    ),
    "what only scoring uses": (
        "diablo/scoring/accuracy.py",
        'with_name("tasks")',
        'with_name("task")',
        SCORE,
    ),
    "the answer loss": ("diablo/scoring/answer_loss.py", '"cpu": 2048', '"cpu": 1024', LOSS),
    "a table's module": (
        "diablo/tables/render.py",
        'PackageLoader("diablo.tables")',
        'PackageLoader("diablo.table")',
        TABLE,
    ),
    "a colour": ("diablo/tables/figure.py", "color=SOFT", "color=EDGE", TABLE),
    "a template": ("diablo/tables/templates/table.css", "{", " {", TABLE),
    "a caption": ("report/captions/table.rst", "The paper's", "Of the paper", {}),
    "another data set's builder": (
        "diablo/data/glue.py",
        "import hashlib\n",
        "import json as hashlib\n",
        {},
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(built: Workspace, what: str) -> None:
    file, old, new, expected = CHANGES[what]
    assert plan_after(built, file, old, new) == expected


def test_a_builder_makes_its_data_again_and_then_all_that_is_made_of_them(built: Workspace) -> None:
    file = "diablo/data/standins.py"
    kept = plan_after(built, file, "def build(", "UNUSED = 1\n\n\ndef build(")
    assert kept == {}
    again = plan_after(
        built, file, "def build(dataset: Dataset, files:", "def build(dataset: Dataset, found:"
    )
    assert again == {"download_dataset": 1, "check_overlap": 1, **TRAIN, "finetune_run": 1}
