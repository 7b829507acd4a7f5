"""Pages and figures of the kinds of experiments that look into models: several tables of text under one heading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib.style
import pandas as pd

from diablo.tables import words
from diablo.tables.frame import STYLE, write_figure
from diablo.tables.latex import latex_escape
from diablo.tables.measures import read_plan
from diablo.tables.render import markdown_escape, templates
from diablo.tables.runs import Training
from diablo.tables.table import Group, Row, Table

T = TypeVar("T", bound=Training)


@dataclass(frozen=True)
class Section:
    """One table of a page, as text.

    Attributes:
        title, reading: its heading, and how to read it.
        heads: of the columns, of which the first `texts` are words and the others numbers.
        lines: a text a column.
    """

    title: str
    reading: str
    heads: tuple[str, ...]
    lines: list[tuple[str, ...]]
    texts: int = 1


def load_rows(
    plan_path: str | Path,
    read: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], T],
) -> Table:
    """A table whose rows have no cells: what their runs have is read by `read(run, plan, row)`.

    Raises:
        ValueError: as `read` does; if a file does not fit the plan, it names the file.
    """
    plan = read_plan(plan_path)
    groups = []
    for entry in plan["groups"]:
        rows = [
            Row(plan=row, number=number, runs=[read(run, plan, row) for run in row["runs"]])  # type: ignore[misc]
            for number, row in enumerate(entry["rows"], start=1)
        ]
        title = entry["used_model_title"]
        groups.append(Group(entry["label"], entry["model"], entry["used_model"], title, rows))
    files = [
        path for group in groups for row in group.rows for run in row.runs for path in run.files
    ]
    inputs = list(dict.fromkeys([Path(plan_path), *files]))
    return Table(plan, dict(plan["columns"]), groups, {}, inputs)


def places(table: Table) -> list[tuple[dict[str, Any], Group, Row, Any]]:
    """What stands on every line of a CSV about a run, with its group and row; every run, in order."""
    plan = table.plan
    return [
        (
            {
                "table": plan["name"],
                "scale": plan["scale"],
                **table.identity(group, row),
                "setting_paper": row.setting,
                "setting_used": row.setting_here or row.setting,
                "run": run.name,
                "seed": run.seed,
            },
            group,
            row,
            run,
        )
        for group, row in table.rows
        for run in row.runs
    ]


def caption(table: Table, what: str) -> str:
    """One paragraph for a figure: what is shown, from what."""
    not_run = sum(not row.runs for _, row in table.rows)
    where = words.place(table)
    sentences = [
        f"{table.heading}{where and f' ({where})'}: {what}.",
        words.banner(table) or "",
        f"{not_run} of {len(table.rows)} rows were not run." if not_run else "",
    ]
    return " ".join(text for text in sentences if text)


def foot(table: Table, measured: str, of_seeds: str) -> list[str]:
    """What stands under a figure: what it was made from, how it was measured, rows that were not run.

    Args:
        measured: without its full stop.
        of_seeds: what is shown of rows with several seeds; only said where there are any.
    """
    several = any(len(row.runs) > 1 for _, row in table.rows)
    status = [
        f"{table.row_name(group, row)}: {row.status}." for group, row in table.rows if not row.runs
    ]
    return [*words.foot(table), f"{measured}.{of_seeds if several else ''}", *status]


def draw_rows(
    table: Table,
    folder: Path,
    what: str,
    data: pd.DataFrame,
    figure: Callable[[Table, pd.DataFrame], Any],
) -> dict[str, str]:
    """Write `<name>.png`, `.svg` and `.csv` of `data` into `folder`; return the caption by file name.

    Args:
        what: is shown and how it was measured, for the caption.
    """
    name = table.plan["name"]
    with matplotlib.style.context(STYLE):
        write_figure(figure(table, data), data, folder / name, table.heading, what)
    return {name: what}


def not_run(table: Table, width: int) -> list[tuple[str, ...]]:
    """A line of `width` columns for each row without runs: its name, and why."""
    return [
        (table.row_name(group, row), row.status, *[""] * (width - 2))
        for group, row in table.rows
        if not row.runs
    ]


def writers(
    tidy: Callable[[Table], pd.DataFrame], sections: Callable[[Table], list[Section]]
) -> dict[str, Callable[[Table], str]]:
    """The formats of a kind of table, by suffix: its data, and its sections for people."""

    def rendered(name: str, table: Table, autoescape: bool = False, **filters: Any) -> str:
        template = templates(autoescape, **filters).get_template(name)
        return template.render(table=table, sections=sections(table))

    return {
        ".csv": lambda table: tidy(table).to_csv(index=False, lineterminator="\n"),
        ".md": lambda table: rendered("run_sections.md.jinja", table, esc=markdown_escape),
        ".html": lambda table: rendered("run_sections.html.jinja", table, autoescape=True),
        ".tex": lambda table: rendered("run_sections.tex.jinja", table, esc=latex_escape),
    }
