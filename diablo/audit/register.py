"""The register of disagreements: recorded entries as they are, computed ones from the audit's findings."""

from __future__ import annotations

from collections.abc import Sequence

from diablo.audit.facts import Facts, RegisterEntry
from diablo.audit.findings import Finding, by_verdict, verdict_of
from diablo.data.protocol import unknown

#: Findings whose numbers stand in the register; the others are counted there.
SHOWN = 3


def fill_register(facts: Facts, findings: Sequence[Finding]) -> list[Finding]:
    """A finding for every entry of the register.

    Raises:
        ValueError: if a computed entry has no finding, or a finding names an entry that is not there or is
            a recorded one.
    """
    entries = {entry.id: entry for entry in facts.register.entries}
    of_entry: dict[str, list[Finding]] = {}
    for finding in findings:
        for name in finding.entries:
            if name not in entries:
                raise ValueError(unknown("entry", name, entries, f"register.yaml: {finding.id}"))
            if entries[name].kind == "recorded":
                raise ValueError(f"register.yaml: {name} is recorded, but {finding.id} computes it")
            of_entry.setdefault(name, []).append(finding)
    for name, entry in entries.items():
        if entry.kind == "computed" and name not in of_entry:
            raise ValueError(
                f"register.yaml: {name} is computed, but nothing of the audit is about it"
            )
    return [_entry(entry, of_entry.get(name, [])) for name, entry in entries.items()]


def _entry(entry: RegisterEntry, found: list[Finding]) -> Finding:
    verdict = entry.verdict or verdict_of(found)
    return Finding(
        id=f"register/{entry.id}",
        statement=f"{entry.what} ({entry.where})",
        evidence=_evidence(found) if found else "recorded",
        verdict=verdict,
        source="; ".join(entry.sources),
        entries=(entry.id,),
    )


def _evidence(found: list[Finding]) -> str:
    """How many findings there are, and the numbers of the first few that differ and are no agreement."""
    counted = ", ".join(
        f"{count} {verdict}" for verdict, count in by_verdict(found).items() if count
    )
    telling = [finding for finding in found if finding.verdict != "agrees"] or found
    # Rows of one size have the same evidence: one of them tells all.
    distinct = list({finding.evidence: finding for finding in reversed(telling)}.values())[::-1]
    shown = [f"{finding.statement}: {finding.evidence}" for finding in distinct[:SHOWN]]
    more = f" ({len(telling) - len(shown)} more below)" if len(telling) > len(shown) else ""
    return f"computed: {counted}. {' | '.join(shown)}{more}"
