"""The pages' site: built without a warning, and opened by a real browser without a network.

Needs Chromium and the site's own environment (`make docs`); skipped by name without one of them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from chromium_pipe import Page

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("index", "tutorial", "api")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    sphinx = REPOSITORY / ".docs-venv" / "bin" / "sphinx-build"
    if not sphinx.is_file():
        pytest.skip("Sphinx is not installed: run `make docs`")
    out = tmp_path_factory.mktemp("site")
    command = [sphinx, "-W", "--keep-going", "-q", "-d", out / "doctrees", REPOSITORY / "docs", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_without_errors_and_ask_for_nothing_outside(
    tab: Page, site: Path, name: str
) -> None:
    tab.open(site / f"{name}.html")
    outside = [url for url in tab.requests if not url.startswith(("data:", site.as_uri()))]
    assert (outside, tab.errors) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_never_scrolls_sideways(tab: Page, site: Path, name: str) -> None:
    tab.open(site / f"{name}.html", width=360, height=640)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")


def test_the_search_finds_a_page(tab: Page, site: Path) -> None:
    tab.open(site / "search.html")
    tab.value("Search.performSearch('McNemar')")
    found = "[...document.querySelectorAll('#search-results a')].map((one) => one.pathname)"
    assert any(path.endswith("decisions.html") for path in tab.value(found))


def test_every_page_is_in_the_site(site: Path) -> None:
    contents = re.findall(
        r'class="reference internal" href="([\w-]+)\.html"', (site / "index.html").read_text()
    )
    written = {page.stem for page in (REPOSITORY / "docs").glob("*.md")} - {"index"}
    assert written <= set(contents)
