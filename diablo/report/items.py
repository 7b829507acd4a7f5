"""The report's items: every table and figure of the paper, and everything else that was made beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.experiments import WORKFLOW
from diablo.figures import SCHEMATIC
from diablo.report.assets import Assets, best_image
from diablo.report.fragment import read_fragment
from diablo.report.jobs import read_mapping
from diablo.report.records import Records, read_records
from diablo.validation import read_yaml

#: Items with a section of their own: their headings. The others are experiments.
SECTIONS = {
    "claims": "Claims of the paper",
    "audit": "Audit of the paper",
    "serving": "Adapter, merged and served model",
    "theorems": "Theorems",
    "speed": "Speed",
}
#: What the paper has; the pipeline of a checkout may lack some of it.
PAPER = (*(f"table{n}" for n in range(1, 11)), *(f"figure{n}" for n in range(1, 8)))


@dataclass(frozen=True)
class Figure:
    """A chart: its address, what it says to those who do not see it, its caption and its files."""

    name: str
    address: str
    alt: str
    caption: str
    links: Mapping[str, str]


@dataclass
class Item:
    """One table or figure of the paper, or one of `SECTIONS`.

    Attributes:
        command: what makes it; empty where this checkout has no such target.
        parts: HTML of its tables: heading of each -> its fragment.
        records: its CSV as it is, where there is no page of it.
        rows: how many rows have numbers, and how many there are.
        facts: the provenance of the table, empty without one.
        stems: names of its tables and figures that were made.
    """

    name: str
    heading: str
    section: str = ""
    command: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    records: Records | None = None
    figures: list[Figure] = field(default_factory=list)
    stand_ins: list[str] = field(default_factory=list)
    links: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    stems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether more is there than a part, such as the table of an experiment's quantisers."""
        return self.name in self.stems or bool(self.records)

    @property
    def made(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.parts or self.records or self.figures)

    @property
    def status(self) -> str:
        """`made`, `made, 7 of 8 rows`, `made in part: table4-quantizers` or `not run`."""
        if not self.made:
            return "not run"
        if not self.whole:
            return f"made in part: {', '.join(self.stems)}"
        if self.rows is None or self.rows[0] == self.rows[1]:
            return "made"
        return f"made, {self.rows[0]} of {self.rows[1]} rows"


def declared(workflow: Path = WORKFLOW) -> dict[str, dict[str, Any]]:
    """Titles and sections of all experiments, of figures made from them and of the drawing, by name."""
    paths = [
        path for kind in ("experiments", "figures") for path in (workflow / kind).glob("*.yaml")
    ]
    return {SCHEMATIC["name"]: SCHEMATIC} | {path.stem: read_yaml(path) for path in sorted(paths)}


def shown_runs(results: Path) -> dict[str, list[str]]:
    """Name of a run -> tables that show it, as their provenance says.

    Raises:
        ValueError: if a provenance is not valid JSON; the message names the file.
    """
    found: dict[str, list[str]] = {}
    for path in sorted((results / "tables").glob("*.provenance.json"), key=_order):
        name = path.name.removesuffix(".provenance.json")
        for row in read_mapping(path).get("rows", []):
            for run in row.get("runs", []):
                tables = found.setdefault(run, [])
                tables += [] if name in tables else [name]
    return found


def scale_of(results: Path) -> str:
    """The scale that the plans in a folder name; the folder's own name where there are none.

    Raises:
        ValueError: if a plan is not valid JSON; the message names the file.
    """
    plans = [read_mapping(path) for path in sorted((results / "tables").glob("*.plan.json"))]
    # A user's own experiment changes nothing of a scale and may say another.
    return next(
        (plan["scale"] for plan in plans if plan.get("name") in PAPER and "scale" in plan),
        results.name,
    )


def read_items(
    results: Path, assets: Assets, anchors: Mapping[str, str], scale: str
) -> dict[str, Item]:
    """All items by name, in the paper's order; those that were not made say how to make them.

    Args:
        results: the folder of a scale.
        assets: where images go.
        anchors: name of a run -> id of its place in the report.
        scale: for the commands.

    Raises:
        ValueError: if a file is not what it should be; the message names it.
    """
    known, tables, figures = declared(), results / "tables", results / "figures"
    stems = {path.stem for path in [*tables.glob("*.html"), *tables.glob("*.csv")]}
    charts = {path.stem for path in [*figures.glob("*.svg"), *figures.glob("*.png")]}
    plans = {path.name.removesuffix(".plan.json") for path in tables.glob("*.plan.json")}
    names = {*PAPER, *SECTIONS, *known, *plans}
    # A file belongs to the longest name that it starts with; what belongs to none is an item itself.
    owner = {stem: _owner(stem, names) for stem in stems | charts}
    items = {}
    for name in sorted(names | set(owner.values()), key=lambda name: _key(name)):
        item = _described(name, known, tables / f"{name}.plan.json", scale)
        mine = sorted((stem for stem in stems if owner[stem] == name), key=lambda stem: _key(stem))
        for stem in mine:
            _add_table(item, tables / stem, anchors)
        item.links = assets.links(_beside(tables, mine))
        _add_provenance(item, tables / f"{name}.provenance.json")
        captions = _captions(figures / f"{name}.provenance.json")
        for stem in sorted(stem for stem in charts if owner[stem] == name):
            item.figures.append(_figure(stem, item, figures, captions, assets))
        item.stems = sorted({*mine, *(figure.name for figure in item.figures)})
        items[name] = item
    return items


def _described(name: str, known: Mapping[str, Any], plan_path: Path, scale: str) -> Item:
    plan = read_mapping(plan_path) if plan_path.is_file() else known.get(name, {})
    makes = name in known or name in SECTIONS or bool(plan)
    said = scale.replace("-rehearsal", " rehearse=true")
    config = "" if scale == "demo" else f" --config scale={said}"
    return Item(
        name=name,
        heading=SECTIONS.get(name) or numbered(name, str(plan.get("title", ""))),
        section=str(plan.get("section") or ""),
        command=f"snakemake --cores 2 {name}{config}" if makes else "",
        stand_ins=list(plan.get("stand_ins", [])),
    )


def _add_table(item: Item, stem: Path, anchors: Mapping[str, str]) -> None:
    page, lines = stem.with_name(f"{stem.name}.html"), stem.with_name(f"{stem.name}.csv")
    if page.is_file():
        fragment = read_fragment(page, anchors)
        item.parts[fragment.heading] = fragment.html
    elif item.records is None:
        item.records = read_records(lines)


def _add_provenance(item: Item, path: Path) -> None:
    facts = read_mapping(path) if path.is_file() else {}
    # Older records of the speed table are of devices, and have no job's facts.
    item.facts = facts if "verb" in facts else {}
    if rows := item.facts.get("rows"):
        item.rows = (sum(bool(row.get("runs")) for row in rows), len(rows))
    item.stand_ins = item.stand_ins or list(item.facts.get("stand_ins", []))


def _captions(path: Path) -> Mapping[str, str]:
    return read_mapping(path).get("captions", {}) if path.is_file() else {}


def _figure(
    stem: str, item: Item, folder: Path, captions: Mapping[str, str], assets: Assets
) -> Figure:
    image = best_image(folder, stem)
    assert image is not None  # it was found by one of its two files
    stand_ins = f" Stand-ins: {'; '.join(item.stand_ins)}." if item.stand_ins else ""
    caption = captions.get(stem) or f"{item.heading}.{stand_ins}"
    table = " The table above has the numbers." if item.parts else ""
    alt = f"Chart. {caption.split('. ')[0].rstrip('.')}.{table}"
    return Figure(stem, assets.image(image), alt, caption, assets.links(_beside(folder, [stem])))


def _beside(folder: Path, stems: list[str]) -> list[Path]:
    """The files of tables or figures that are worth opening."""
    suffixes = (".csv", ".md", ".tex", ".png", ".svg")
    paths = [folder / f"{stem}{suffix}" for stem in stems for suffix in suffixes]
    return [path for path in paths if path.is_file()]


def _owner(stem: str, names: set[str]) -> str:
    found = [name for name in names if stem == name or stem.startswith(f"{name}-")]
    return max(found, key=len, default=stem)


def numbered(name: str, title: str) -> str:
    """`Table 1: ...` for the paper's own, else the title, or the name without one."""
    match = re.fullmatch(r"(table|figure)(\d+)", name)
    if not match:
        return title or name
    return f"{match[1].capitalize()} {match[2]}" + (f": {title}" if title else "")


def _key(name: str) -> tuple[int, list[Any]]:
    """Tables, then figures, then the rest; `table2` before `table10`."""
    kind = 0 if name.startswith("table") else 1 if name.startswith("figure") else 2
    parts = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    return kind, parts


def _order(path: Path) -> tuple[int, list[Any]]:
    return _key(path.name)
