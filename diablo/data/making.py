"""What the generators of this project share: rows that differ, drawn in turn from several makers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diablo.data.commonsense import normalised

#: Draws of one maker without anything new before it counts as used up.
PATIENCE = 300


@dataclass(frozen=True)
class Made:
    """What a maker draws: the fields of a record, and the key that training and test must not share."""

    key: str
    row: dict[str, Any]


Maker = Callable[[random.Random], Made]


class Stock:
    """Rows drawn from makers in turn, no key twice, however often it is asked."""

    def __init__(self, makers: Sequence[Maker], rng: random.Random):
        self._makers, self._rng = list(makers), rng
        self._seen: set[str] = set()
        self._turn = 0

    def take(self, count: int) -> list[dict[str, Any]]:
        """The next `count` rows, as many of each maker as it has.

        Raises:
            ValueError: if all makers are used up before.
        """
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            if not self._makers:
                raise ValueError(
                    f"{count} rows are wanted, only {len(self._seen)} different ones can be made; ask for "
                    "fewer"
                )
            place = self._turn % len(self._makers)
            row = self._new(self._makers[place])
            if row is None:
                del self._makers[place]
            else:
                rows.append(row)
                self._turn = place + 1
        return rows

    def _new(self, maker: Maker) -> dict[str, Any] | None:
        for _ in range(PATIENCE):
            made = maker(self._rng)
            key = normalised(made.key)
            if key not in self._seen:
                self._seen.add(key)
                return made.row
        return None
