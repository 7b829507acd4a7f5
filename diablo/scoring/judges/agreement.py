"""How far two judges agree beyond chance: Cohen's kappa with its standard error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

#: Standard errors to each side of an estimate that make a 95 % interval.
NORMAL_95 = 1.959963984540054


def agreement(first: Sequence[Hashable], second: Sequence[Hashable]) -> dict[str, Any]:
    """Cohen's kappa of two judges' labels of the same examples.

    The standard error is the large-sample one of Fleiss, Cohen and Everitt (1969, "Large sample standard
    errors of kappa and weighted kappa"), which does not assume that kappa is zero.

    Args:
        first, second: a label for each example, in the same order; None where a judge gave none:
            such examples are left out.

    Returns:
        `n` (examples that both labelled), `counts` ([label, label, how often], in the order of
        labels), `agreed` (share), `kappa`, `stderr`, `interval` (95 %, cut at -1 and 1), and `note`, which
        says why a number is None or says little, or is None.

    Raises:
        ValueError: if the judges labelled different numbers of examples.
    """
    pairs = [
        (one, other)
        for one, other in zip(first, second, strict=True)
        if one is not None and other is not None
    ]
    n, table = len(pairs), Counter(pairs)
    labels = sorted({label for pair in pairs for label in pair}, key=str)
    found: dict[str, Any] = {
        "n": n,
        "counts": [[*pair, table[pair]] for pair in sorted(table, key=str)],
        "agreed": sum(table[label, label] for label in labels) / n if n else None,
        **{"kappa": None, "stderr": None, "interval": None, "note": None},
    }
    if n == 0:
        return found | {"note": "no example was labelled by both"}
    if len(labels) == 1:
        return found | {"note": f"both gave all {n} the label {labels[0]!r}: kappa is 0/0"}
    kappa, stderr = _kappa([[table[row, column] / n for column in labels] for row in labels], n)
    found["kappa"] = kappa
    constant = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    if len(constant[0]) == 1 or len(constant[1]) == 1:
        note = "one judge gave all the same label: kappa is 0 whatever the other said"
        return found | {"kappa": 0.0, "note": note}
    if found["agreed"] == 1:
        return found | {"note": f"they agree on all {n}: its error cannot be estimated"}
    low, high = kappa - NORMAL_95 * stderr, kappa + NORMAL_95 * stderr
    return found | {"stderr": stderr, "interval": [max(-1.0, low), min(1.0, high)]}


def _kappa(shares: list[list[float]], n: int) -> tuple[float, float]:
    """Kappa and its standard error from the shares of a square table (not all in one cell)."""
    size = range(len(shares))
    rows = [sum(shares[i]) for i in size]
    columns = [sum(shares[i][j] for i in size) for j in size]
    observed = sum(shares[i][i] for i in size)
    chance = sum(rows[i] * columns[i] for i in size)
    diagonal = sum(
        shares[i][i] * ((1 - chance) - (rows[i] + columns[i]) * (1 - observed)) ** 2 for i in size
    )
    rest = sum(shares[i][j] * (columns[i] + rows[j]) ** 2 for i in size for j in size if i != j)
    centre = observed * chance - 2 * chance + observed
    variance = (diagonal + (1 - observed) ** 2 * rest - centre**2) / (n * (1 - chance) ** 4)
    return (observed - chance) / (1 - chance), math.sqrt(max(0.0, variance))
