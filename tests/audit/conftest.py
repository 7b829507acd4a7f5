"""The paper and the facts, read once, and everything that the audit finds in them."""

from __future__ import annotations

import pytest

from diablo.audit.facts import Facts, load_facts
from diablo.audit.findings import Finding
from diablo.audit.paper import Line, Paper, load_paper
from diablo.audit.run import find


@pytest.fixture(scope="session")
def paper() -> Paper:
    return load_paper()


@pytest.fixture(scope="session")
def facts() -> Facts:
    return load_facts()


@pytest.fixture(scope="session")
def parts(paper: Paper, facts: Facts) -> dict[str, list[Finding]]:
    return find(paper, facts)


@pytest.fixture(scope="session")
def findings(parts: dict[str, list[Finding]]) -> dict[str, Finding]:
    return {finding.id: finding for found in parts.values() for finding in found}


@pytest.fixture(scope="session")
def lines(paper: Paper) -> dict[str, Line]:
    return {line.id: line for line in paper.lines(parts=False)}
