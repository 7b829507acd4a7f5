"""Verdicts on claims: what follows from the margins' bounds, never from values alone.

A comparison holds where its whole 95 % interval is on its side and fails where it is on the other. A claim that
*all* of k comparisons hold is refuted by any of them, so a refutation is tested at 5 % / k (Bonferroni), and
likewise the proof of an *any*; the other direction needs no correction (an intersection-union test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from diablo.claims.margins import Combined, Margin, Node, Statement
from diablo.claims.reading import ALPHA, Missing, Reading

Verdict = Literal["holds", "fails", "open", "missing"]


class Numbers(Protocol):
    """Where margins are read: the printed numbers or the reproduced ones."""

    def read(self, margin: Margin) -> Reading | Missing: ...

    def statement(self, words: str) -> tuple[bool, str] | Missing: ...


@dataclass(frozen=True)
class Judged:
    """One leaf of a claim with what was read and what follows."""

    leaf: Margin | Statement
    reading: Reading | Missing | None
    verdict: Verdict
    text: str = ""


@dataclass(frozen=True)
class Finding:
    """A verdict with the leaves that it follows from."""

    verdict: Verdict
    leaves: tuple[Judged, ...]

    @property
    def decisive(self) -> Judged:
        """The leaf that says most: that which fails, else is open, else holds least clearly."""
        order = {"fails": 0, "open": 1, "missing": 2, "holds": 3}
        order["missing"] = 0 if self.verdict == "missing" else 2

        def key(one: Judged) -> tuple[int, float]:
            value = one.reading.value if isinstance(one.reading, Reading) else 0.0
            near = isinstance(one.leaf, Margin) and one.leaf.relation == "near"
            return order[one.verdict], -abs(value) if near else value

        return min(self.leaves, key=key)


def judge(node: Node, numbers: Numbers, hold: float = ALPHA, fail: float = ALPHA) -> Finding:
    """Judge a claim on these numbers; `hold` and `fail` are the levels of the two directions."""
    if isinstance(node, Margin):
        reading = numbers.read(node)
        if isinstance(reading, Missing):
            return Finding("missing", (Judged(node, reading, "missing"),))
        verdict = _margin(node, reading, hold, fail)
        return Finding(verdict, (Judged(node, reading, verdict),))
    if isinstance(node, Statement):
        found = numbers.statement(node.words)
        if isinstance(found, Missing):
            return Finding("missing", (Judged(node, found, "missing"),))
        verdict = "holds" if found[0] else "fails"
        return Finding(verdict, (Judged(node, None, verdict, found[1]),))
    return _combined(node, numbers, hold, fail)


def _combined(node: Combined, numbers: Numbers, hold: float, fail: float) -> Finding:
    k = len(node.parts)
    if node.how != "all":
        hold /= k
    if node.how != "any":
        fail /= k
    found = [judge(part, numbers, hold, fail) for part in node.parts]
    verdicts = [one.verdict for one in found]
    leaves = tuple(leaf for one in found for leaf in one.leaves)
    above = node.place - 1
    counts = {each: verdicts.count(each) for each in ("holds", "fails", "open", "missing")}
    verdict: Verdict
    if counts["missing"] == k:
        verdict = "missing"
    elif node.how == "any":
        verdict = "holds" if counts["holds"] else "fails" if counts["fails"] == k else "open"
    elif counts["fails"] > above or counts["holds"] > k - above:
        verdict = "fails"
    else:
        verdict = "holds" if counts["holds"] == k - above and counts["fails"] == above else "open"
    return Finding(verdict, leaves)


def _margin(margin: Margin, reading: Reading, hold: float, fail: float) -> Verdict:
    if margin.relation == "near":
        return _near(margin, reading, hold, fail)
    holds, fails = reading.bounds(hold), reading.bounds(fail)
    if holds is None or fails is None:
        return "open"
    strict = margin.relation == "above"
    # 83.5 against 83.4 is decided: whatever was rounded, the first is not below the second. A
    # bootstrap interval that ends at zero decides nothing.
    rounded = reading.kind == "rounding"
    if holds[0] > 0 or (holds[0] == 0 and (not strict or (rounded and holds[1] > 0))):
        return "holds"
    if fails[1] < 0 or (fails[1] == 0 and strict and reading.kind in ("rounding", "exact")):
        return "fails"
    return "open"


def _near(margin: Margin, reading: Reading, hold: float, fail: float) -> Verdict:
    if reading.kind == "rounding":
        assert reading.high is not None
        slack, off = reading.high - reading.value, abs(reading.value)
        if off <= margin.within_printed + 1e-9:
            return "holds"
        return "open" if off <= slack + margin.within_printed + 1e-9 else "fails"
    holds, fails = reading.bounds(hold), reading.bounds(fail)
    if holds is None or fails is None:
        return "open"
    if -margin.within <= holds[0] and holds[1] <= margin.within:
        return "holds"
    return "fails" if fails[0] > margin.within or fails[1] < -margin.within else "open"


def reasons(leaves: Sequence[Judged]) -> list[str]:
    """Why leaves are missing, each reason once."""
    found = [one.reading.reason for one in leaves if isinstance(one.reading, Missing)]
    return list(dict.fromkeys(found))
