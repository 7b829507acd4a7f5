"""AVG columns recomputed from the columns beside them, with what rounding allows."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Line, Paper, decimals, exact, title


def check_averages(paper: Paper) -> list[Finding]:
    """The printed average of every row that has one and all its columns."""
    return [
        finding
        for name, experiment in paper.experiments.items()
        if experiment.average
        for finding in _experiment(paper, name)
    ]


def _experiment(paper: Paper, name: str) -> Iterator[Finding]:
    columns = _columns(paper, name)
    lines = list(paper.lines(name, parts=False))
    digits = max(
        (
            decimals(value)
            for line in lines
            for value in line.row.reported.values()
            if value is not None
        ),
        default=0,
    )
    for line in lines:
        reported = line.row.reported
        values = [reported.get(column) for column in columns]
        average = reported.get("avg")
        known = [value for value in values if value is not None]
        if average is not None and len(known) == len(columns):
            yield _average(line, known, average, digits)


def _columns(paper: Paper, name: str) -> list[str]:
    experiment = paper.experiments[name]
    return [
        *experiment.columns,
        *(key for part in experiment.parts.values() for key in part.columns),
    ]


def judge_average(
    values: list[float], average: float, digits: int
) -> tuple[Fraction, Verdict, str]:
    """The mean, whether the printed average can be its rounding, and how.

    Each printed number stands for an interval of half a unit of its last digit to both sides, and so
    does their mean.

    Args:
        digits: decimals that the table prints.
    """
    mean = sum(map(exact, values), Fraction(0)) / len(values)
    unit = Fraction(1, 10**digits)
    apart = abs(mean - exact(average))
    if apart <= unit / 2:
        return mean, "agrees", "rounded"
    if apart <= unit:
        return mean, "agrees", "only as the columns are rounded too"
    return (
        mean,
        "disagrees",
        f"off by {float(apart):.{digits + 2}f}, rounding explains {float(unit)} at most",
    )


def _average(line: Line, values: list[float], average: float, digits: int) -> Finding:
    mean, verdict, how = judge_average(values, average, digits)
    return Finding(
        id=f"averages/{line.id}",
        statement=f"{line.place}: the average is the mean of the {len(values)} columns",
        evidence=f"mean {float(mean):.{digits + 2}f}, printed {average:.{digits}f}: {how}",
        verdict=verdict,
        source=f"paper, {title(line.experiment.name)}",
        entries=("D-24",),
    )
