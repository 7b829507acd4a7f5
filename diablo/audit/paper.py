"""The paper's tables as the audit reads them: all rows of all experiments with the settings they have there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from diablo.data.catalog import Catalog, load_catalog
from diablo.experiments import WORKFLOW, Experiment, Group, Row, load_experiment
from diablo.parts import parts_of
from diablo.realise import linear_modules
from diablo.rows import paper_settings
from diablo.settings import Settings
from diablo.shapes import Shapes


@dataclass(frozen=True)
class Line:
    """One row of one table, in one part of it where the table has several.

    Attributes:
        experiment: the part's, with the part's own columns.
        settings: those of the paper, as its YAML resolves them.
    """

    experiment: Experiment
    part: str
    group: Group
    row: Row
    settings: Settings
    shapes: Shapes

    @property
    def id(self) -> str:
        """`table1/llama3-8b/diablo-n64`, with the group's own words where a model has several."""
        label = self.group.label
        # "Llama2-7B, 4 bits": the second part; "Retained, sparsity 1/64": both.
        words = label.split(", ")[-1] if label.startswith("Llama") else label.replace(", ", " ")
        detail = "-" + words.lower().replace(" 1/", " 1:") if ", " in label else ""
        part = f"/{self.part}" if self.part else ""
        return f"{self.experiment.name}/{self.group.model}{detail}{part}/{self.row.slug}"

    @property
    def place(self) -> str:
        """`Table 1, Llama3-8B, DiaBlo N = 64`."""
        part = f" ({self.part})" if self.part else ""
        return (
            f"{title(self.experiment.name)}{part}, {self.group.label}, {self.row.label}{self.size}"
        )

    @property
    def size(self) -> str:
        """` N = 64`, ` r = 32` or nothing."""
        if self.row.rank:
            return f" r = {self.row.rank}"
        return f" N = {self.row.num_blocks}" if self.row.num_blocks else ""

    def modules(self) -> list[str]:
        """Names of the trained linear layers."""
        return linear_modules(self.settings, self.shapes)


@dataclass(frozen=True)
class Paper:
    """All experiments that there are, and the models' shapes."""

    experiments: dict[str, Experiment]
    catalog: Catalog

    def shapes(self, model: str) -> Shapes:
        declared = self.catalog.model(model).shapes
        return Shapes(**declared.model_dump(exclude={"heads", "vocab"}))

    def lines(self, name: str | None = None, parts: bool = True) -> Iterator[Line]:
        """Rows of one experiment or of all; with `parts` once for each part, else once."""
        for experiment in self.experiments.values():
            if name not in (None, experiment.name):
                continue
            taken = (
                parts_of(experiment) if parts else dict([next(iter(parts_of(experiment).items()))])
            )
            for part, alone in taken.items():
                for group in alone.groups:
                    for row in group.rows:
                        settings = paper_settings(group, row)
                        shapes = self.shapes(group.model)
                        yield Line(alone, part if parts else "", group, row, settings, shapes)


def load_paper(folder: Path = WORKFLOW) -> Paper:
    """All experiments in `folder`/experiments and its catalogue.

    Raises:
        ValueError: if a file does not fit; says where.
    """
    names = sorted((file.stem for file in (folder / "experiments").glob("*.yaml")), key=in_order)
    experiments = {name: load_experiment(name, folder / "experiments") for name in names}
    return Paper(experiments, load_catalog(folder / "catalog.yaml"))


def in_order(name: str) -> tuple[str, int]:
    """Sorts table2 before table10, and figures after tables."""
    word = name.rstrip("0123456789")
    return ("" if word == "table" else word, int(name[len(word) :] or 0))


def title(name: str) -> str:
    """`Table 10` of `table10`."""
    word, number = in_order(name)
    return f"{(word or 'table').capitalize()} {number}" if number else name


def exact(value: float) -> Fraction:
    """A printed number exactly: 0.1 is a tenth."""
    return Fraction(str(value))


def decimals(value: float) -> int:
    """Digits after the point that a number needs."""
    return len(str(value).partition(".")[2].rstrip("0"))
