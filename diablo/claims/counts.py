"""Trainable parameters of a row on the paper's own model: exact, from widths alone, at every scale."""

from __future__ import annotations

import re
from functools import cache

from diablo.data.catalog import load_catalog
from diablo.experiments import Group, Row
from diablo.methods import METHODS
from diablo.realise import linear_modules
from diablo.rows import DEFAULTS
from diablo.settings import Settings
from diablo.shapes import Shapes, live_parameters

#: Columns that every experiment's rows have beside their own.
COLUMNS = ("params", "padded")


def printed_params(row: Row) -> float | None:
    """#Params as printed: percent of the base model, or millions; None where nothing is printed."""
    found = re.fullmatch(r"([\d.]+)(%|M)", row.params or "")
    return float(found[1]) if found else None


def digits(row: Row) -> int:
    """Decimals of #Params as printed."""
    return len((row.params or "").strip("%M").partition(".")[2])


def counted(group: Group, row: Row, column: str) -> float | None:
    """A row's count, None for a method that is not implemented here.

    Args:
        column: `params`, in the printed unit (percent of the base model, or 10^6); or `padded`, the entries
            of DiaBlo's blocks that lie outside of the weights, zero where N divides all widths.
    """
    if row.method not in METHODS:
        return None
    shapes = _shapes(group.model)
    own = Settings(**{key: getattr(row, key) for key in Settings.model_fields})
    settings = own.over(group.defaults, DEFAULTS)
    widths = shapes.widths(linear_modules(settings, shapes), settings.layers)
    total = METHODS[row.method].parameters(
        widths,
        num_blocks=row.num_blocks,
        rank=row.rank,
        block_size=settings.block_size,
        chosen_blocks=row.chosen_blocks,
        base_parameters=shapes.base_parameters,
    )
    if column == "padded":
        return None if row.num_blocks is None else total - live_parameters(widths, row.num_blocks)
    return total / 1e6 if (row.params or "").endswith("M") else 100 * total / shapes.base_parameters


@cache
def _shapes(model: str) -> Shapes:
    declared = load_catalog().models[model].shapes
    return Shapes(**declared.model_dump(exclude={"heads", "vocab"}))
