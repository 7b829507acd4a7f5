"""`diablo verify`: are the results still the files that their provenance speaks of? No torch here.

Every provenance has the SHA-256 of its inputs and, since outputs are recorded too, of its outputs. Both are
hashed again. Of results that are older the inputs of the next stage are what is left to compare with.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.io import read_json, sha256_file

#: Files that are provenance or have it inside, in the folder of a scale.
RECORDS = (
    "**/provenance.json",
    "**/*.provenance.json",
    "runs/*/held_out.json",
    *(f"runs/*/{kind}/*.json" for kind in ("scores", "losses", "serving", "ranks")),
)


@dataclass(frozen=True)
class Problem:
    """A file that is not what a record says; `found` is None where the file is missing."""

    file: str
    recorded_by: str
    expected: str
    found: str | None


@dataclass
class Verification:
    """What was compared.

    Attributes:
        verified: files that are what every record of them says.
        changed, missing: those that are not (there).
        not_recorded: files of the results whose hash stands nowhere, so that nothing vouches for them.
        broken: files that should be provenance and cannot be read as such, with the reason.
        records: number of files with provenance.
    """

    verified: list[str] = field(default_factory=list)
    changed: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    not_recorded: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    records: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is changed, missing or broken."""
        return not (self.changed or self.missing or self.broken)

    def as_json(self) -> str:
        """All of it as JSON."""
        return json.dumps({"good": self.good, **dataclasses.asdict(self)}, indent=2)

    def lines(self) -> Iterator[str]:
        """All of it for a reader, what is wrong first."""
        for name, why in self.broken.items():
            yield f"broken: {name}: {why}"
        for one in self.changed:
            yield f"changed: {one.file}"
            yield f"    {one.expected}  recorded in {one.recorded_by}"
            yield f"    {one.found}  found"
        for one in self.missing:
            yield f"missing: {one.file}, recorded in {one.recorded_by}"
        for name in self.not_recorded:
            yield f"not recorded: {name}"
        yield (
            f"{len(self.verified)} verified, {len(self.changed)} changed, {len(self.missing)} missing, "
            f"{len(self.broken)} broken, {len(self.not_recorded)} not recorded ({self.records} records)"
        )


def verify(results: str | Path) -> Verification:
    """Hash again what the provenance of a scale's folder, and of the models beside it, names.

    Args:
        results: `results/<scale>`, whole or in part. Paths in a provenance are looked up inside it (it may
            be a copy), from the folder that holds `results`, then from the working directory.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if nothing in it has provenance.
    """
    results = Path(results)
    if not results.is_dir():
        raise FileNotFoundError(f"{results}: no such folder; give results/<scale>")
    found = Verification()
    hashed = functools.cache(sha256_file)
    vouched: dict[Path, bool] = {}
    records = sorted(_records(results))
    if not records:
        raise ValueError(
            f"{results}: nothing in it has provenance; give results/<scale> with results"
        )
    for record in records:
        try:
            named = dict(_named(record, results))
        except ValueError as error:
            found.broken[str(record)] = str(error)
            continue
        found.records += bool(named)
        for path, expected in named.items():
            actual = hashed(path) if path.is_file() else None
            vouched[path.resolve()] = vouched.get(path.resolve(), True) and actual == expected
            if actual != expected:
                problems = found.missing if actual is None else found.changed
                problems.append(Problem(str(path), str(record), expected, actual))
    found.verified = sorted(str(path) for path, good in vouched.items() if good)
    # A provenance is vouched for by the next stage's inputs, the last one by nothing: it is no result.
    inside = (path for path in sorted(results.rglob("*")) if path.is_file())
    found.not_recorded = [
        str(path)
        for path in inside
        if not path.name.endswith("provenance.json")
        and not _hidden(path, results)
        and path.resolve() not in vouched
    ]
    return found


def _records(results: Path) -> set[Path]:
    found = {path for pattern in RECORDS for path in results.glob(pattern)}
    found = {path for path in found if not _hidden(path, results)}
    return found | set((results.parent / "models").glob("*/provenance.json"))


def _hidden(path: Path, results: Path) -> bool:
    """Checkpoints, and what a killed job left half-written, lie in folders with a dot."""
    return any(part.startswith(".") for part in path.relative_to(results).parts)


def _named(record: Path, results: Path) -> Iterator[tuple[Path, str]]:
    """(file, recorded hash) of the inputs and outputs that a record names.

    Raises:
        ValueError: if the record is not valid JSON or its hashes are none; the message says where.
    """
    facts = read_json(record)
    if isinstance(facts, dict) and "inputs" not in facts:
        facts = facts.get("provenance", facts)
    if not isinstance(facts, dict):
        raise ValueError(f"{record}: a mapping was expected, not {type(facts).__name__}")
    for name, expected in _hashes(record, facts, "inputs"):
        yield _place(Path(name), results), expected
    for name, expected in _hashes(record, facts, "outputs"):
        folder, rest = record.parent, Path(name)
        while rest.parts[:1] == ("..",):
            folder, rest = folder.parent, Path(*rest.parts[1:])
        yield folder / rest, expected


def _hashes(record: Path, facts: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    found = facts.get(key) or {}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(f"{record}: {key}: a mapping of files to hashes was expected")
    return list(found.items())


def _place(path: Path, results: Path) -> Path:
    """Where a recorded input lies: jobs run in the folder that holds `results`; a copy holds its own."""
    places = [results / Path(*path.parts[start:]) for start in range(1, len(path.parts) - 1)]
    # An absolute path is itself, joined to whichever folder.
    places += [results.resolve().parent.parent / path, Path.cwd() / path]
    return next((place for place in places if place.exists()), places[-2])
