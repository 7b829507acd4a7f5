"""What a rebuild cost: hours of each step by its own clock and by Snakemake's, processor time, peak memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diablo.report.jobs import Job


@dataclass(frozen=True)
class Benchmark:
    """One of Snakemake's benchmark files: the wall time, None where it says NA.

    Not its CPU time and memory: Snakemake looks at the process that it started, but jobs on a CPU are children of
    the fork server.
    """

    step: str
    seconds: float | None


@dataclass(frozen=True)
class Step:
    """A line of the cost table: what all jobs of a step took."""

    name: str
    jobs: list[Job]
    benchmarks: list[Benchmark]

    @property
    def seconds(self) -> float | None:
        """Wall time of all jobs added up, by their own clocks."""
        return _sum(job.seconds for job in self.jobs)

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of all jobs added up; None where one has not recorded it."""
        found = [job.cpu_seconds for job in self.jobs]
        return None if None in found else _sum(found)

    @property
    def longest(self) -> float | None:
        return _max(job.seconds for job in self.jobs)

    @property
    def memory(self) -> float | None:
        """Largest peak memory of a job, in bytes."""
        return _max(job.memory for job in self.jobs)

    @property
    def device_memory(self) -> float | None:
        """Largest peak memory on a GPU, in bytes."""
        return _max(job.device_memory for job in self.jobs)

    @property
    def clocked(self) -> float | None:
        """Wall time of all jobs added up, by Snakemake's clock."""
        return _sum(one.seconds for one in self.benchmarks)


def steps(jobs: list[Job], benchmarks: list[Benchmark]) -> list[Step]:
    """The lines of the cost table, in the order of the chain."""
    names = dict.fromkeys([job.verb for job in jobs] + [one.step for one in benchmarks])
    return [
        Step(
            name,
            [job for job in jobs if job.verb == name],
            [one for one in benchmarks if one.step == name],
        )
        for name in names
    ]


def read_benchmarks(results: Path) -> list[Benchmark]:
    """Snakemake's benchmarks of a scale: `<results>/../benchmarks/<scale>/**/*.tsv`.

    Raises:
        ValueError: if a file is no benchmark; the message names it.
    """
    folder = results.parent / "benchmarks" / results.name
    return [_benchmark(path, folder) for path in sorted(folder.glob("**/*.tsv"))]


def _benchmark(path: Path, folder: Path) -> Benchmark:
    with path.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines, delimiter="\t"))
    if not found:
        raise ValueError(f"{path}: an empty benchmark")
    try:
        # A quantised model's file has the model's name, a run's the step's: `generate-math.tsv`.
        quantized = path.relative_to(folder).parts[0] == "quantized"
        step = "quantize" if quantized else path.stem.split("-")[0]
        return Benchmark(step, _number(found[-1]["s"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: not one of Snakemake's benchmarks ({error!r})") from None


def _number(text: str) -> float | None:
    return None if text in ("NA", "-", "") else float(text)


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _max(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
