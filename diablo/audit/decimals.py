"""Which numbers of test examples the printed decimals of an accuracy are consistent with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from diablo.audit.facts import Facts, TestSizes
from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Paper, decimals, exact, title
from diablo.data.protocol import load_protocol

#: Metrics that are a mean of whole numbers, and what a printed 1 stands for.
SCALES = {"acc": 100, "refusal": 100, "rating": 1}
#: That all values of a group fit says something where chance alone would seldom make them: for a set as it
#: is supposed to be less seldom than for another one that is to explain what does not fit.
CONFIRMS, EXPLAINS = 0.5, 0.1


@dataclass(frozen=True)
class Size:
    """A number of examples that an accuracy may be of, and why."""

    examples: int
    runs: int
    why: str

    @property
    def parts(self) -> int:
        """An accuracy is a whole number of these."""
        return self.examples * self.runs

    @property
    def label(self) -> str:
        runs = f"{self.runs} runs of " if self.runs > 1 else ""
        return f"{runs}{self.examples}"


@dataclass(frozen=True)
class Group:
    """Accuracies of one task that were scored together: one origin, one table, one model."""

    id: str
    place: str
    source: str
    column: str
    full: int
    metric: str
    digits: int
    values: Sequence[float]


@dataclass(frozen=True)
class Fit:
    """Which numbers of a group a size can have given, and how often chance alone would do as well."""

    size: Size
    fits: list[float]
    odd: list[float]
    likely: float

    @classmethod
    def of(cls, group: Group, size: Size, scale: int) -> Fit:
        fits = [v for v in group.values if consistent(v, size.parts, group.digits, scale)]
        odd = [value for value in group.values if value not in fits]
        return cls(size, fits, odd, chance(size.parts, group.digits, scale))

    @property
    def by_chance(self) -> float:
        """How often as many arbitrary numbers would all fit."""
        return self.likely ** (len(self.fits) + len(self.odd))

    @property
    def text(self) -> str:
        """`496 (batches of 8, 16): 6 of 6 fit, chance 0.50`."""
        count = len(self.fits) + len(self.odd)
        return (
            f"{self.size.label} ({self.size.why}): {len(self.fits)} of {count} fit, chance "
            f"{self.likely:.2f}"
        )


def consistent(value: float, parts: int, digits: int, scale: int = 100) -> bool:
    """Whether a whole number of `parts` gives an accuracy that is printed as `value`.

    Half a unit to either side counts, as nobody says how ties are rounded.
    """
    half = Fraction(1, 2 * 10**digits)
    low, high = ((exact(value) + sign * half) * parts / scale for sign in (-1, 1))
    return floor(high) >= ceil(low)


def chance(parts: int, digits: int, scale: int = 100) -> float:
    """The share of printable values that some number of right answers is printed as."""
    units = scale * 10**digits
    if parts >= units:
        return 1.0
    hit = {round(Fraction(count * units, parts)) for count in range(parts + 1)}
    return len(hit) / (units + 1)


def candidates(column: str, full: int, sizes: TestSizes) -> list[Size]:
    """Numbers of examples to try: the full set, without a last batch, others; in one run or several."""
    reasons = {full: "the full set"}
    for batch in sizes.batches:
        whole = full // batch * batch
        if whole and whole != full:
            reasons[whole] = (
                f"{reasons[whole]}, {batch}" if whole in reasons else f"batches of {batch}"
            )
    for size, why in sizes.others.get(column, {}).items():
        reasons.setdefault(size, why)
    return [Size(size, runs, why) for runs in sizes.runs for size, why in reasons.items()]


def check_decimals(paper: Paper, facts: Facts) -> list[Finding]:
    """Every column of accuracies of every table, by the rows' origin."""
    apart = {one.experiment for one in facts.printed.accuracies}
    groups = [
        *(
            group
            for name, experiment in paper.experiments.items()
            if experiment.kind == "accuracy" and name not in apart
            for group in _of_experiment(paper, name)
        ),
        *_printed(facts),
    ]
    return [_judge(group, facts.sizes) for group in groups]


def _of_experiment(paper: Paper, name: str) -> Iterator[Group]:
    """Columns whose test sets' sizes are known, each with the rows of one origin."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for line in paper.lines(name):
        for column in line.experiment.columns:
            value = line.row.reported.get(column)
            if value is not None:
                key = (line.experiment.suite, line.row.origin, column)
                found.setdefault(key, []).append(value)
    digits = max((decimals(value) for values in found.values() for value in values), default=0)
    for (suite, origin, column), values in found.items():
        protocol = load_protocol(suite, "paper")
        entry = protocol.entries.get(column)
        full = protocol.test_sizes.get(entry.task) if entry else None
        if entry is None or full is None:
            continue
        yield Group(
            id=f"decimals/{name}/{origin}/{column}",
            place=f"{title(name)}, {origin} rows",
            source=f"paper, {title(name)}",
            column=column,
            full=full,
            metric=entry.metric,
            digits=digits,
            values=values,
        )


def _printed(facts: Facts) -> Iterator[Group]:
    for number, one in enumerate(facts.printed.accuracies):
        yield Group(
            id=f"decimals/{one.experiment}-{number}/{one.column}",
            place=one.where,
            source=f"paper, {title(one.experiment)}",
            column=one.column,
            full=load_protocol(one.suite, "paper").test_sizes[one.column],
            metric="acc",
            digits=one.decimals,
            values=one.values,
        )


def _judge(group: Group, sizes: TestSizes) -> Finding:
    """Whether the full set can have given every number; if not, which other sizes can."""
    statement = (
        f"{group.place}, {group.column}: each number is one run's over the full {group.full}"
    )
    scale = SCALES.get(group.metric)
    if scale is None:
        text = f"{group.metric} is no mean of whole numbers"
        return Finding(group.id, statement, text, "cannot tell", group.source)
    tried = [Fit.of(group, size, scale) for size in candidates(group.column, group.full, sizes)]
    full, others = tried[0], tried[1:]
    if not full.odd:
        verdict: Verdict = "agrees" if full.by_chance <= CONFIRMS else "cannot tell"
        return Finding(group.id, statement, full.text, verdict, group.source)
    single = [fit for fit in others if fit.size.runs == 1]
    best = max((len(fit.fits) for fit in single), default=0)
    several = [fit for fit in others if fit.size.runs > 1 and len(fit.fits) > best]
    most = max((len(fit.fits) for fit in several), default=0)
    shown = [full, *single, *(fit for fit in several if len(fit.fits) == most)]
    odd = ", ".join(f"{value:.{group.digits}f}" for value in full.odd)
    explained = [fit for fit in single if not fit.odd and fit.by_chance <= EXPLAINS]
    return Finding(
        id=group.id,
        statement=statement,
        evidence=f"not {odd}. {'; '.join(fit.text for fit in shown)}",
        verdict="disagrees",
        source=group.source,
        entries=("D-11",) if explained else ("D-35",),
    )
