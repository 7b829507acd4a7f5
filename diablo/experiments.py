"""The words of the project as pydantic models: config, experiment, scale, run, suite.

An experiment (one table or figure of the paper) is data, in `workflow/experiments/*.yaml`; a scale
says what is really used in place of the paper's models and data, in `workflow/scales/*.yaml`; the
config is what a user edits. `diablo.planning` turns the three into runs. Nothing here imports
torch: the workflow reads these models while it plans.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from diablo.data.protocol import unknown
from diablo.io import sha256_json, write_json
from diablo.validation import load_yaml

WORKFLOW = Path(__file__).resolve().parent.parent / "workflow"

ScaleName = Literal["demo", "mini", "paper"]
Variant = Literal["paper", "released", "peer"]
Precision = Literal["fp32", "fp16", "bf16", "bf16-pure"]

#: The paper's letters for a Llama's linear layers.
MODULES = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "g": "gate_proj",
    "u": "up_proj",
    "d": "down_proj",
}


class Strict(BaseModel):
    """A model that refuses unknown keys (the message names the nearest valid one)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(Strict):
    """Hyper-parameters of a fine-tuning run; None means: not said here, look further up."""

    modules: str | None = Field(None, description="letters of the paper, such as qkvud")
    optimizer: Literal["adamw"] | None = None
    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    schedule: Literal["linear", "cosine", "constant"] | None = None
    warmup_steps: int | None = Field(None, ge=0)
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1, description="stop after this many optimiser steps")
    batch_size: int | None = Field(None, ge=1, description="examples per optimiser step")
    micro_batch_size: int | None = Field(None, ge=1, description="examples per forward pass")
    max_length: int | None = Field(None, ge=8, description="tokens")
    max_grad_norm: float | None = Field(None, gt=0)
    precision: Precision | None = None
    dropout: float | None = Field(None, ge=0, lt=1)
    gradient_checkpointing: bool | None = None

    @model_validator(mode="after")
    def _known_letters(self) -> Settings:
        for letter in self.modules or "":
            if letter not in MODULES:
                raise ValueError(
                    unknown("module letter", letter, MODULES, f"modules={self.modules}")
                )
        return self

    def over(self, *below: Settings) -> Settings:
        """These settings where given, else those of `below`, first one first."""
        merged: dict[str, Any] = {}
        for layer in (self, *below):
            for key in Settings.model_fields:
                value = getattr(layer, key)
                if value is not None:
                    merged.setdefault(key, value)
        return Settings(**merged)


class Row(Settings):
    """One row of a table: a method with its settings and the numbers that the paper reports."""

    label: str
    method: str
    origin: Literal["copied", "retrained", "unknown"]
    source: str | None = None
    num_blocks: int | None = Field(None, ge=1)
    rank: int | None = Field(None, ge=1)
    alpha: float | None = Field(None, gt=0)
    params: str | None = Field(None, description="#Params as printed in the paper")
    reported: dict[str, float | None]
    unstated: list[str] = []
    notes: list[str] = []

    @property
    def slug(self) -> str:
        """Name of the row inside its group, as filters use it: `lora-r32`, `diablo-n64`, `full`."""
        if self.num_blocks is not None:
            return f"{self.method}-n{self.num_blocks}"
        return f"{self.method}-r{self.rank}" if self.rank is not None else self.method


class Group(Strict):
    """Rows that share one of the paper's models."""

    model: str
    label: str
    defaults: Settings = Settings()
    rows: list[Row]


class Curve(Strict):
    """A figure of the average over one setting of the rows, beside the table."""

    over: Literal["num_blocks"]
    label: str = Field(description="the axis, in words")


class Experiment(Strict):
    """One table or figure of the paper."""

    name: str
    title: str
    section: str
    train: str = Field(description="the paper's training set (a name in the catalogue)")
    suite: str
    columns: dict[str, str]
    average: str | None = None
    curve: Curve | None = None
    groups: list[Group]

    @model_validator(mode="after")
    def _reported_columns(self) -> Experiment:
        valid = [*self.columns, "avg"]
        for group in self.groups:
            for row in group.rows:
                for key in row.reported:
                    if key not in valid:
                        where = f"{self.name}: {group.label} / {row.label}"
                        raise ValueError(unknown("column", key, valid, where))
        return self


class Limits(Strict):
    """Caps, printed wherever a number depends on them."""

    train: int | None = Field(None, ge=1, description="training examples in total")
    test_per_task: int | None = Field(None, ge=1, description="test examples of each task")
    steps: int | None = Field(None, ge=1, description="optimiser steps")


class Filters(Strict):
    """Which rows are run: rows (`diablo-n64`), methods (`lora`) or groups (`llama2-7b`)."""

    only: list[str] = []
    skip: list[str] = []


class SuiteUse(Strict):
    """What a scale really evaluates for one of the paper's suites."""

    dataset: str
    decoding: dict[str, Any] = Field({}, description="overrides of the protocol's decoding")
    note: str | None = Field(None, description="why decoding differs; printed with the numbers")


class RankReference(Strict):
    """Ranks keep the paper's ratio of adapter sizes: rank r of `model` against `num_blocks`."""

    model: str
    num_blocks: int


class Scale(Strict):
    """How big a rebuild is: what stands in for the paper's models and data, and the settings."""

    name: ScaleName
    describe: str
    models: dict[str, str] = {}
    datasets: dict[str, str] = {}
    suites: dict[str, SuiteUse] = {}
    blocks: dict[int, int | None] | None = None
    ranks: RankReference | None = None
    settings: dict[str, Settings] = Field({}, description="by method; `all` for every method")
    limits: Limits = Limits()


class Config(Strict):
    """config.yaml, validated. Every key has a default, so an empty file is a valid config."""

    scale: ScaleName = "demo"
    mirror: str | None = None
    cache: str | None = None
    protocol: Variant = "paper"
    seeds: list[int] = Field([0], min_length=1)
    filters: Filters = Filters()
    limits: Limits = Limits()
    epochs: float | None = Field(None, gt=0)
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    results: str = "results"

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Config:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice; give each once")
        return self


class RunSpec(Strict):
    """One fine-tuning run, fully resolved: the only input that `diablo finetune` reads."""

    run: str
    scale: str
    model: str
    model_path: str
    dataset: str | None
    data_path: str | None
    suite: str
    variant: str
    method: str
    num_blocks: int | None = None
    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    modules: list[str] = []
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "linear"
    warmup_steps: int = 0
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 16
    micro_batch_size: int = 16
    max_length: int = 256
    max_grad_norm: float = 1.0
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    seed: int = 0
    train_limit: int | None = None

    @property
    def digest(self) -> str:
        """Hash of everything that defines the run (all fields but its own name)."""
        return sha256_json(self.model_dump(exclude={"run"}))


class SuiteSpec(Strict):
    """One suite's evaluation, fully resolved: tasks, data, cap and decoding."""

    suite: str
    variant: str
    dataset: str
    data_path: str
    tasks: list[str]
    limit_per_task: int | None = None
    decoding: dict[str, Any]
    notes: list[str] = []


def load_experiment(name: str, folder: Path = WORKFLOW / "experiments") -> Experiment:
    """The experiment `name`; ValueError with the nearest name if there is none."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = [file.stem for file in folder.glob("*.yaml")]
        raise ValueError(unknown("experiment", name, names, str(folder)))
    experiment = load_yaml(Experiment, path)
    if experiment.name != name:
        raise ValueError(f"{path}: name is {experiment.name!r}, the file says {name!r}")
    return experiment


def load_scale(name: str, folder: Path = WORKFLOW / "scales") -> Scale:
    """The scale `name`; ValueError with the nearest name if there is none."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = [file.stem for file in folder.glob("*.yaml")]
        raise ValueError(unknown("scale", name, names, str(folder)))
    return load_yaml(Scale, path)


#: The JSON schemas that editors can use; a test keeps `workflow/schemas/` in step with these.
SCHEMAS: dict[str, type[BaseModel]] = {"config": Config, "experiment": Experiment, "scale": Scale}


if __name__ == "__main__":
    for schema_name, schema_model in SCHEMAS.items():
        write_json(WORKFLOW / "schemas" / f"{schema_name}.json", schema_model.model_json_schema())
