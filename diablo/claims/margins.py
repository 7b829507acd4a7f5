"""From a predicate to margins: sums of cells that must be above zero, or near it.

A claim then is a tree of `Combined` nodes whose leaves are margins, or statements of the theorems' table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from diablo.claims.addresses import Addresses, Cell
from diablo.claims.model import Best, Mean, Predicate

Relation = Literal["above", "at least", "near"]


@dataclass(frozen=True)
class Margin:
    """`sum of factor x cell - constant`, and what is claimed of it.

    Attributes:
        relation: "above" zero, "at least" zero, or "near" it.
        within_printed, within: how far from zero "near" may be, of printed and of reproduced numbers.
        slack: half a unit of the last digit of the constant, where the paper prints it.
        absolute: whether it compares with a number of the paper's: stand-ins cannot test that.
    """

    terms: tuple[tuple[float, Cell], ...]
    constant: float = 0.0
    relation: Relation = "above"
    within_printed: float = 0.0
    within: float = 0.0
    slack: float = 0.0
    absolute: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement of the theorems' table, by words that only it has."""

    words: str


@dataclass(frozen=True)
class Combined:
    """All of its parts hold, any of them, or exactly all but `place` - 1 (how = "place")."""

    how: Literal["all", "any", "place"]
    parts: tuple[Node, ...]
    place: int = 1


Node = Margin | Statement | Combined


def half(value: float, *cells: Cell) -> float:
    """Half a unit of the last decimal of a stated number, which has at least those of the cells: 1.0 is read as 1."""
    digits = len(f"{value:.10f}".rstrip("0").partition(".")[2])
    return 0.5 * 10.0 ** -max(digits, *(cell.digits for cell in cells))


def tree(predicate: Predicate, addresses: Addresses) -> Node:
    """The predicate's margins.

    Raises:
        ValueError: if an address names no cell, several where one is needed, or is ambiguous.
    """
    value = getattr(predicate, predicate.kind)
    match predicate.kind:
        case "all" | "any":
            return Combined(predicate.kind, tuple(tree(one, addresses) for one in value))
        case "greater":
            of = addresses.one(value.of)
            # A limit that is our reading is exact, one that the paper prints rounds like its numbers.
            relation: Relation = "at least" if value.by else "above"
            slack = half(value.by, of) if value.stated else 0.0
            return _all(
                Margin(
                    ((1.0, of), (-1.0, cell)),
                    value.by,
                    relation,
                    slack=slack,
                    absolute=value.stated,
                )
                for cell in _cells(addresses, value.than)
            )
        case "best":
            return _best(value, addresses)
        case "difference":
            of, minus = addresses.one(value.of), addresses.one(value.minus)
            rest = {"within": value.tolerance, "slack": half(value.value, of, minus)}
            terms = ((1.0, of), (-1.0, minus))
            return Margin(terms, value.value, "near", absolute=True, **rest)
        case "equals":
            cells = addresses.find(value.of)
            rest = {"within": value.tolerance, "slack": half(value.value, *cells)}
            return _all(
                Margin(((1.0, one),), value.value, "near", absolute=True, **rest) for one in cells
            )
        case "close":
            terms = ((1.0, addresses.one(value.of)), (-1.0, addresses.one(value.to)))
            return Margin(terms, 0.0, "near", value.within, value.within)
        case "at_most" | "at_least":
            sign = 1.0 if predicate.kind == "at_least" else -1.0
            return _all(_bound(one, value.value, sign) for one in addresses.find(value.of))
        case "between":
            cells = addresses.find(value.of)
            bounds = ((value.low, 1.0), (value.high, -1.0))
            return _all(_bound(one, bound, sign) for one in cells for bound, sign in bounds)
        case "ratio":
            of, to = addresses.one(value.of), addresses.one(value.to)
            if value.at_least is not None:
                return Margin(((1.0, of), (-value.at_least, to)), relation="at least")
            return Margin(((value.at_most, to), (-1.0, of)), relation="at least")
        case "decreasing":
            cells = _cells(addresses, value)
            if len(cells) < 2:
                raise ValueError(f"decreasing: {', '.join(value)} is one cell; give several")
            return _all(Margin(((1.0, one), (-1.0, after))) for one, after in pairwise(cells))
        case "smaller_drop":
            first, last = map(addresses.one, value.of)
            others = [tuple(map(addresses.one, pair)) for pair in value.than]
            return _all(
                Margin(((1.0, start), (-1.0, end), (-1.0, first), (1.0, last)))
                for start, end in others
            )
        case "mean":
            return _means(value, addresses)
        case "statements":
            return _all(Statement(words) for words in value)
    raise AssertionError(predicate.kind)


def _all(parts) -> Node:
    parts = tuple(parts)
    return parts[0] if len(parts) == 1 else Combined("all", parts)


def _cells(addresses: Addresses, patterns: list[str]) -> list[Cell]:
    return list(dict.fromkeys(cell for one in patterns for cell in addresses.find(one)))


def _bound(cell: Cell, bound: float, sign: float) -> Margin:
    return Margin(((sign, cell),), sign * bound, "at least", absolute=True)


def _best(value: Best, addresses: Addresses) -> Node:
    of, without = addresses.one(value.cell), _cells(addresses, value.without)
    others = [one for one in _cells(addresses, value.among) if one not in (of, *without)]
    if not others:
        raise ValueError(f"best: {value.cell}: nothing is left to compare it with")
    margins = tuple(Margin(((1.0, of), (-1.0, one))) for one in others)
    if value.place > 1:
        return Combined("place", margins, value.place)
    return _all(margins)


def _means(value: Mean, addresses: Addresses) -> Node:
    margins = []
    for cell in addresses.find(value.of):
        columns = addresses.columns_of(cell.line)
        source, group, *_ = cell.address.split("/")
        row = addresses.find(f"{source}/{group}/*/{','.join(columns)}")
        terms = [(-1.0 / len(columns), one) for one in row if one.line is cell.line]
        # A mean is right if it rounds to the average; the average's own rounding is no further slack.
        rounding = 0.5 * 10.0**-cell.digits
        margin = Margin(((1.0, cell), *terms), relation="near", slack=-rounding)
        margins.append(replace(margin, within_printed=rounding, within=rounding))
    return _all(margins)
