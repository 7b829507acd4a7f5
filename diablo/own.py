"""A user's own experiments: one YAML file each, with its models, data and protocol, outside this tree.

Such an experiment is run as it is written: no scale maps its models, data or settings. Everything that
can be told from the files without torch is checked here, while the workflow plans. docs/own-comparison.md
shows a whole file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from diablo.config import ScaleName
from diablo.data.catalog import Catalog, Dataset, Model
from diablo.data.local import check_file, check_tasks, model_shapes
from diablo.data.protocol import FOLDER as PROTOCOLS
from diablo.data.protocol import format_fields, unknown
from diablo.data.source_kinds import LocalSource
from diablo.experiments import WORKFLOW, Experiment
from diablo.io import sha256_file
from diablo.scales import Scale, SuiteUse
from diablo.validation import Strict, load_yaml

DESCRIBE = "a user's own experiment, run as its YAML says; the scale changes nothing"

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PLACE = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class OwnModel(Strict):
    """A local Hugging Face folder."""

    path: str = Field(description="relative to the YAML file")
    title: str | None = None


class OwnData(Strict):
    """Two JSONL files; a record needs `answer` and the fields that prompt and response name."""

    train: str = Field(description="relative to the YAML file")
    test: str = Field(description="relative to the YAML file")


class OwnProtocol(Strict):
    """How a record becomes a prompt, and how the answer is read from what the model says."""

    prompt: str = Field(description="format string over a record's fields")
    response: str = Field(description="what is learnt; format string over a record's fields")
    pattern: str = Field(description="regular expression; group 1 of its first match, or all of it")
    max_new_tokens: int = Field(ge=1)
    max_length: int = Field(ge=8, description="tokens of a training example")
    stop: list[str] = Field(default_factory=list)
    num_beams: int = Field(1, ge=1)
    mask_prompt: bool = Field(True, description="no loss on the prompt")
    special_tokens: bool = Field(True, description="the tokenizer's own before the prompt, as BOS")
    describe: str | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @field_validator("prompt", "response")
    @classmethod
    def _shows_the_record(cls, text: str) -> str:
        if not format_fields(text):
            raise ValueError("names no field of a record, such as {question}")
        return text

    @field_validator("prompt")
    @classmethod
    def _hides_the_answer(cls, text: str) -> str:
        if "answer" in format_fields(text):
            raise ValueError("shows {answer}, which is what the model has to say")
        return text

    @field_validator("stop")
    @classmethod
    def _stops_say_something(cls, stop: list[str]) -> list[str]:
        if "" in stop:
            raise ValueError("an empty text would stop at once")
        return stop

    def training(self) -> dict[str, Any]:
        """What training depends on: another pattern or decoding trains nothing again."""
        return self.model_dump(
            include={"prompt", "response", "max_length", "mask_prompt", "special_tokens"}
        )


class OwnExperiment(Experiment):
    """A table of a user's own.

    `suite` names its protocol (default: the experiment's name), `average` the last column.
    """

    models: dict[str, OwnModel] = Field(default_factory=dict)
    data: dict[str, OwnData] = Field(min_length=1)
    protocol: OwnProtocol

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {"average": "Average", "suite": value.get("name", ""), **value}

    @model_validator(mode="after")
    def _names(self) -> OwnExperiment:
        if self.kind != "accuracy":
            raise ValueError(f"kind = {self.kind!r}: an experiment of your own is of kind accuracy")
        if self.parts:
            raise ValueError("parts: an experiment of your own has one training set and one suite")
        if not self.columns:
            raise ValueError("columns: name at least one task, as {my_task: Heading}")
        if not self.average:
            raise ValueError("average: give the heading of the last column, or leave the key out")
        if self.readings or self.quantizers:
            raise ValueError("readings, quantizers: for the project's own tables")
        for group in self.groups:
            for row in group.rows:
                if row.quantize is not None:
                    raise ValueError(
                        f"{group.label} / {row.label}: `quantize` is for the declared data sets; quantise "
                        "the model with `diablo quantize` and give its folder as the model"
                    )
        for key in ("name", "suite"):
            if not _NAME.fullmatch(value := getattr(self, key)):
                raise ValueError(
                    f"{key} = {value!r}: use small letters, digits and _, a letter first"
                )
        for key in ("models", "data"):
            for name in getattr(self, key):
                if not _PLACE.fullmatch(name):
                    raise ValueError(f"{key}: {name!r}: use small letters, digits, _, . and -")
        if self.train not in self.data:
            raise ValueError(unknown("data set", self.train, self.data, "train"))
        return self

    @property
    def only_task(self) -> str | None:
        """Task of records that name none."""
        return next(iter(self.columns)) if len(self.columns) == 1 else None

    def scale(self, name: ScaleName) -> Scale:
        """The scale that changes nothing; `name` only says where the results go."""
        use = SuiteUse(dataset=self.train)
        return Scale(name=name, describe=DESCRIBE, suites={self.suite: use})


def load_own(path: str | Path | None, built_in: Collection[str]) -> list[OwnExperiment]:
    """The experiments of a YAML file, or of all those in a folder; their paths made absolute.

    Args:
        path: as in the config, relative to the working directory; None for no experiments.
        built_in: names of the project's own experiments.

    Raises:
        ValueError: no such file, a key or value that does not fit, or a name that is taken.
    """
    if path is None:
        return []
    place = Path(path).expanduser()
    files = sorted([*place.glob("*.yaml"), *place.glob("*.yml")]) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"experiments={path}: no such YAML file, nor a folder with YAML files")
    suites = {file.stem for file in PROTOCOLS.glob("*.yaml")}
    taken: dict[str, str] = dict.fromkeys(built_in, "an experiment of the project")
    taken |= dict.fromkeys(_rules(), "a rule of the workflow")
    taken |= {f"aggregate_{name}": "a rule of the workflow" for name in built_in}
    found = []
    for file in files:
        experiment = load_yaml(OwnExperiment, file)
        if experiment.name in taken:
            raise ValueError(
                f"{file}: name = {experiment.name!r} is taken by {taken[experiment.name]}"
            )
        if experiment.suite in suites:
            raise ValueError(f"{file}: suite = {experiment.suite!r} is a protocol of the project")
        taken[experiment.name] = taken[f"aggregate_{experiment.name}"] = str(file)
        experiment = _absolute(experiment, file.resolve().parent)
        _check_data(experiment, str(file))
        found.append(experiment)
    return found


def _rules() -> list[str]:
    """Names of the workflow's rules, which are targets too."""
    files = [WORKFLOW.parent / "Snakefile", *(WORKFLOW / "rules").glob("*.smk")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return [name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)]


def _absolute(experiment: OwnExperiment, folder: Path) -> OwnExperiment:
    def place(path: str) -> str:
        return str((folder / Path(path).expanduser()).resolve())

    models = {
        name: model.model_copy(update={"path": place(model.path)})
        for name, model in experiment.models.items()
    }
    data = {
        name: OwnData(train=place(entry.train), test=place(entry.test))
        for name, entry in experiment.data.items()
    }
    return experiment.model_copy(update={"models": models, "data": data})


def _check_data(experiment: OwnExperiment, where: str) -> None:
    templates = {key: getattr(experiment.protocol, key) for key in ("prompt", "response")}
    for name, data in experiment.data.items():
        try:
            for path in (data.train, data.test):
                check_file(Path(path), templates, experiment.only_task)
            if name == experiment.train:
                check_tasks(Path(data.test), experiment.columns, experiment.only_task)
        except ValueError as error:
            raise ValueError(f"{where}: data.{name}: {error}") from None


def with_own(catalog: Catalog, experiments: list[OwnExperiment]) -> Catalog:
    """The catalogue with the models and data sets of a user's experiments.

    Raises:
        ValueError: if a name is taken by something else, or a model cannot be used; says where.
    """
    models: dict[str, Model] = {}
    datasets: dict[str, Dataset] = {}
    for experiment in experiments:
        for name, entry in experiment.models.items():
            where = f"{experiment.name}: models.{name}"
            try:
                model = _model(entry, name)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            if name in catalog.models or models.setdefault(name, model) != model:
                raise ValueError(f"{where}: another model has this name; choose another one")
        for name, data in experiment.data.items():
            dataset = _dataset(data, name, experiment)
            if name in catalog.datasets or datasets.setdefault(name, dataset) != dataset:
                raise ValueError(
                    f"{experiment.name}: data.{name}: another data set, or the same files with "
                    "another prompt, has this name; choose another one"
                )
    return catalog.model_copy(
        update={"models": catalog.models | models, "datasets": catalog.datasets | datasets}
    )


def _model(entry: OwnModel, name: str) -> Model:
    return Model(
        title=entry.title or name,
        kind="causal",
        builder="folder",
        sources=[LocalSource(kind="local", path=entry.path)],
        shapes=model_shapes(Path(entry.path)),
        licence="the user's own",
    )


def _dataset(data: OwnData, name: str, experiment: OwnExperiment) -> Dataset:
    def source(split: Any, path: str) -> LocalSource:
        return LocalSource(kind="local", path=path, sha256=sha256_file(path), split=split)

    protocol = experiment.protocol
    return Dataset(
        title=name,
        stand_in=None,
        builder="jsonl",
        options={
            "prompt": protocol.prompt,
            "response": protocol.response,
            "task": experiment.only_task,
        },
        sources=[source("train", data.train), source("test", data.test)],
        licence="the user's own",
    )
