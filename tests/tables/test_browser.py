"""A real browser opens the HTML: it shows the table and asks the network for nothing.

Needs Chromium; skipped by name without it. DIABLO_HTML may name more pages to open, separated
by `:`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.system

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Hosts that Chromium calls by itself, whatever page is open.
BROWSERS_OWN = ("google.com", "googleapis.com", "gvt1.com", "gstatic.com")


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("chromium is not installed")


def strings(value: object) -> list[str]:
    """All strings under a key `url` in a JSON value."""
    if isinstance(value, dict):
        own = [value["url"]] if isinstance(value.get("url"), str) else []
        return own + [text for one in value.values() for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return []


def open_page(chromium: str, page: Path, folder: Path) -> tuple[str, set[str]]:
    """The page's DOM after loading, and the hosts it asked for; no name is ever resolved."""
    log = folder / "net.json"
    command = [
        chromium,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--log-net-log={log}",
        "--dump-dom",
        page.resolve().as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    hosts = {urlsplit(url).hostname or "" for url in strings(json.loads(log.read_text()))}
    own = {host for host in hosts if host.endswith(BROWSERS_OWN)}
    return done.stdout, hosts - own - {""}


def test_requests_would_be_seen(chromium: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><img src="http://images.invalid/a.png">')
    _, hosts = open_page(chromium, page, tmp_path)
    assert hosts == {"images.invalid"}


def test_table_opens_without_requests(chromium: str, outputs: Path, tmp_path: Path) -> None:
    dom, hosts = open_page(chromium, outputs / "tables" / "toy.html", tmp_path)
    assert hosts == set()
    assert "Small-1M stands in for Big0" in dom
    assert "not run: not implemented yet" in dom


def test_svg_opens_without_requests(chromium: str, outputs: Path, tmp_path: Path) -> None:
    dom, hosts = open_page(chromium, outputs / "figures" / "toy.svg", tmp_path)
    assert hosts == set()
    assert "LoRA r=32" in dom


@pytest.mark.parametrize("page", filter(None, os.environ.get("DIABLO_HTML", "").split(":")))
def test_given_pages_open_without_requests(chromium: str, page: str, tmp_path: Path) -> None:
    dom, hosts = open_page(chromium, Path(page), tmp_path)
    assert hosts == set()
    assert "</html>" in dom
