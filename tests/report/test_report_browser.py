"""A real browser opens the report: on a desktop, a phone and in the dark, with the keyboard, offline.

Needs Chromium; skipped by name without it. DIABLO_REPORT may name another page to open instead.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from chromium_pipe import Page

from diablo.report import render_report

pytestmark = pytest.mark.system

#: How many images there are, and how many of them did not load.
IMAGES = "[document.images.length, [...document.images].filter((one) => !one.naturalWidth).length]"
#: What is wider than the window without a box to scroll in.
WIDE = """[...document.body.querySelectorAll("*")].filter((one) => !one.closest(".scroll, .skip")
    && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
FOCUS = """(() => { const one = document.activeElement, style = getComputedStyle(one);
    return {main: !!one.closest("main"), skip: one.className === "skip", outline: style.outlineStyle}; })()"""


@pytest.fixture(scope="module")
def report(full: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("DIABLO_REPORT"):
        return Path(given)
    return render_report(full, tmp_path_factory.mktemp("page") / "index.html")


def test_errors_and_requests_would_be_seen(tab: Page, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img src="http://images.invalid/a.png"><script>x()</script>')
    tab.open(page)
    assert any("images.invalid" in url for url in tab.requests)
    assert any("x is not defined" in error for error in tab.errors)


def test_it_opens_without_errors_requests_or_missing_images(tab: Page, report: Path) -> None:
    tab.open(report)
    assert [url for url in tab.requests if not url.startswith("data:")] == [report.as_uri()]
    count, broken = tab.value(IMAGES)
    assert count > 0
    assert broken == 0
    assert tab.errors == []


def test_a_phone_never_scrolls_sideways(tab: Page, report: Path) -> None:
    tab.open(report, width=320, height=640)
    tab.value('document.querySelectorAll("details").forEach((one) => (one.open = true))')
    assert tab.value("document.documentElement.scrollWidth <= innerWidth"), tab.value(WIDE)
    assert tab.value(WIDE) == []


def test_the_keyboard_reaches_the_content(tab: Page, report: Path) -> None:
    tab.open(report)
    tab.press_tab()
    assert tab.value(FOCUS)["skip"]
    links = tab.value('document.querySelectorAll("nav a, nav summary").length')
    for _ in range(links + 1):
        tab.press_tab()
    assert tab.value(FOCUS) == {"main": True, "skip": False, "outline": "solid"}


def test_dark_and_light_differ_and_are_legible(tab: Page, report: Path) -> None:
    shots, colours = [], []
    for dark in (False, True):
        tab.open(report, dark=dark)
        shots.append(tab.screenshot())
        colours.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert shots[0] != shots[1]
    assert colours == ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]


def test_a_link_to_a_run_opens_its_details(tab: Page, report: Path) -> None:
    tab.open(report)
    tab.value("document.querySelector('main a[href^=\"#run-\"]').click()")
    tab.value("new Promise((done) => setTimeout(done, 200))")
    assert tab.value("document.querySelector(location.hash.replaceAll('.', '\\\\.')).open")


def test_runs_are_filtered(tab: Page, report: Path) -> None:
    tab.open(report)
    shown = "[...document.querySelectorAll('details.run')].filter((one) => !one.hidden).length"
    before = tab.value(shown)
    tab.value("document.querySelector('#filter input').value = 'zzz'")
    tab.value("document.querySelector('#filter input').dispatchEvent(new Event('input'))")
    assert tab.value(shown) == 0 < before


def test_the_archive_opens_from_its_folder(tab: Page, full: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(render_report(full, tmp_path / "a.html", as_zip=True)) as archive:
        archive.extractall(tmp_path)
    tab.open(tmp_path / "report" / "index.html")
    count, broken = tab.value(IMAGES)
    assert (count, broken) == (2, 0)
    assert tab.errors == []
