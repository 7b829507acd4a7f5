"""What every page must be: well-formed, whole, and without anything to fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = frozenset(("meta", "br", "img", "input", "hr", "col"))
FETCHING = ("src", "srcset", "poster", "action", "data")


class Page(HTMLParser):
    """All tags, texts and ids of a page; elements that are not closed fail at once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, attributes)
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check(html: str, files: bool = False) -> Page:
    """Fail on anything that a page must not have; `files`: it may name files beside it."""
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in FETCHING:
            address = attributes.get(name, "data:")
            assert address.startswith("data:") or (files and ":" not in address), (tag, name)
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set(attributes.get(name, "").split()) <= set(ids), attributes
    for anchor in page.every("a"):
        address = anchor["href"]
        assert address[1:] in ids if address.startswith("#") else files, address
    assert not page.every("link")
    assert not re.search(r"@import|url\((?!data:)", html)
    for image in page.every("img"):
        assert image["alt"].strip()
    for head in page.every("th"):
        assert head["scope"] in ("col", "row", "colgroup", "rowgroup")
    return page
