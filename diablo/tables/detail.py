"""What stands behind or beside the numbers of a table, in small tables of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detail:
    """A small table under the numbers; the first `texts` columns are text, the others numbers."""

    title: str
    text: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]
    texts: int
