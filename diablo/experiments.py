"""The words of the project as pydantic models: settings, rows, experiment.

An experiment (one table or figure of the paper) is data, in `workflow/experiments/*.yaml`; a scale
(`diablo.scales`) says what is really used in place of the paper's models and data; the config (`diablo.config`) is
what a user edits. `diablo.planning` turns the three into runs (`diablo.specs`). Nothing
here imports torch: the workflow reads these models while it plans.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from diablo.data.protocol import unknown
from diablo.figures import Chart
from diablo.methods import RETAINED
from diablo.settings import KeptPattern, Probe, Quantize, Retain, Settings
from diablo.validation import Strict, load_yaml

WORKFLOW = Path(__file__).resolve().parent.parent / "workflow"

Device = Literal["cpu", "gpu"]
Kind = Literal["accuracy", "gradient-variance", "effective-rank", "gradient-norms"]
GradientGroup = Literal["lora_A", "lora_B", "diablo_blocks"]

_PART = re.compile(r"[a-z][a-z0-9_]*")


class Row(Settings):
    """One row of a table: a method with its settings and the numbers that the paper reports."""

    label: str
    method: str
    origin: Literal["copied", "retrained", "unknown"] = "unknown"
    source: str | None = None
    num_blocks: int | None = Field(None, ge=1)
    chosen_blocks: int | None = Field(None, ge=1, description="SMT's blocks in the whole model")
    rank: int | None = Field(None, ge=1)
    alpha: float | None = Field(None, gt=0)
    rank_of: int | None = Field(
        None,
        ge=1,
        description="instead of `rank`: as many parameters as DiaBlo's with so many blocks",
    )
    alpha_of_rank: float | None = Field(
        None, gt=0, description="instead of `alpha`, with `rank_of`: alpha over rank"
    )
    pattern: KeptPattern | None = Field(None, description="what a retained update keeps")
    group: GradientGroup | None = Field(None, description="parameters whose gradients are measured")
    quantize: Quantize | None = Field(None, description="the base model is quantised first")
    not_run: str | None = Field(None, description="why the row is only reported")
    params: str | None = Field(None, description="#Params as printed in the paper")
    minutes: float | None = Field(None, gt=0, description="of training, as printed in the paper")
    reported: dict[str, float | None] = {}
    unstated: list[str] = []
    notes: list[str] = []
    parts: dict[str, Settings] = Field({}, description="settings of single parts, by their names")

    @model_validator(mode="after")
    def _one_size(self) -> Row:
        if self.rank_of is None:
            if self.alpha_of_rank is not None:
                raise ValueError(f"{self.label}: `alpha_of_rank` is for rows with `rank_of`")
            return self
        for key in ("rank", "alpha", "num_blocks", "chosen_blocks"):
            if getattr(self, key) is not None:
                raise ValueError(f"{self.label}: `{key}` and `rank_of` exclude each other")
        return self

    @property
    def slug(self) -> str:
        """Name of the row, as filters use it: `lora-r32`, `diablo-n64`, `full`, `gptq4g64-lora-r64`.

        Several rows of a group may share it; `diablo.apart` then tells them apart.
        """
        return f"{self.quantize.label}-{self._method_slug}" if self.quantize else self._method_slug

    @property
    def _method_slug(self) -> str:
        if self.num_blocks is not None:
            pattern = f"-{self.pattern}" if self.pattern else ""
            return f"{self.method}{pattern}-n{self.num_blocks}"
        if self.chosen_blocks is not None:
            return f"{self.method}-b{self.chosen_blocks}"
        if self.rank_of is not None:
            return f"{self.method}-as-n{self.rank_of}"
        return f"{self.method}-r{self.rank}" if self.rank is not None else self.method


class Group(Strict):
    """Rows that share one of the paper's models."""

    model: str
    label: str
    defaults: Settings = Settings()
    parts: dict[str, Settings] = Field({}, description="defaults of single parts, by their names")
    rows: list[Row]


class Part(Strict):
    """A training set with the suite that scores it: every row of the table is trained once for each."""

    train: str = Field(description="the paper's training set (a name in the catalogue)")
    suite: str
    columns: dict[str, str] = Field(min_length=1)
    readings: dict[str, str] = {}
    defaults: Settings = Settings()


class Across(Strict):
    """Rows of one label in several groups: a small table of them side by side, and lines over N."""

    label: str = Field(description="the axis of the lines, in words")


class Tune(Strict):
    """Learning-rate trials, the same number for every method, judged on held-out training examples.

    A trial trains without the held-out examples, the run itself on all of them with the learning rate
    whose trial has the least held-out answer loss.
    """

    factors: list[float] = Field(min_length=1, description="of the row's own learning rate")
    held_out: int = Field(ge=1, description="training examples, the same for every trial")

    @model_validator(mode="after")
    def _distinct_factors(self) -> Tune:
        if len(set(self.factors)) != len(self.factors) or min(self.factors) <= 0:
            raise ValueError(f"factors: {self.factors} must be positive, each given once")
        return self


class Experiment(Strict):
    """One table or figure of the paper, or one of a user's own (`diablo.own`).

    It has either one training set, suite and columns, or several `parts` that each have theirs.
    """

    name: str
    title: str
    section: str | None = Field(None, description="of the paper")
    kind: Kind = "accuracy"
    train: str = Field("", description="the paper's training set (a name in the catalogue)")
    suite: str = ""
    columns: dict[str, str] = Field({}, description="entries of the suite's scores: their headings")
    average: str | None = None
    readings: dict[str, str] = Field(
        {}, description="further entries, beside the columns and in no average: their headings"
    )
    parts: dict[str, Part] = Field({}, description="instead of train, suite, columns and readings")
    calibration: str | None = Field(None, description="data set that quantisers calibrate on")
    quantizers: list[Quantize] = Field([], description="also in the table of quantisers")
    chart: Chart | None = None
    across: Across | None = None
    every: int | None = Field(None, ge=1, description="steps between two measured gradient norms")
    probe: Probe | None = Field(None, description="kind effective-rank: what is decomposed")
    gradient_examples: int | None = Field(
        None, ge=1, description="kind gradient-norms: training examples behind each gradient"
    )
    notes: list[str] = Field([], description="what a reader of all its numbers should know")
    tune: Tune | None = None
    retain: Retain | None = Field(None, description="for rows of method retained: the search of γ")
    base_lr: float | None = Field(
        None, gt=0, description="a scale's own learning rate is multiplied with the row's over this"
    )
    groups: list[Group]

    @model_validator(mode="after")
    def _parts_or_one(self) -> Experiment:
        keys = ("train", "suite", "columns")
        if not self.parts:
            for key in keys:
                if key not in self.model_fields_set:
                    raise ValueError(f"{key}: this key is required (or `parts`, each with its own)")
            return self
        for key in (*keys, "readings"):
            if getattr(self, key):
                raise ValueError(f"{key}: each of the `parts` has its own; leave it out here")
        if self.kind != "accuracy":
            raise ValueError(f"parts: for experiments of kind accuracy, not {self.kind}")
        whose: dict[str, str] = {}
        for name, part in self.parts.items():
            if not _PART.fullmatch(name):
                raise ValueError(
                    f"parts: {name!r}: use small letters, digits and _, a letter first"
                )
            for entry in (*part.columns, *part.readings):
                if entry in whose:
                    raise ValueError(f"parts: {entry} is shown twice, by {whose[entry]} and {name}")
                whose[entry] = name
        return self

    @model_validator(mode="after")
    def _one_number_to_chart(self) -> Experiment:
        if self.chart and not self.average and (self.parts or len(self.columns) != 1):
            raise ValueError("chart: needs an `average`, or one column and no parts")
        return self

    @model_validator(mode="after")
    def _known_parts(self) -> Experiment:
        for group in self.groups:
            named = [(group.label, group.parts)]
            named += [(f"{group.label} / {row.label}", row.parts) for row in group.rows]
            for place, settings in named:
                for name in settings:
                    if name not in self.parts:
                        where = f"{self.name}: {place}"
                        raise ValueError(unknown("part", name, self.parts or ["none"], where))
        return self

    @model_validator(mode="after")
    def _what_the_kind_needs(self) -> Experiment:
        for key, kind in (("probe", "effective-rank"), ("gradient_examples", "gradient-norms")):
            given = getattr(self, key) is not None
            if given != (self.kind == kind):
                need = "needs it" if self.kind == kind else f"has none; it is for kind {kind}"
                raise ValueError(f"{self.name}: {key}: an experiment of kind {self.kind} {need}")
        return self

    @model_validator(mode="after")
    def _retained_rows(self) -> Experiment:
        for group in self.groups:
            for row in group.rows:
                where = f"{self.name}: {group.label} / {row.label}"
                if (row.pattern is None) == (row.method == RETAINED):
                    raise ValueError(
                        f"{where}: `pattern` = {row.pattern} with method {row.method}; rows of method "
                        f"{RETAINED} need one, others must have none"
                    )
                if row.method == RETAINED and self.retain is None:
                    raise ValueError(
                        f"{where}: needs `retain` in the experiment, with `held_out` and `gammas`"
                    )
        return self

    @model_validator(mode="after")
    def _reported_columns(self) -> Experiment:
        valid = [
            *self.columns,
            *(key for part in self.parts.values() for key in part.columns),
            "avg",
        ]
        for group in self.groups:
            for row in group.rows:
                if (row.group is None) == (self.kind == "gradient-variance"):
                    raise ValueError(
                        f"{self.name}: {group.label} / {row.label}: `group` = {row.group}; rows of kind "
                        "gradient-variance need one, others must have none"
                    )
                for key in row.reported:
                    if key not in valid:
                        where = f"{self.name}: {group.label} / {row.label}"
                        raise ValueError(unknown("column", key, valid, where))
        return self


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
