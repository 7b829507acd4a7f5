"""The workflow as a module of another Snakefile, through workflow/Snakefile, and what the catalog asks for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from workspace import REPOSITORY, Workspace

MODULE = """
configfile: "config.yaml"
module diablo:
    snakefile: {snakefile}
    config: config
    {more}
use rule * from diablo as diablo_*
"""


def module_workspace(folder: Path, snakefile: str, more: str = "") -> Workspace:
    """A folder with a Snakefile of its own that uses the workflow."""
    (folder / "config.yaml").write_text("scale: demo\nresults: mine\n")
    (folder / "Snakefile").write_text(MODULE.format(snakefile=snakefile, more=more))
    return Workspace(folder, repository=folder)


def jobs(output: str) -> dict[str, int]:
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


@pytest.mark.slow
def test_another_snakefile_plans_what_ours_plans(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    theirs = module_workspace(other, repr(str(REPOSITORY / "Snakefile")))
    planned = theirs.run("-n", "diablo_table1", "diablo_claims", "--cores", "1").stdout
    ours = jobs(workspace.run("-n", "table1", "claims", "--cores", "1").stdout)
    assert jobs(planned) == {
        rule if rule == "total" else f"diablo_{rule}": n for rule, n in ours.items()
    }
    assert ours["finetune_run"] > 5
    # Claims wait for the table that the same call builds, under its new name.
    claims = planned[planned.index("rule diablo_judge_claims:") :]
    assert "mine/demo/tables/table1.csv" in claims.split("output:")[0]
    assert "results/demo" not in planned


@pytest.mark.slow
def test_a_modules_jobs_run(tmp_path: Path) -> None:
    theirs = module_workspace(tmp_path, repr(str(REPOSITORY / "Snakefile")))
    theirs.run("diablo_figure1", "--cores", "1")
    assert (tmp_path / "mine" / "demo" / "figures" / "figure1.svg").stat().st_size > 500


@pytest.mark.slow
def test_what_a_module_cannot_have_is_refused(tmp_path: Path) -> None:
    theirs = module_workspace(tmp_path, repr(str(REPOSITORY / "Snakefile")), 'prefix: "sub"')
    done = theirs.run("-n", "diablo_table1", "--cores", "1", check=False)
    assert done.returncode != 0
    assert "set `results` in the module's config" in done.stdout + done.stderr


@pytest.mark.slow
def test_rules_without_the_code_beside_them_are_refused(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "Snakefile", tmp_path / "fetched.smk")
    shutil.copytree(REPOSITORY / "workflow", tmp_path / "workflow")
    theirs = module_workspace(tmp_path, '"fetched.smk"')
    done = theirs.run("-n", "diablo_table1", "--cores", "1", check=False)
    assert done.returncode != 0
    assert "clone the repository" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_catalogs_snakefile_makes_everything_by_default(workspace: Workspace) -> None:
    workspace.repository = REPOSITORY / "workflow"
    planned = jobs(workspace.run("-n", "--cores", "1").stdout)
    assert planned["everything"] == 1
    assert {"aggregate_table1", "aggregate_figure7", "judge_claims"} <= planned.keys()


def test_what_the_catalog_asks_for_is_there() -> None:
    settings = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())
    deployment = settings["usage"]["software-stack-deployment"]
    assert deployment.keys() == {"conda", "apptainer", "apptainer+conda", "report"}
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow/rules").glob("*.smk"))
    assert deployment["conda"] == bool(re.search(r"^\s+conda:", rules, re.MULTILINE))
    assert deployment["apptainer"] == bool(re.search(r"^\s+container:", rules, re.MULTILINE))
    config = REPOSITORY / "config"
    assert (config / "config.yaml").resolve() == REPOSITORY / "config.yaml"
    keys = yaml.safe_load((config / "config.yaml").read_text())
    named = re.findall(
        r"`(\w+)`",
        "".join(re.findall(r"^\| (`.*?) \|", (config / "README.md").read_text(), re.MULTILINE)),
    )
    assert len(named) > 5
    assert set(named) <= keys.keys()
