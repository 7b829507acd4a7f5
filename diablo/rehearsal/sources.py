"""`diablo rehearse`: a mirror with made-up files in place of all that the paper scale downloads."""

from __future__ import annotations

from pathlib import Path

from diablo.config import Config
from diablo.data.catalog import Catalog, Dataset
from diablo.data.protocol import unknown
from diablo.data.source_kinds import GithubSource, HfFileSource, HfSource
from diablo.io import atomic_path, sha256_json
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

    catalog, models, datasets = _declared()
    provenance = Provenance("rehearse")
    with atomic_path(out) as folder:
        folder.mkdir()
        for name in models:
            model = catalog.model(name)
            (source,) = model.sources
            assert isinstance(source, HfSource), "the paper's models are on the Hub"
            write_model(name, model.shapes, folder / source.location)
        written = [path for name in datasets for path in write_files(catalog.dataset(name), folder)]
        provenance.add(models=models, files=written)
        provenance.write(folder / "provenance.json")


def declared_digest() -> str:
    """Hash of all that `make_sources` writes files for, as it is declared."""
    catalog, models, datasets = _declared()
    shapes = [catalog.model(name).shapes.model_dump() for name in models]
    digests = [catalog.model(name).digest for name in models]
    return sha256_json([shapes, digests, [catalog.dataset(name).digest for name in datasets]])


def _declared() -> tuple[Catalog, list[str], list[str]]:
    """The catalogue, and the names of the models and data sets in it that a whole rehearsal needs."""
    plan = resolve(Config(scale="paper", rehearse=True))
    models = {name for table in plan.tables for name in plan.models_of(table)}
    models |= {one.model for one in plan.quantized.values()}
    datasets = {name for table in plan.tables for name in plan.datasets_of(table)}
    return plan.catalog, sorted(models), sorted(datasets)


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
