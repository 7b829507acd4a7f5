"""The Containerfile, the conda files and the locks: one set of pins, and every file that is named exists."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CONTAINER = (REPOSITORY / "Containerfile").read_text()


def locked(kind: str) -> dict[str, str]:
    lines = (REPOSITORY / "envs" / f"{kind}.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {pin.name: str(pin.specifier) for pin in pins}


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_conda_installs_the_lock_and_nothing_else(kind: str) -> None:
    path = REPOSITORY / "envs" / f"{kind}.yaml"
    declared = yaml.safe_load(path.read_text())
    *conda, last = declared["dependencies"]
    python = next(one for one in conda if one.startswith("python="))
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert {one.split("=")[0] for one in conda} == {"python", "pip", "git"}
    options = [line.split() for line in last["pip"]]
    assert {name for name, _ in options} <= {"--extra-index-url", "--requirement", "--editable"}
    (lock,) = [value for name, value in options if name == "--requirement"]
    assert (path.parent / lock).resolve() == REPOSITORY / "envs" / f"{kind}.txt"
    (editable,) = [value for name, value in options if name == "--editable"]
    assert (path.parent / editable).resolve() == REPOSITORY


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_lock_has_what_the_project_pins(kind: str) -> None:
    pins = locked(kind)
    extras = PROJECT["optional-dependencies"]
    for line in [
        *PROJECT["dependencies"],
        *(x for e in ("pipeline", kind, "test") for x in extras[e]),
    ]:
        wanted = Requirement(line)
        found = next(v for name, v in pins.items() if name.lower() == wanted.name.lower())
        assert found.removeprefix("==") in wanted.specifier, line


def test_the_container_copies_files_that_are_there_and_runs_as_a_user() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", CONTAINER, re.MULTILINE)
    for name in (name for line in copied for name in line.split()):
        assert (REPOSITORY / name).exists(), name
    assert re.search(r"bash envs/setup\.sh \$\{KIND\}", CONTAINER)
    assert (REPOSITORY / "envs" / f"{re.search(r'ARG KIND=(.+)', CONTAINER)[1]}.txt").is_file()
    user, entry = CONTAINER.index("\nUSER diablo"), CONTAINER.index("\nENTRYPOINT")
    assert user < CONTAINER.index("envs/setup.sh ${") < entry


def test_the_container_takes_all_that_git_knows_and_nothing_else() -> None:
    """What is left out of the image is what git ignores: provenance in it then says whether it is clean."""
    ignored = (REPOSITORY / ".containerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in ignored if not line.startswith(("#", "!"))]
    asked = [re.sub(r"\*", "x", pattern) for pattern in patterns]
    found = subprocess.run(
        ["git", "-C", REPOSITORY, "check-ignore", *(f"{name}/x" for name in asked)],
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {name.removesuffix("/x") for name in found} == set(asked)
