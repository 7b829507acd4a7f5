"""`diablo rehearse`: a mirror with made-up files in place of all that the paper scale downloads."""

from __future__ import annotations

from pathlib import Path

from diablo.config import Config
from diablo.data.catalog import Dataset
from diablo.data.protocol import unknown
from diablo.data.source_kinds import GithubSource, HfFileSource, HfSource
from diablo.io import atomic_path
from diablo.planning import resolve
from diablo.provenance import Provenance
from diablo.rehearsal.files import WRITERS

#: Rows of a file whose size nothing checks.
ROWS = 300
#: Training rows are numbered from here on, so that they ask other questions than the tests, but for the first
#: `SHARED`, which the builders have to find and remove.
TRAIN_FROM = 1_000_000
SHARED = 2


def make_sources(out: str | Path) -> None:
    """Write files for every model and data set that the rehearsal's plan needs, in a mirror's layout.

    Args:
        out: folder, written whole or not at all; gets `provenance.json` too.

    Raises:
        ValueError: if nothing writes a format that the catalogue declares.
    """
    from diablo.rehearsal.models import write_model

    plan = resolve(Config(scale="paper", rehearse=True))
    models = {run.model for run in plan.runs.values()} | {q.model for q in plan.quantized.values()}
    datasets = {run.dataset for run in plan.runs.values() if run.dataset}
    datasets |= {suite.dataset for suite in plan.suites.values()}
    datasets |= {
        Path(q.calibration_path).name for q in plan.quantized.values() if q.calibration_path
    }
    provenance = Provenance("rehearse")
    with atomic_path(out) as folder:
        folder.mkdir()
        for name in sorted(models):
            model = plan.catalog.model(name)
            (source,) = model.sources
            assert isinstance(source, HfSource), "the paper's models are on the Hub"
            write_model(name, model.shapes, folder / source.location)
        written = [
            path
            for name in sorted(datasets)
            for path in write_files(plan.catalog.dataset(name), folder)
        ]
        provenance.add(models=sorted(models), files=written)
        provenance.write(folder / "provenance.json")


def write_files(dataset: Dataset, folder: Path) -> list[str]:
    """The files of a data set that would be downloaded and are not there yet; their paths in `folder`.

    Raises:
        ValueError: if nothing writes a file's format.
    """
    written = []
    for source in dataset.sources:
        if not isinstance(source, GithubSource | HfFileSource):
            continue
        if source.format not in WRITERS:
            raise ValueError(unknown("format", source.format, WRITERS, source.name))
        path = folder / source.location
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[source.format](path, source.part, numbers(dataset, source.part))
            written.append(source.name)
    return written


def numbers(dataset: Dataset, part: str) -> list[int]:
    """Numbers of the rows of a file: as many as the catalogue checks or cuts, else `ROWS`."""
    task, split = part.split("/")
    count = dataset.options.get("expect_test", {}).get(task, ROWS) if split == "test" else ROWS
    if task in dataset.options.get("rows", {}):
        # Some rows more than are taken, as filters drop some before.
        count = max(end for _, end in dataset.options["rows"].values()) + ROWS
    if split == "test":
        return list(range(count))
    # Of texts no part is a question that could be one of both.
    shared = 0 if dataset.builder == "text" else SHARED
    return [*range(shared), *range(TRAIN_FROM, TRAIN_FROM + count - shared)]
