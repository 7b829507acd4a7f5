"""A table's own HTML page as a part of the report: the same numbers, never rendered a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

#: Elements without an end tag.
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)
#: What a table's page has no use for, and what could fetch or run something.
REFUSED = frozenset(
    ("script", "iframe", "object", "embed", "link", "form", "base", "audio", "video", "source")
)
#: Left out with all that is in them.
HEAD = frozenset(("style", "title"))
#: Left out, but for what is in them.
FRAME = frozenset(("html", "head", "body", "meta"))
#: Attributes that name other elements of the page.
REFERENCES = ("aria-labelledby", "aria-describedby", "headers", "for")
#: Levels by which headings move down: the report's own are h1, h2 and h3.
DEEPER = 2


@dataclass(frozen=True)
class Fragment:
    """What stands in a page's `main` element, without its title, for a place in the report."""

    heading: str
    html: str


def read_fragment(path: Path, anchors: Mapping[str, str]) -> Fragment:
    """Read a page that `diablo.tables` or `benchmarks.report` wrote.

    Ids become unique (they get the file's name in front), facts are folded, headings move down, tables
    scroll in boxes of their own, and the names of runs become links.

    Args:
        path: the page.
        anchors: name of a run -> id of its place in the report.

    Raises:
        ValueError: if the page is no well-formed HTML, or has a script or anything that is fetched; the
            message names the file.
    """
    parser = _Reader(path.stem, anchors)
    try:
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        if parser.open:
            raise ValueError(f"<{parser.open[-1]}> is never closed")
    except ValueError as error:
        raise ValueError(f"{path}: cannot be a part of the report: {error}") from None
    heading = unescape("".join(parser.heading)).strip()
    return Fragment(heading or path.stem, "".join(parser.found).strip())


class _Reader(HTMLParser):
    def __init__(self, prefix: str, anchors: Mapping[str, str]):
        super().__init__(convert_charrefs=False)
        self.prefix, self.anchors = prefix, anchors
        self.found: list[str] = []
        self.heading: list[str] = []
        self.open: list[str] = []
        #: The class of each open element, for what depends on where something stands.
        self.classes: list[str] = []
        #: What is written at the end of an element, by how many were open then.
        self.ends: dict[int, str] = {}
        #: Runs of the row, until they are linked in its head.
        self.runs: list[str] = []
        self.done = False

    def put(self, text: str) -> None:
        if self.done or any(tag in HEAD for tag in self.open):
            return
        (self.heading if "h1" in self.open else self.found).append(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        _refuse(tag, given)
        if tag == "main":
            # What stands outside it is left out; a page without one (speed's) is taken whole.
            self.found = []
        if tag not in VOID:
            self.open.append(tag)
            self.classes.append(given.get("class", ""))
        if tag in FRAME | HEAD | {"main", "h1"}:
            return
        if tag == "th" and "thead" in self.open:
            given.setdefault("scope", "col")
        if tag == "tr":
            self.runs = given.pop("data-runs", "").split()
        before = close = ""
        if tag == "dl" and given.get("class") == "facts":
            before = "<details><summary>How it was made: scale, protocol, limits, devices</summary>"
            close = "</details>"
        if tag == "table" and "scroll" not in self.classes:
            before = f'<div class="scroll" role="region" aria-label="{escape(self.prefix)}" tabindex="0">'
            close = "</div>"
        if tag == "th" and given.get("scope") == "row" and self.runs:
            close = self._links()
        if close:
            self.ends[len(self.open)] = close
        given = {name: self._renamed(name, value) for name, value in given.items()}
        written = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
        self.put(f"{before}<{_deeper(tag)}{written}>")

    def _links(self) -> str:
        """Links to the runs behind a row, as the end of its head; the row's runs count as linked."""
        known = [run for run in self.runs if run in self.anchors]
        self.runs = []
        links = [
            f'<a href="#{self.anchors[run]}" title="{escape(run)}">'
            f"{'provenance' if len(known) == 1 else number}</a>"
            for number, run in enumerate(known, start=1)
        ]
        several = "provenance: " if len(known) > 1 else ""
        return f'<small class="made">{several}{" ".join(links)}</small>' if links else ""

    def _renamed(self, name: str, value: str) -> str:
        if name == "id":
            return f"{self.prefix}-{value}"
        if name in REFERENCES:
            return " ".join(f"{self.prefix}-{one}" for one in value.split())
        if name == "href" and value.startswith("#"):
            return f"#{self.prefix}-{value[1:]}"
        return value

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            line, _ = self.getpos()
            inside = f"inside <{self.open[-1]}>" if self.open else "without its start"
            raise ValueError(f"</{tag}> in line {line} {inside}")
        close = self.ends.pop(len(self.open), "")
        if tag not in FRAME | HEAD | {"main", "h1"}:
            # Links belong into the head of the row, everything else encloses its element.
            inner = close if tag == "th" else ""
            self.put(f"{inner}</{_deeper(tag)}>{'' if inner else close}")
        self.open.pop()
        self.classes.pop()
        self.done = self.done or tag == "main"

    def handle_data(self, data: str) -> None:
        in_runs = self.open[-1:] == ["th"] and "runs" in self.classes
        anchor = self.anchors.get(data.strip()) if in_runs else None
        self.put(f'<a href="#{anchor}">{data}</a>' if anchor else data)

    def handle_entityref(self, name: str) -> None:
        self.put(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.put(f"&#{name};")


def _deeper(tag: str) -> str:
    """`h2` -> `h4`."""
    if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
        return f"h{min(6, int(tag[1]) + DEEPER)}"
    return tag


def _refuse(tag: str, attributes: Mapping[str, str]) -> None:
    """ValueError for what would fetch or run something."""
    if tag in REFUSED:
        raise ValueError(f"it has a <{tag}>")
    for name, value in attributes.items():
        fetched = name in ("src", "srcset", "background", "poster") and not value.startswith(
            "data:"
        )
        if name.startswith("on") or fetched or (name == "style" and "url(" in value):
            raise ValueError(f"it has {name}={value!r}")
        if name == "href" and value.strip().lower().startswith("javascript:"):
            raise ValueError(f"it has {name}={value!r}")
