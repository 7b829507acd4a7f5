"""The audit's data in `workflow/audit/*.yaml` as pydantic models; a mistake names file, key and value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from diablo.audit.findings import Verdict
from diablo.experiments import WORKFLOW
from diablo.settings import Settings
from diablo.validation import Strict, load_yaml

Entry = str
FOLDER = WORKFLOW / "audit"
ENTRY = Field(pattern=r"^D-\d\d$", description="an entry of register.yaml")
OPTIONAL_ENTRY = Field(None, pattern=r"^D-\d\d$", description="an entry of register.yaml")


class ModelName(Strict):
    """A line of Table 11."""

    label: str
    id: str
    model: str = Field(description="a name in the catalogue")
    now: str | None = Field(None, description="the name that the id leads to today")
    entry: Entry | None = OPTIONAL_ENTRY


class Column(Strict):
    """Which rows of an experiment a column of a hyper-parameter table is about, and its own values."""

    model: str
    num_blocks: int | None = Field(None, ge=1)
    part: str = Field("", description="of the experiment")
    methods: list[str] = Field(["diablo"], min_length=1)
    settings: Settings = Settings()

    @property
    def slug(self) -> str:
        """`llama2-7b-n64`, `t5-base-n64-mrpc`."""
        size = f"-n{self.num_blocks}" if self.num_blocks else ""
        return f"{self.model}{size}" + (f"-{self.part}" if self.part else "")


class HyperTable(Strict):
    """One of Tables 12 to 20."""

    table: int
    section: str
    experiment: str
    steps: int | None = Field(None, ge=1, description="of a whole run, for its warm-up ratio")
    shared: Settings
    columns: list[Column] = Field(min_length=1)

    def settings(self, column: Column) -> dict[str, Any]:
        """Everything that the table says of a column."""
        return column.settings.over(self.shared).model_dump(exclude_none=True)


class Hyperparameters(Strict):
    """hyperparameters.yaml: the paper's Tables 11 to 20."""

    models: list[ModelName]
    tables: list[HyperTable]

    def column(self, table: int, model: str, num_blocks: int | None) -> dict[str, Any]:
        """What one of the tables says.

        Raises:
            ValueError: if there is no such table or column.
        """
        for one in self.tables:
            for column in one.columns if one.table == table else []:
                if (column.model, column.num_blocks) == (model, num_blocks):
                    return one.settings(column)
        raise ValueError(f"hyperparameters.yaml: no Table {table} with {model}, N = {num_blocks}")


class Place(Strict):
    model: str
    num_blocks: int | None = None


class Script(Strict):
    """Published settings to be compared with a column of a hyper-parameter table."""

    source: str
    entry: Entry = ENTRY
    table: int
    column: Place
    model: str | None = Field(None, description="that is trained; None: not said")
    settings: Settings


class Layers(Strict):
    source: str
    entry: Entry = ENTRY
    last: int = Field(ge=0, description="index of the last layer that is trained by default")


class Released(Strict):
    """released.yaml: settings of published code."""

    scripts: list[Script]
    layers: Layers


class Accuracies(Strict):
    """Accuracies of one task that no experiment's YAML has."""

    where: str
    experiment: str
    suite: str
    column: str
    decimals: int = Field(ge=0)
    values: list[float] = Field(min_length=1)


class Panel(Strict):
    panel: str
    experiment: str
    group: str
    bars: dict[str, float] = Field(min_length=1, description="averages, by the row's label")


class Figure2(Strict):
    source: str
    entry: Entry = ENTRY
    panels: list[Panel]


class Attribution(Strict):
    """Which sources a table names for its rows, in some of its groups or in all."""

    experiment: str
    groups: list[str] | None = None
    sources: list[str]
    how: str


class Printed(Strict):
    """printed.yaml: what the paper prints outside the experiments' tables."""

    accuracies: list[Accuracies]
    figure2: Figure2
    attributions: list[Attribution]


class TestSizes(Strict):
    """sizes.yaml: numbers of examples that an accuracy may be of."""

    batches: list[int] = Field(min_length=1)
    runs: list[int] = Field(min_length=1)
    others: dict[str, dict[int, str]] = Field({}, description="by column: size and what it is")


class CitedRow(Strict):
    """A row of another paper, with the rows of ours that it may have been copied to."""

    source: str
    experiment: str
    group: str
    method: str
    rank: int | None = Field(None, ge=1)
    numbers: dict[str, float] = Field(min_length=1)
    entry: Entry | None = OPTIONAL_ENTRY


class Cited(Strict):
    """cited.yaml: rows of other papers."""

    rows: list[CitedRow]


class RegisterEntry(Strict):
    """One disagreement: computed by the audit, or recorded by people with their verdict."""

    id: Entry = ENTRY
    what: str
    where: str
    kind: Literal["computed", "recorded"]
    verdict: Verdict | None = Field(None, description="of recorded entries alone")
    sources: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _verdict_of_the_recorded(self) -> RegisterEntry:
        if (self.verdict is None) != (self.kind == "computed"):
            raise ValueError(
                f"{self.id}: verdict = {self.verdict}; recorded entries have one, computed ones do not"
            )
        return self


class Register(Strict):
    """register.yaml."""

    entries: list[RegisterEntry]

    @model_validator(mode="after")
    def _distinct(self) -> Register:
        ids = [entry.id for entry in self.entries]
        if twice := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"entries: {', '.join(twice)} given twice")
        return self


@dataclass(frozen=True)
class Facts:
    """All files of `workflow/audit/`; a field is a file of its name."""

    hyperparameters: Hyperparameters
    released: Released
    printed: Printed
    sizes: TestSizes
    cited: Cited
    register: Register


MODELS: dict[str, type[Strict]] = {
    "hyperparameters": Hyperparameters,
    "released": Released,
    "printed": Printed,
    "sizes": TestSizes,
    "cited": Cited,
    "register": Register,
}


def load_facts(folder: Path = FOLDER) -> Facts:
    """Read and validate the audit's data.

    Raises:
        FileNotFoundError: if one of the files is missing.
        ValueError: names the file, each bad key with its value, and the nearest valid key.
    """
    files: dict[str, Any] = {
        field.name: load_yaml(MODELS[field.name], folder / f"{field.name}.yaml")
        for field in fields(Facts)
    }
    return Facts(**files)
