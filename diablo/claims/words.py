"""The numbers behind a verdict as a sentence."""

from __future__ import annotations

from diablo.claims.addresses import SPEED, Cell
from diablo.claims.judge import Finding, Judged, reasons
from diablo.claims.margins import Margin
from diablo.claims.reading import Reading

MINUS = "\N{MINUS SIGN}"


def sentence(found: Finding, printed: bool) -> str:
    """The margin that decides, how many others there are, and what is missing.

    Args:
        printed: whether the numbers are the paper's, with its decimals.
    """
    one = found.decisive
    parts = [_leaf(one, printed)] if one.verdict != "missing" else []
    others = [each for each in found.leaves if each is not one and each.verdict != "missing"]
    if parts and others:
        same = sum(each.verdict == one.verdict for each in others)
        parts.append(f"the closest of {len(others) + 1} comparisons")
        if same < len(others):
            counts = {
                word: sum(each.verdict == key for each in (one, *others))
                for key, word in (("holds", "hold"), ("open", "are open"), ("fails", "fail"))
            }
            parts[-1] = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
            parts[-1] = f"of {len(others) + 1} comparisons {parts[-1]}"
    lost = sum(each.verdict == "missing" for each in found.leaves)
    if lost:
        share = f"{lost} of {len(found.leaves)}: " if lost < len(found.leaves) else ""
        parts.append(share + "; ".join(reasons(found.leaves)))
    return "; ".join(parts)


def _leaf(one: Judged, printed: bool) -> str:
    if not isinstance(one.leaf, Margin) or not isinstance(one.reading, Reading):
        return one.text
    margin, reading = one.leaf, one.reading
    cells = [cell for _, cell in margin.terms]
    numbers = [_cell(each, value, printed) for each, value in zip(cells, reading.values, strict=True)]
    factors = [factor for factor, _ in margin.terms]
    bounds = reading.bounds()
    interval = ""
    if not printed and bounds is not None and reading.kind != "exact":
        interval = f" [{_number(bounds[0])}, {_number(bounds[1])}]"
    if len(cells) == 1:
        return f"{numbers[0]} against {margin.constant * factors[0]:g}{interval and f', difference{interval}'}"
    # Without the constant: the difference itself, then what it is held against.
    digits = max(cell.digits for cell in cells)
    value = reading.value + margin.constant
    difference = f"{value:+.{digits}f}" if printed else f"{value:+.3g}"
    against = f", claimed {margin.constant:g}" if margin.constant else ""
    if factors == [1, -1]:
        text = f"{numbers[0]} {MINUS} {numbers[1]} = {difference}{against}"
    elif len(cells) == 2:
        ratio = -factors[1] if factors[0] == 1 else factors[0]
        text = f"{numbers[0]}, {numbers[1]}; limit {ratio:g} times"
    elif factors[0] == 1 and all(factor == factors[1] for factor in factors[1:]):
        mean = -sum(f * v for f, v in zip(factors[1:], reading.values[1:], strict=True))
        return f"{numbers[0]}, its columns have mean {mean:.4g}"
    else:
        text = f"{', '.join(numbers)}: {difference}"
    return text + interval


def _cell(cell: Cell, value: float, printed: bool) -> str:
    column = "" if cell.column == "avg" else f" {cell.column}"
    name = cell.line.name if cell.line.source != SPEED else cell.line.names[0]
    return f"{name}{column} {value:.{cell.digits}f}" if printed else f"{name}{column} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.4g}"
