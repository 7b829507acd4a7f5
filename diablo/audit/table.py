"""The audit's page: the register, what was found in all, and each part's findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd

from diablo.audit.findings import VERDICTS, Finding, by_verdict
from diablo.tables.sections import Columns, Page, Section

HEADING = "The paper, audited"
PLACE = (
    "from the paper's numbers as this project's YAML files have them, and from facts with their sources; no model, "
    "no data set, the same at every scale"
)
TEXT = r"p{0.1\linewidth}p{0.45\linewidth}p{0.9\linewidth}lp{0.3\linewidth}"
REGISTER: Columns = {
    "Id": lambda line: line.entries,
    "What": lambda line: line.statement,
    "Verdict": lambda line: line.verdict,
    "Computed, or recorded by people": lambda line: line.evidence,
    "Sources": lambda line: line.source,
}
FINDINGS: Columns = {
    "Register": lambda line: line.entries or "-",
    "Statement": lambda line: line.statement,
    "Evidence": lambda line: line.evidence,
    "Verdict": lambda line: line.verdict,
    "Source": lambda line: line.source,
}


def _count(verdict: str, line: Any) -> str:
    return str(getattr(line, verdict.replace(" ", "_")))


SUMMARY: Columns = {
    "Part": lambda line: line.title,
    **{verdict: partial(_count, verdict) for verdict in VERDICTS},
}
#: Parts in the order of the page: title, how to read it.
PARTS: Mapping[str, tuple[str, str]] = {
    "register": (
        "The register of disagreements",
        "Computed entries follow from the findings below; recorded ones were read in the sources that they name.",
    ),
    "hyperparameters": (
        "Hyper-parameters: this project's experiments against Tables 11 to 20",
        "Every value of the paper's tables beside what the experiment's YAML resolves to; then settings of published "
        "code, and what the paper leaves open.",
    ),
    "flops": (
        "Section 4.5: FLOPs and memory at equal parameters",
        "A token's matrix products of each extra path, forward + backward, over all layers. At equal parameters both "
        "take 2 FLOPs a parameter forward and 4 backward; the rank that this needs is seldom a whole number.",
    ),
    "counts": (
        "#Params recomputed",
        "Agrees: the row's own count (DoRA with magnitudes, LoRI's B alone), K and V as they are, the modules that the "
        "paper states, in per cent of the base or in millions. “Fits” names every convention that gives the printed number.",
    ),
    "averages": (
        "Averages recomputed",
        "Disagrees: further from the mean of the printed columns than the rounding of all of them together allows.",
    ),
    "decimals": (
        "Test sets behind the decimals",
        "Whether some whole number of right answers gives the printed number. “Chance” is the share of printable "
        "numbers that do; where all fit and chance alone would often do as well, nothing can be told.",
    ),
    "origins": (
        "Copied rows and their sources, and Figure 2",
        "Whether the table says that a row is copied, and whether its numbers are those of the source.",
    ),
}


def audit_page(parts: Mapping[str, Sequence[Finding]]) -> Page:
    """The page of all findings; those that agree are counted on it and stand in the CSV.

    Args:
        parts: findings by the names of `PARTS`.
    """
    summary = pd.DataFrame(
        [
            {
                "title": PARTS[name][0],
                **{key.replace(" ", "_"): n for key, n in by_verdict(found).items()},
            }
            for name, found in parts.items()
        ]
    )
    reading = "Every finding is in the CSV, those that agree too. A recorded entry's verdict is its readers'."
    sections = [_section("register", parts["register"])]
    sections.append(Section("summary", "Findings by part", reading, SUMMARY, summary, "lrrr"))
    sections += [_section(name, found) for name, found in parts.items() if name != "register"]
    return Page("audit", HEADING, PLACE, sections)


def _section(name: str, found: Sequence[Finding]) -> Section:
    title, reading = PARTS[name]
    shown = [
        one for one in found if one.verdict != "agrees" or name in ("register", "flops", "counts")
    ]
    if hidden := len(found) - len(shown):
        reading += f" {hidden} more agree and stand in the CSV alone."
    return Section(
        name, title, reading, REGISTER if name == "register" else FINDINGS, frame(shown), TEXT
    )


def frame(found: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a table with a column for each of their attributes."""
    columns = list(Finding.__dataclass_fields__)
    rows = [{**asdict(one), "entries": ", ".join(one.entries)} for one in found]
    return pd.DataFrame(rows, columns=columns)


def to_csv(parts: Mapping[str, Sequence[Finding]]) -> str:
    """All findings; `part` says of which part of the page."""
    frames = [frame(found).assign(part=name) for name, found in parts.items()]
    together = pd.concat(frames, ignore_index=True)
    return together[["part", *(c for c in together if c != "part")]].to_csv(
        index=False, lineterminator="\n"
    )
