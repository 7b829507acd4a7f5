"""The pages say what is there: links lead somewhere, and quoted messages are the code's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import snakemake
from workspace import REPOSITORY

from diablo.cli import parser

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "results/reference/README.md",
    *(REPOSITORY / "docs").glob("*.md"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page: Path) -> None:
    """Headings of other pages are checked by `make docs`."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [
        link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link
    ]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_commands_are_there() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    code = "\n".join(re.findall(r"```\n.*?```|`[^`\n]+`", text, re.DOTALL))
    (verbs,) = (action.choices for action in parser()._subparsers._group_actions)
    asked = set(re.findall(r"(?:^|[`;])\s*diablo ([a-z][a-z-]+)", code, re.MULTILINE))
    assert len(asked) > 5
    assert asked <= set(verbs)
    targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    asked = set(re.findall(r"(?:^|[`;])\s*make ([a-z][a-z0-9-]+)", code, re.MULTILINE))
    assert len(asked) > 5
    assert asked <= set(targets)


def test_messages_of_the_troubleshooting_page_are_printed_by_something() -> None:
    headings = re.findall(
        r"^### (.*)$", (REPOSITORY / "docs/troubleshooting.md").read_text(), re.MULTILINE
    )
    messages = [text for heading in headings for text in re.findall("`(.+?)`", heading)]
    assert len(messages) > 20
    own = [*(REPOSITORY / "diablo").rglob("*.py"), REPOSITORY / "envs/setup.sh"]
    theirs = Path(snakemake.__file__).parent.rglob("*.py")
    # Literals that stand beside each other are one, as Python has it.
    source = re.sub(
        r'"\s*(#[^\n]*)?\n\s*f?"', "", "\n".join(path.read_text() for path in [*own, *theirs])
    )
    source += "out of memory"  # torch's
    assert [text for text in messages if text not in source] == []


def test_places_of_the_map_are_there() -> None:
    text = (REPOSITORY / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    places = [name for row in rows for name in re.findall("`([^`]+)`", row)]
    assert len(places) > 25
    assert [name for name in places if not (REPOSITORY / name).exists()] == []
