"""What the audit finds: one statement, the numbers behind it, and whether they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["agrees", "disagrees", "cannot tell"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "disagrees", "cannot tell")


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        id: a path of words that stays the same while the data do: `counts/table1/llama3-8b/lora-r32`.
        statement: what should hold.
        evidence: the numbers.
        verdict: `cannot tell` where the paper does not say enough, or any number would do.
        source: where the numbers on the other side come from.
        entries: the register's entries that this belongs to.
    """

    id: str
    statement: str
    evidence: str
    verdict: Verdict
    source: str
    entries: tuple[str, ...] = ()


def by_verdict(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """How many findings have each verdict."""
    counted = Counter(finding.verdict for finding in findings)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """One verdict of several findings: a single disagreement counts, then a single open question.

    Raises:
        ValueError: if there are no findings: nothing at all is no agreement.
    """
    counted = by_verdict(findings)
    if not sum(counted.values()):
        raise ValueError("no findings, so no verdict")
    if counted["disagrees"]:
        return "disagrees"
    return "cannot tell" if counted["cannot tell"] else "agrees"
