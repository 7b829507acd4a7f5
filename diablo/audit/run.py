"""Run every check of the paper and write the audit's table."""

from __future__ import annotations

from pathlib import Path

from diablo.audit.averages import check_averages
from diablo.audit.blocks import check_blocks
from diablo.audit.counts import count_parameters
from diablo.audit.decimals import check_decimals
from diablo.audit.facts import FOLDER, Facts, load_facts
from diablo.audit.findings import Finding, by_verdict
from diablo.audit.flops import count_flops
from diablo.audit.hyperparameters import compare_hyperparameters
from diablo.audit.origins import check_origins
from diablo.audit.paper import Paper, load_paper
from diablo.audit.register import fill_register
from diablo.experiments import WORKFLOW
from diablo.io import write_text
from diablo.provenance import Provenance


def find(paper: Paper, facts: Facts) -> dict[str, list[Finding]]:
    """All findings by part of the page, the register first.

    Raises:
        ValueError: if the register and the findings do not fit each other.
    """
    parts = {
        "hyperparameters": compare_hyperparameters(paper, facts),
        "flops": count_flops(paper),
        "counts": [*count_parameters(paper), *check_blocks(paper, facts.released.layers)],
        "averages": check_averages(paper),
        "decimals": check_decimals(paper, facts),
        "origins": check_origins(paper, facts),
    }
    register = fill_register(facts, [finding for found in parts.values() for finding in found])
    return {"register": register, **parts}


def audit(out: str | Path) -> dict[str, list[Finding]]:
    """Check the paper, write what was found, and return it by part.

    Args:
        out: folder that gets `tables/audit.csv`, `.md`, `.html`, `.tex` and `audit.provenance.json`.

    Raises:
        FileNotFoundError: if a file of `workflow/audit` is missing.
        ValueError: if a file of `workflow/audit`, an experiment or the catalogue does not fit; says where.
    """
    # pandas and the templates: not needed where only the findings are (`find`).
    from diablo.audit.table import audit_page, to_csv
    from diablo.tables.sections import WRITERS

    inputs = [*sorted(FOLDER.glob("*.yaml")), *sorted((WORKFLOW / "experiments").glob("*.yaml"))]
    provenance = Provenance("audit", inputs=[*inputs, WORKFLOW / "catalog.yaml"])
    parts = find(load_paper(), load_facts())
    page, tables = audit_page(parts), Path(out) / "tables"
    for suffix, write in WRITERS.items():
        text = to_csv(parts) if suffix == ".csv" else write(page)
        write_text(tables / f"audit{suffix}", text)
    counted = {name: dict(by_verdict(found)) for name, found in parts.items()}
    provenance.add(findings=counted)
    provenance.write(tables / "audit.provenance.json")
    for name, verdicts in counted.items():
        print(f"{name}: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.items())}")
    return parts
