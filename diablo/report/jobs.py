"""What was run, read from the provenance beside every output: by whom, where, when, at what cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo.io import read_json

#: The verbs in the order of the chain; others come after them.
ORDER = (
    *("download", "quantize", "finetune", "generate", "score", "measure"),
    *("ranks", "check-serving", "aggregate", "theorems", "claims", "audit", "speed"),
)


@dataclass(frozen=True)
class Job:
    """One job: the facts of its provenance, and the file that has them (relative to the results)."""

    file: str
    facts: Mapping[str, Any]

    @property
    def verb(self) -> str:
        return str(self.facts["verb"])

    @property
    def run(self) -> str | None:
        """The run whose folder has the file."""
        parts = self.file.split("/")
        return parts[1] if parts[0] == "runs" and len(parts) > 2 else None

    @property
    def seconds(self) -> float | None:
        """Wall time by the job's own clock."""
        return self.facts.get("wall_seconds")

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of its process and of children that have ended; imports not counted."""
        return self.facts.get("cpu_seconds")

    @property
    def memory(self) -> int | None:
        """Peak memory of its largest process, in bytes."""
        return self.facts.get("peak_memory_bytes")

    @property
    def device_memory(self) -> int | None:
        """Peak memory on the GPU, in bytes."""
        return self.facts.get("peak_device_memory_bytes")

    @property
    def device(self) -> str:
        return str(self.facts.get("device") or "cpu")

    @property
    def commit(self) -> str:
        """`3bdb44502`, with a word where files were changed; a version where there was no repository."""
        code = self.facts.get("code") or {}
        if "commit" in code:
            return code["commit"][:12] + (" with changes" if code.get("dirty") else "")
        return f"version {code['version']}, no repository" if "version" in code else "not recorded"

    @property
    def lock(self) -> str:
        """The packages lock's SHA-256."""
        return (self.facts.get("lock") or {}).get("sha256", "not recorded")

    @property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of each input."""
        return dict(self.facts.get("inputs") or {})

    @property
    def environment(self) -> str:
        """Lock, Python, system and packages as one text: equal where they are equal."""
        kept = {key: self.facts.get(key) for key in ("python", "platform", "packages")}
        return json.dumps({"lock": self.lock, **kept}, sort_keys=True)


@dataclass
class Run:
    """A fine-tuning run: its spec, its jobs, and the tables that show it."""

    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    @property
    def trained(self) -> Job | None:
        """The job that trained it, if its provenance is here."""
        return next((job for job in self.jobs if job.verb == "finetune"), None)


def read_jobs(results: Path) -> list[Job]:
    """All jobs of a scale's folder, and the downloads of models beside it, in the order of the chain.

    Raises:
        ValueError: if a file is not valid JSON or no provenance; the message names it.
    """
    found = [job for path in _files(results) for job in _job(results, path)]
    found += [
        job
        for path in sorted((results.parent / "models").glob("*/provenance.json"))
        for job in _job(results.parent, path)
    ]
    return sorted(found, key=lambda job: (_place(job.verb), job.facts.get("started") or ""))


def read_runs(results: Path, jobs: list[Job], shown: Mapping[str, list[str]]) -> dict[str, Run]:
    """Runs by name: those with a folder, and those that a table names though their folder is gone.

    Args:
        results: the folder of a scale.
        jobs: of `read_jobs`.
        shown: name of a run -> tables that show it.

    Raises:
        ValueError: if a spec is not valid JSON; the message names the file.
    """
    folders = results / "runs"
    names = {path.parent.name for path in folders.glob("*/*")} | set(shown)
    runs = {name: Run(name, tables=shown.get(name, [])) for name in sorted(names)}
    for name, run in runs.items():
        spec = folders / name / "spec.json"
        run.spec = read_mapping(spec) if spec.is_file() else {}
    for job in jobs:
        if job.run in runs:
            runs[job.run].jobs.append(job)
    return runs


def _place(verb: str) -> int:
    return ORDER.index(verb) if verb in ORDER else len(ORDER)


def _files(results: Path) -> Iterator[Path]:
    """Files with provenance; checkpoints and half-written files lie in folders with a dot."""
    patterns = ["**/provenance.json", "**/*.provenance.json", "runs/*/held_out.json"]
    patterns += [f"runs/*/{kind}/*.json" for kind in ("scores", "losses", "ranks", "serving")]
    found = {path for pattern in patterns for path in results.glob(pattern)}
    for path in sorted(found):
        hidden = any(part.startswith(".") for part in path.relative_to(results).parts)
        # A table's job writes the same facts beside its figures.
        twin = path.parent.name == "figures" and (results / "tables" / path.name).is_file()
        if not hidden and not twin:
            yield path


def _job(results: Path, path: Path) -> list[Job]:
    """The job behind a file; none for records without a verb."""
    facts = read_mapping(path)
    if "verb" not in facts:
        facts = facts.get("provenance") or {}
    return [Job(path.relative_to(results).as_posix(), facts)] if "verb" in facts else []


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises:
        ValueError: if it is not valid JSON or something else; the message names the file.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a mapping was expected, not {type(value).__name__}")
    return value
