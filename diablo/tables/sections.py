"""A page of several tables that are no experiment's, and its four formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from diablo.tables.latex import latex_escape
from diablo.tables.render import markdown_escape, templates

#: Head of a column -> what it prints of a line.
Columns = Mapping[str, Callable[[Any], str]]


@dataclass(frozen=True)
class Section:
    """One table of the page.

    Attributes:
        name: its value of the CSV's column `part`.
        title, reading: its heading, and how to read it.
        columns: what people read; the CSV has all of `frame`.
        frame: the numbers.
        layout: LaTeX's columns where some hold text; by default all are numbers, under narrow heads.
    """

    name: str
    title: str
    reading: str
    columns: Columns
    frame: pd.DataFrame
    layout: str | None = None

    @property
    def printed(self) -> pd.DataFrame:
        """The columns as text."""
        lines = list(self.frame.itertuples(index=False))
        return pd.DataFrame(
            {head: [show(line) for line in lines] for head, show in self.columns.items()}
        )


@dataclass(frozen=True)
class Page:
    """Several tables under one heading, as one file of each format.

    Attributes:
        name: what labels in LaTeX start with.
        place: what the numbers come from.
    """

    name: str
    heading: str
    place: str
    parts: list[Section]


def to_csv(page: Page) -> str:
    """All numbers of all lines; `part` says of which table, columns of other tables are empty."""
    frames = [part.frame.assign(part=part.name).astype(object) for part in page.parts]
    frame = pd.concat(frames, ignore_index=True)
    columns = ["part", *(name for name in frame if name != "part")]
    return frame[columns].to_csv(index=False, lineterminator="\n")


def to_markdown(page: Page) -> str:
    """Headings, readings and tables."""
    texts = [f"# {page.heading}", f"{page.place[0].upper()}{page.place[1:]}."]
    for part in page.parts:
        table = part.printed
        lines = [table.columns.tolist(), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        lines[2:] = [[markdown_escape(text) for text in line] for line in lines[2:]]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        texts += [f"## {part.title}", markdown_escape(part.reading), rows]
    return "\n\n".join(texts) + "\n"


def to_html(page: Page) -> str:
    """A self-contained page: no script, no request."""
    template = templates(autoescape=True).get_template("sections.html.jinja")
    return template.render(heading=page.heading, place=page.place, parts=page.parts)


def to_latex(page: Page) -> str:
    """A `table` float for each part, for `\\input`; needs the packages booktabs and graphicx."""
    floats = []
    for part in page.parts:
        table = part.printed.map(latex_escape)
        head, layout = [latex_escape(head) for head in table.columns], part.layout
        if layout is None:  # a word a line: columns as narrow as their numbers
            layout = "r" * len(table.columns)
            stacks = [text.replace(" ", r" \\ ") for text in head]
            head = [rf"\shortstack[r]{{{stack}}}" for stack in stacks]
        lines = [" & ".join(line) + r" \\" for line in [head, *table.to_numpy().tolist()]]
        floats.append(
            "\n".join(
                [
                    r"\begin{table}[p]",
                    r"  \centering",
                    rf"  \caption{{{latex_escape(part.title)}. {latex_escape(part.reading)}}}",
                    rf"  \label{{tab:{page.name}-{part.name.replace(' ', '-')}}}",
                    r"  \smallskip",
                    rf"  \resizebox{{\linewidth}}{{!}}{{\begin{{tabular}}{{{layout}}}",
                    r"    \toprule",
                    f"    {lines[0]}",
                    r"    \midrule",
                    *(f"    {line}" for line in lines[1:]),
                    r"    \bottomrule",
                    r"  \end{tabular}}",
                    r"\end{table}",
                ]
            )
        )
    note = r"% Use with \usepackage{booktabs,graphicx} and \input{this file}."
    return "\n".join([f"% {page.heading}", note, *floats]) + "\n"


WRITERS: dict[str, Callable[[Page], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
    ".tex": to_latex,
}
