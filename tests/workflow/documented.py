"""The code blocks of a page of docs/, applied to a copy of the repository as a reader would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from workspace import REPOSITORY

#: What a copy needs to plan, run and test itself.
PARTS = (
    "Snakefile",
    "config.yaml",
    "pyproject.toml",
    "benchmarks",
    "diablo",
    "workflow",
    "profiles",
    "report",
    "tests",
    "docs",
)

_PLACE = re.compile(r"# (\S+/\S+)(?:, after `(.+)`)?")


def copy_of_repository(folder: Path) -> Path:
    """The working tree's files in `folder`, without results."""
    folder.mkdir()
    for part in map(REPOSITORY.joinpath, PARTS):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, folder / part.name)
    return folder


def blocks(page: str) -> list[str]:
    """The Python and YAML blocks of a page."""
    return re.findall(
        r"```(?:python|yaml)\n(.*?)```", (REPOSITORY / "docs" / page).read_text(), re.DOTALL
    )


def apply(page: str, repository: Path) -> list[str]:
    """Write or insert every block that names its place; returns the others."""
    others = []
    for block in blocks(page):
        place, _, body = block.partition("\n")
        match = _PLACE.fullmatch(place)
        if match is None:
            others.append(block)
        elif match[2] is None:
            assert not (repository / match[1]).exists(), f"{page}: {match[1]} is there already"
            (repository / match[1]).write_text(body)
        else:
            lines = (repository / match[1]).read_text().splitlines(keepends=True)
            assert lines.count(match[2] + "\n") == 1, (
                f"{page}: {match[1]} has not one line {match[2]!r}"
            )
            lines.insert(lines.index(match[2] + "\n") + 1, body)
            (repository / match[1]).write_text("".join(lines))
    return others
