"""Copied rows: whether the paper says where they come from, and whether they are what their source has."""

from __future__ import annotations

from collections.abc import Iterator

from diablo.audit.facts import CitedRow, Facts, Panel
from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Line, Paper, title


def check_origins(paper: Paper, facts: Facts) -> list[Finding]:
    """Every copied row, then Figure 2, whose bars are copied from the tables."""
    lines = [line for line in paper.lines(parts=False) if line.row.origin != "retrained"]
    return [
        *(finding for line in lines if line.row.reported for finding in _attributed(line, facts)),
        *(finding for line in lines for finding in _cited(line, facts.cited.rows)),
        *(
            finding
            for panel in facts.printed.figure2.panels
            for finding in _panel(paper, facts, panel)
        ),
        *_best_blocks(paper, facts),
    ]


def _attributed(line: Line, facts: Facts) -> Iterator[Finding]:
    """Whether the table names the row's source."""
    row, name = line.row, line.experiment.name
    naming = [
        one
        for one in facts.printed.attributions
        if one.experiment == name and (one.groups is None or line.group.label in one.groups)
    ]
    if not naming:
        return
    named = any(row.source in one.sources for one in naming)
    how = "; ".join(one.how for one in naming)
    verdict: Verdict = "agrees" if named else "disagrees"
    sources = [source for one in naming for source in one.sources]
    names = f", which name {', '.join(sources)}" if sources else ""
    evidence = f"copied from: {row.source} (`source` of its YAML); the table has: {how}{names}"
    if row.origin == "unknown":
        verdict, evidence = "cannot tell", "neither a source nor the authors are named for this row"
    yield Finding(
        id=f"origins/{line.id}",
        statement=f"{line.place}: {title(name)} says where the row comes from",
        evidence=evidence,
        verdict=verdict,
        source=f"paper, {title(name)}",
        entries=() if row.origin == "unknown" or named else ("D-23",),
    )


def _cited(line: Line, cited: list[CitedRow]) -> Iterator[Finding]:
    """The row's numbers beside those of its source, at the same rank and at others."""
    row = line.row
    where = (line.experiment.name, line.group.label, row.method)
    theirs = [one for one in cited if (one.experiment, one.group, one.method) == where]
    if not theirs:
        return
    at_rank = [one for one in theirs if one.rank in (row.rank, None)]
    equal = [one for one in theirs if _differing(line, one) == []]
    same = any(one in equal for one in at_rank)
    words = []
    for one in at_rank:
        odd = _differing(line, one)
        size = f"r = {one.rank}" if one.rank else "its row"
        words.append(
            f"{size} there has {', '.join(f'{key} {one.numbers[key]}' for key in odd)}"
            if odd
            else f"all {len(one.numbers)} numbers are those of {size} there"
        )
    if not same:
        words += [f"all {len(one.numbers)} are those of r = {one.rank} there" for one in equal]
    entries = {one.entry for one in theirs if one.entry}
    yield Finding(
        id=f"cited/{line.id}",
        statement=f"{line.place}: the numbers are those of its source for this rank",
        evidence="; ".join(words) or "the source has no row of this rank",
        verdict="agrees" if same else "disagrees",
        source=(at_rank or theirs)[0].source,
        entries=tuple(sorted(entries)),
    )


def _differing(line: Line, cited: CitedRow) -> list[str]:
    """Columns in which a row differs from a cited one."""
    return [key for key, value in cited.numbers.items() if line.row.reported.get(key) != value]


def _bars(paper: Paper, panel: Panel) -> dict[str, list[Line]]:
    """The rows whose average a bar shows, by the bar's label."""
    lines = [
        line
        for line in paper.lines(panel.experiment, parts=False)
        if line.group.label == panel.group
    ]
    return {
        label: [
            line
            for line in lines
            if (line.row.label, line.row.reported.get("avg")) == (label, value)
        ]
        for label, value in panel.bars.items()
    }


def _panel(paper: Paper, facts: Facts, panel: Panel) -> Iterator[Finding]:
    """Whether a panel's bars are rows of its table, and all of one rank."""
    if panel.experiment not in paper.experiments:
        return
    figure, bars = facts.printed.figure2, _bars(paper, panel)
    lost = [label for label, lines in bars.items() if not lines]
    yield Finding(
        id=f"figure2/{panel.panel.replace(', ', '-')}/bars",
        statement=f"Figure 2 ({panel.panel}): every bar is an average of {title(panel.experiment)}",
        evidence=f"not {', '.join(lost)}" if lost else f"all {len(bars)} are",
        verdict="disagrees" if lost else "agrees",
        source=figure.source,
    )
    ranks = {
        label: lines[0].row.rank for label, lines in bars.items() if lines and lines[0].row.rank
    }
    yield Finding(
        id=f"figure2/{panel.panel.replace(', ', '-')}/ranks",
        statement=f"Figure 2 ({panel.panel}): all bars with a rank have the same",
        evidence=", ".join(f"{label} r = {rank}" for label, rank in ranks.items()),
        verdict="agrees" if len(set(ranks.values())) <= 1 else "disagrees",
        source=figure.source,
        entries=(figure.entry,),
    )


def _best_blocks(paper: Paper, facts: Facts) -> Iterator[Finding]:
    """Whether DiaBlo's bars are of one N."""
    figure = facts.printed.figure2
    shown: dict[str, int] = {}
    for panel in figure.panels:
        for line in (line for lines in _bars(paper, panel).values() for line in lines):
            if line.row.num_blocks:
                shown[panel.panel] = line.row.num_blocks
    if shown:
        yield Finding(
            id="figure2/diablo/blocks",
            statement="Figure 2: DiaBlo's bars have the same N in every panel",
            evidence="; ".join(f"{panel}: N = {blocks}" for panel, blocks in shown.items()),
            verdict="agrees" if len(set(shown.values())) == 1 else "disagrees",
            source=figure.source,
            entries=(figure.entry,),
        )
