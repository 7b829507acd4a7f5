"""How big a rebuild is: what is really used for the paper's models and data (`workflow/scales/*.yaml`).

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from diablo.apart import names
from diablo.config import Limits, ScaleName
from diablo.data.protocol import unknown
from diablo.experiments import WORKFLOW, Device, Experiment
from diablo.figures import Averages
from diablo.settings import Precision, Retain, Settings
from diablo.validation import Strict, load_yaml


class SuiteUse(Strict):
    """What a scale really evaluates for one of the paper's suites."""

    dataset: str
    decoding: dict[str, Any] = Field({}, description="overrides of the protocol's decoding")
    note: str | None = Field(None, description="why decoding differs; printed with the numbers")
    missing: dict[str, str] = Field({}, description="tasks that the data set lacks, and why")


class RankReference(Strict):
    """Ranks keep the paper's ratio of adapter sizes: rank r of `model` against `num_blocks`."""

    model: str
    num_blocks: int


class Calibration(Strict):
    """How much text a quantiser looks at."""

    samples: int = Field(128, ge=1)
    length: int = Field(2048, ge=8, description="tokens a sample")
    perplexity_tokens: int = Field(8192, ge=512, description="of the test text, before and after")
    iterations: int | None = Field(None, ge=1, description="MagR's steps; null: as the row says")


class Sizing(Strict):
    """Caps and settings (by method; `all` for every method)."""

    limits: Limits = Limits()
    settings: dict[str, Settings] = {}


class SizingByDevice(Sizing):
    """Caps and settings of a CPU, and what differs on a GPU."""

    gpu: Sizing = Sizing()

    def on(self, device: Device) -> list[Sizing]:
        """The sizings that hold on a device, the one that decides first."""
        return [self.gpu, self] if device == "gpu" else [self]


class ExperimentSizing(SizingByDevice):
    """What one experiment has different from the others at a scale."""

    every: int | None = Field(None, ge=1)
    ranks: RankReference | None = None
    blocks: dict[int, int | None] | None = Field(None, description="instead of the scale's")
    retain: Retain | None = Field(None, description="instead of the experiment's")
    parts: dict[str, SizingByDevice] = {}
    skip: dict[Device, list[str]] = Field(
        {}, description="rows that are not run on such a device, named as in filters"
    )


class Scale(SizingByDevice):
    """How big a rebuild is: what stands in for the paper's models and data, and the settings."""

    name: ScaleName | Literal["paper-rehearsal"]
    describe: str
    models: dict[str, str] = {}
    datasets: dict[str, str] = {}
    suites: dict[str, SuiteUse] = {}
    blocks: dict[int, int | None] | None = None
    ranks: RankReference | None = None
    calibration: Calibration = Calibration()
    precisions: dict[Precision, Precision] = Field(
        {}, description="what is used in place of a precision that the settings say"
    )
    experiments: dict[str, ExperimentSizing] = {}

    def sizings(self, experiment: str, device: Device, part: str = "") -> list[Sizing]:
        """All that holds for an experiment's part on a device, the one that decides first."""
        found: list[Sizing] = []
        if own := self.experiments.get(experiment):
            if part in own.parts:
                found += own.parts[part].on(device)
            found += own.on(device)
        return [*found, *self.on(device)]

    def rank_reference(self, experiment: str) -> RankReference | None:
        """What an experiment's ranks keep their ratio to; None: they stay as they are."""
        own = self.experiments.get(experiment)
        return (own and own.ranks) or self.ranks

    def skipped(self, experiment: str, device: Device) -> set[str]:
        """Words that name rows of an experiment that are not run."""
        own = self.experiments.get(experiment)
        return set(own.skip.get(device, ())) if own else set()

    def blocks_of(self, experiment: str) -> dict[int, int | None] | None:
        """The paper's N -> N here, for an experiment; None: N stays as it is."""
        own = self.experiments.get(experiment)
        return (own and own.blocks) or self.blocks

    def check_experiments(
        self, experiments: Iterable[Experiment], averages: Iterable[Averages] = ()
    ) -> None:
        """ValueError if `experiments` names one that there is not, or a part or row that it does not have."""
        known = {experiment.name: experiment for experiment in experiments}
        figures = {figure.name: figure for figure in averages}
        for name, sizing in self.experiments.items():
            where = f"scale {self.name}: experiments"
            if name in figures:
                if sizing.model_fields_set - {"skip"}:
                    raise ValueError(
                        f"{where}.{name}: it trains nothing of its own; give `skip` alone"
                    )
                rows = [{row} for panel in figures[name].panels for row in panel.rows]
            elif name in known:
                for part in sizing.parts:
                    if part not in known[name].parts:
                        raise ValueError(
                            unknown("part", part, known[name].parts, f"{where}.{name}")
                        )
                rows = [names(group, row) for group in known[name].groups for row in group.rows]
            else:
                raise ValueError(unknown("experiment", name, {**known, **figures}, where))
            for device, words in sizing.skip.items():
                for word in words:
                    if not any(word in each for each in rows):
                        place = f"{where}.{name}.skip.{device}"
                        raise ValueError(unknown("row", word, set().union(*rows), place))


def load_scale(name: str, folder: Path = WORKFLOW / "scales") -> Scale:
    """The scale `name`; ValueError with the nearest name if there is none."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        names = [file.stem for file in folder.glob("*.yaml")]
        raise ValueError(unknown("scale", name, names, str(folder)))
    return load_yaml(Scale, path)
