"""What tells rows of one method and size apart: the modules, layers or learning rates that they differ in.

Rows are named by method and size (`diablo-n64`) as long as that is one row of its group. Where several rows
share such a name, as in a sweep of learning rates, what they differ in is added: `diablo-n64-lr4e-4`.
Nothing here imports torch.
"""

from __future__ import annotations

from typing import Any

from diablo.experiments import Group, Row

KEYS = ("modules", "layers", "lr")


def apart(group: Group, row: Row) -> dict[str, Any]:
    """The settings in which the group's rows with this row's slug differ, with this row's values.

    Values are the paper's, None where neither row nor group says one.
    """
    same = [setting(group, other) for other in group.rows if other.slug == row.slug]
    mine = setting(group, row)
    return {key: mine[key] for key in KEYS if any(other[key] != mine[key] for other in same)}


def setting(group: Group, row: Row) -> dict[str, Any]:
    """Modules, layers and learning rate of a row, from the row or from the group's defaults."""
    values = {}
    for key in KEYS:
        own = getattr(row, key)
        values[key] = getattr(group.defaults, key) if own is None else own
    return values


def details(group: Group, row: Row) -> list[str]:
    """What :func:`apart` adds to the row's slug: `qk`, `layers1of4`, `lr4e-4`."""
    return [_word(key, value) for key, value in apart(group, row).items() if value is not None]


def name(group: Group, row: Row) -> str:
    """The row's slug with what tells it apart: `diablo-n64-lr4e-4`."""
    return "-".join([row.slug, *details(group, row)])


def names(group: Group, row: Row) -> set[str]:
    """All words that name the row, and maybe others with it."""
    return {row.method, row.slug, name(group, row), *details(group, row)}


def texts(group: Group, row: Row, layers: str | None) -> dict[str, str]:
    """What tells the row apart in words, by key: `QK`, `layers 0-7`, `lr 4e-4`.

    Args:
        layers: the row's layers in words, if it has only a part of them.
    """
    found = {}
    for key, value in apart(group, row).items():
        if key == "layers":
            found[key] = layers or "all layers"
        elif value is not None:
            found[key] = f"lr {scientific(value)}" if key == "lr" else value.upper()
    return found


def layers_text(indices: list[int]) -> str:
    """`layers 0-7`, or `layer 3`; the indices are consecutive."""
    first, last = indices[0], indices[-1]
    return f"layers {first}-{last}" if last > first else f"layer {first}"


def scientific(value: float) -> str:
    """`2e-3`, `2.5e-4`."""
    mantissa, exponent = f"{value:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _word(key: str, value: Any) -> str:
    if key == "lr":
        return f"lr{scientific(value)}"
    return f"layers{value.replace('/', 'of')}" if key == "layers" else str(value)
