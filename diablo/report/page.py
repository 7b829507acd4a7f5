"""The verb `report`: a folder of results in, one page (or an archive of it) out."""

from __future__ import annotations

import datetime
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from diablo.io import atomic_path, write_text
from diablo.provenance import code_version
from diablo.report import cost, formats, records
from diablo.report.assets import Assets
from diablo.report.items import SECTIONS, read_items, scale_of, shown_runs
from diablo.report.jobs import Job, Run, read_jobs, read_runs

#: Bytes that a page sent by mail should not have more of.
LIMIT = 15_000_000


def render_report(results: str | Path, out: str | Path, as_zip: bool = False) -> Path:
    """Write the report of what is in a folder of results; whatever is not there is listed as not run.

    Args:
        results: `results/<scale>`; may be incomplete or missing. Benchmarks and models are looked up
            beside it.
        out: the page, a single file that fetches nothing.
        as_zip: instead of the page an archive `<out>.zip`: `index.html`, and the tables, figures, specs
            and provenance as files beside it.

    Returns:
        The file that was written.

    Raises:
        ValueError: if a file in the folder is broken; the message names it. Nothing is written then.
    """
    results, out = Path(results), Path(out)
    assets = Assets(results, beside=as_zip)
    html = _template().render(**_found(results, assets))
    if as_zip:
        out = out.with_suffix(".zip")
        _archive(out, html, assets.files)
    else:
        write_text(out, html)
    size = out.stat().st_size
    advice = "" if size <= LIMIT else "; large for one file, --zip keeps the images beside it"
    print(f"{out}: {size / 1e6:.1f} MB{advice}")
    return out


def _found(results: Path, assets: Assets) -> dict[str, Any]:
    """All that the template shows."""
    jobs, shown = read_jobs(results), shown_runs(results)
    benchmarks = cost.read_benchmarks(results)
    runs = read_runs(results, jobs, shown)
    anchors = {name: f"run-{name}" for name in runs}
    scale = scale_of(results)
    items = read_items(results, assets, anchors, scale)
    items["serving"].records = records.serving_records(results)
    if assets.beside:
        _keep_provenance(results, assets, runs)
    environments = Counter(job.environment for job in jobs)
    stand_ins = dict.fromkeys(text for item in items.values() for text in item.stand_ins)
    return {
        "scale": scale,
        "results": results.as_posix(),
        "now": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code": Job("", {"verb": "report", "code": code_version()}),
        "experiments": [item for name, item in items.items() if name not in SECTIONS],
        "sections": [items[name] for name in SECTIONS],
        "stand_ins": list(stand_ins),
        "jobs": jobs,
        "runs": list(runs.values()),
        "anchors": anchors,
        "headings": {name: item.heading for name, item in items.items() if item.made},
        "steps": cost.steps(jobs, benchmarks),
        "total": cost.Step("all", jobs, benchmarks),
        "commits": Counter(job.commit for job in jobs),
        "locks": Counter(job.lock for job in jobs),
        "machines": Counter(_machine(job) for job in jobs),
        "environments": {text: number for number, text in enumerate(environments, start=1)},
        "facts_of": _facts,
    }


def _machine(job: Job) -> str:
    """Device and system of a job: the CPU's cores are not recorded, the threads are the job's own."""
    return f"{job.device} on {job.facts.get('platform', 'an unrecorded system')}"


#: Facts of a job that stand in lines of their own, or are too long for one.
_ELSEWHERE = frozenset(
    (
        *("verb", "started", "code", "lock", "inputs", "seed", "host", "platform", "python"),
        *(
            "packages",
            "wall_seconds",
            "cpu_seconds",
            "peak_memory_bytes",
            "peak_device_memory_bytes",
            "device",
        ),
        *("stand_ins", "rows", "captions", "generated"),
    )
)


def _facts(job: Job) -> dict[str, str]:
    """What a job recorded of its own (steps, tokens, precision ...), as short texts."""
    found = {key: value for key, value in job.facts.items() if key not in _ELSEWHERE}
    return {
        key.replace("_", " "): text
        for key, value in found.items()
        if value not in (None, [], {}) and len(text := formats.plain(value)) <= 400
    }


def _keep_provenance(results: Path, assets: Assets, runs: Mapping[str, Run]) -> None:
    """Put the specs and the provenance of all runs into the archive; score files are too large."""
    for name, run in runs.items():
        paths = [results / job.file for job in run.jobs if job.file.endswith("provenance.json")]
        for path in [results / "runs" / name / "spec.json", *paths]:
            if path.is_file():
                assets.links([path])


def _archive(out: Path, html: str, files: Mapping[str, Path]) -> None:
    """The page and its files; equal contents give equal bytes but for the page's time."""
    with (
        atomic_path(out) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        contents = {"index.html": html.encode()} | {
            name: path.read_bytes() for name, path in sorted(files.items())
        }
        for name, content in contents.items():
            member = zipfile.ZipInfo(f"report/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)


def _template() -> jinja2.Template:
    packages = ("diablo.report", "diablo.tables")  # the tables' style is theirs
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hours": formats.hours,
        "duration": formats.duration,
        "gib": formats.gib,
        "verdict": records.verdict,
        "markup": Markup,
        "plain": formats.plain,
        "from_json": formats.from_json,
    }
    return environment.get_template("report.html.jinja")
