"""The verb `claims`: every claim judged on the printed and on the reproduced numbers, and written down."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from diablo.claims.addresses import Addresses, load_addresses
from diablo.claims.judge import Finding, judge, reasons
from diablo.claims.margins import Node, tree
from diablo.claims.model import Claim, Claims, load_claims
from diablo.claims.reading import Missing, Reading, Reported
from diablo.claims.reproduced import Reproduced
from diablo.claims.words import sentence
from diablo.experiments import WORKFLOW
from diablo.io import write_text
from diablo.provenance import Provenance
from diablo.tables.claims import WRITERS, Page
from diablo.tables.statistics import RESAMPLES


@dataclass(frozen=True)
class Verdict:
    """One claim with what was found on each kind of number.

    Attributes:
        reported, reproduced: the verdicts, in words.
        reported_text, reproduced_text: the numbers behind them, or the reason why there is no verdict.
        evidence: where the bounds of the reproduced numbers come from.
        stand_ins: what stands in for the paper's models and data behind them.
    """

    claim: Claim
    reported: str
    reported_text: str
    reproduced: str
    reproduced_text: str
    evidence: str = ""
    stand_ins: str = ""

    @property
    def predicate(self) -> str:
        """What was judged, as in `workflow/claims.yaml`."""
        given = self.claim.model_dump(include={"says", "here"}, exclude_none=True)
        return json.dumps(given, ensure_ascii=False)


def claims(
    folder: str | Path, path: Path = WORKFLOW / "claims.yaml", resamples: int = RESAMPLES
) -> list[Verdict]:
    """Judge all claims, on whatever tables there are, and write `claims.csv`, `.md`, `.html` and `.tex`.

    Args:
        folder: `results/<scale>/tables`, read and written; it need not exist.
        path: the claims.
        resamples: bootstrap resamples.

    Raises:
        ValueError: if a claim names no cell or an ambiguous one, a printed number contradicts its experiment,
            or a table does not fit its experiment or its runs; the message names the file or the claim.
    """
    folder = Path(folder)
    provenance = Provenance("claims", [path])
    declared = load_claims(path)
    reproduced = Reproduced(folder, resamples)
    verdicts = evaluate(declared, load_addresses(declared), reproduced)
    page = Page(verdicts, folder.parent.name)
    for suffix, write in WRITERS.items():
        write_text(folder / f"claims{suffix}", write(page))
    found = {
        what: Counter(getattr(one, what) for one in verdicts) for what in ("reported", "reproduced")
    }
    provenance.add(
        verdicts={what: dict(sorted(counts.items())) for what, counts in found.items()},
        tables=list(map(str, reproduced.files)),
        resamples=resamples,
    )
    provenance.write(folder / "claims.provenance.json")
    for what, counts in found.items():
        print(f"{what}: {', '.join(f'{n} {name}' for name, n in counts.most_common())}")
    print(f"{len(verdicts)} claims in {folder / 'claims.html'}")
    return verdicts


def evaluate(declared: Claims, addresses: Addresses, numbers: Reproduced) -> list[Verdict]:
    """The verdicts of all claims, in their order.

    Raises:
        ValueError: see `claims`; the message starts with the claim's id.
    """
    verdicts = []
    for claim in declared.claims:
        try:
            verdicts.append(_evaluate(claim, addresses, numbers))
        except ValueError as error:
            raise ValueError(f"{claim.id}: {error}") from None
    return verdicts


def _evaluate(claim: Claim, addresses: Addresses, numbers: Reproduced) -> Verdict:
    says = tree(claim.says, addresses) if claim.says else None
    reported, reported_text = _reported(says)
    if claim.not_here:
        return Verdict(claim, reported, reported_text, "not tested", claim.not_here)
    if claim.waits_for:
        if not any(line.source == claim.waits_for and line.row for line in addresses.lines):
            return Verdict(claim, reported, reported_text, "not declared yet", claim.waits_for)
        if claim.here is None:
            text = f"{claim.waits_for} is declared by now; this claim names none of its cells yet"
            return Verdict(claim, reported, reported_text, "not tested", text)
    tested = tree(claim.here, addresses) if claim.here else says
    assert tested is not None
    found = judge(tested, numbers)
    readings = [one.reading for one in found.leaves if isinstance(one.reading, Reading)]
    verdict = _reproduced(found)
    return Verdict(
        claim,
        reported,
        reported_text,
        verdict,
        # The reasons say it too, for claims of which only a part was not run.
        sentence(found, printed=False).replace(f"{verdict}: ", ""),
        "; ".join(dict.fromkeys(one.evidence for one in readings)),
        "; ".join(dict.fromkeys(one.stand_ins for one in readings if one.stand_ins)),
    )


def _reported(says: Node | None) -> tuple[str, str]:
    """The verdict on the printed numbers, and the numbers."""
    if says is None:
        return "no number printed", ""
    found = judge(says, Reported())
    missing = reasons(found.leaves)
    if found.verdict == "missing":
        return "no number printed", "; ".join(missing)
    names = {
        "holds": "holds (as printed)",
        "fails": "fails (as printed)",
        "open": "within rounding",
    }
    if found.verdict == "open" and missing:
        return "not printed in full", "; ".join(missing)
    return names[found.verdict], sentence(found, printed=True)


def _reproduced(found: Finding) -> str:
    if found.verdict == "open" and reasons(found.leaves):
        # Counts of parameters are there without any run; alone they decide nothing.
        kinds = {one.reading.kind for one in found.leaves if isinstance(one.reading, Reading)}
        if kinds <= {"exact"}:
            return "not run"
    if found.verdict != "missing":
        return {"open": "inconclusive"}.get(found.verdict, found.verdict)
    undeclared = [
        isinstance(one.reading, Missing) and one.reading.undeclared for one in found.leaves
    ]
    return "not declared yet" if all(undeclared) else "not run"
