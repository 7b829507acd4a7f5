"""The numbers behind a verdict as a sentence."""

from __future__ import annotations

from diablo.claims.addresses import SPEED, Cell
from diablo.claims.judge import Finding, Judged, Verdict, reasons
from diablo.claims.margins import Margin
from diablo.claims.reading import Reading

MINUS = "\N{MINUS SIGN}"


#: How many comparisons have a verdict, in words: one, several.
COUNTED: dict[Verdict, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "open": ("is open", "are open"),
    "fails": ("fails", "fail"),
}


def sentence(found: Finding, printed: bool) -> str:
    """The margin that decides, how many others there are, and what is missing.

    Args:
        printed: whether the numbers are the paper's, with its decimals.
    """
    one = found.decisive
    verdicts: list[Verdict] = [each.verdict for each in found.leaves if each.verdict != "missing"]
    parts = [_leaf(one, printed)] if one.verdict != "missing" else []
    if parts and len(verdicts) > 1:
        if len(set(verdicts)) == 1:
            parts.append(f"the closest of {len(verdicts)} comparisons")
        else:
            counts = {key: verdicts.count(key) for key in COUNTED}
            words = [f"{n} {COUNTED[key][n > 1]}" for key, n in counts.items() if n]
            parts.append(f"of {len(verdicts)} comparisons {', '.join(words)}")
    if lost := len(found.leaves) - len(verdicts):
        share = f"{lost} of {len(found.leaves)}: " if verdicts else ""
        parts.append(share + "; ".join(reasons(found.leaves)))
    return "; ".join(parts)


def _leaf(one: Judged, printed: bool) -> str:
    if not isinstance(one.leaf, Margin) or not isinstance(one.reading, Reading):
        return one.text
    margin, reading = one.leaf, one.reading
    cells = [cell for _, cell in margin.terms]
    factors = [factor for factor, _ in margin.terms]
    shared = len({cell.line.group_label for cell in cells}) == 1
    names = [_name(cell, shared) for cell in cells]
    values = [_number(v, cell, printed) for v, cell in zip(reading.values, cells, strict=True)]
    numbers = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
    digits = max(cell.digits for cell in cells)
    value = reading.value + margin.constant
    difference = _signed(value, digits if printed else None)
    if not printed and (bounds := reading.bounds()) and reading.kind != "exact":
        low, high = (_signed(bound + margin.constant, None) for bound in bounds)
        difference += f" [{low}, {high}]"
    against = f", claimed {margin.constant:g}" if margin.constant else ""
    if len(cells) == 1:
        return f"{numbers[0]} against {margin.constant * factors[0]:g}"
    if factors == [1, -1]:
        return f"{numbers[0]} {MINUS} {numbers[1]} = {difference}{against}"
    if len(cells) == 2:
        times = max(abs(factor) for factor in factors)
        return f"{numbers[0]}, {numbers[1]}; limit {times:g} times, margin {difference}"
    if factors == [1, -1, -1, 1]:
        others, ours = (
            f"{names[i]} {values[i]} to {values[i + 1]} ({names[i + 1]})" for i in (0, 2)
        )
        return f"{others} and {ours}: drops differ by {difference}"
    mean = -sum(f * v for f, v in zip(factors[1:], reading.values[1:], strict=True))
    return f"{numbers[0]}, its columns have mean {mean:.4g}"


def _name(cell: Cell, shared: bool) -> str:
    """Row and column, without the group where all cells share it."""
    if cell.line.source == SPEED:
        return f"{cell.line.names[0]} {cell.column}"
    name = cell.line.name.rpartition(" / ")[2] if shared else cell.line.name
    return name if cell.column == "avg" else f"{name} {cell.column}"


def _number(value: float, cell: Cell, printed: bool) -> str:
    return f"{value:.{cell.digits}f}" if printed else f"{value:.4g}"


def _signed(value: float, digits: int | None) -> str:
    text = f"{value:+.3g}" if digits is None else f"{value:+.{digits}f}"
    return text.replace("-", MINUS) if value else "0"
