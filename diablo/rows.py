"""What holds for the rows of one experiment at one scale: settings, caps, sizes, models and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diablo.apart import names
from diablo.config import Config, Limits
from diablo.data.catalog import Catalog
from diablo.data.protocol import OWN, Entry, Protocol, load_protocol, own_protocol, unknown
from diablo.experiments import Device, Experiment, Group, Row, Tune
from diablo.methods import METHODS, RETAINED
from diablo.own import OwnExperiment
from diablo.realise import Sizes, realise
from diablo.scales import Scale, Sizing, SuiteUse
from diablo.settings import Retain, Settings
from diablo.shapes import Shapes

if TYPE_CHECKING:
    from diablo.planning import RowFilter

#: Used where neither row, group nor scale says anything.
DEFAULTS = Settings(
    modules="qkvud",
    optimizer="adamw",
    weight_decay=0.0,
    schedule="linear",
    warmup_steps=0,
    epochs=1,
    batch_size=16,
    max_grad_norm=1.0,
    precision="fp32",
    dropout=0.0,
    gradient_checkpointing=False,
    gpus=1,
)


@dataclass(frozen=True)
class Rows:
    """One experiment at one scale, with what the user asks for."""

    config: Config
    scale: Scale
    catalog: Catalog
    experiment: Experiment
    filter: RowFilter
    device: Device
    #: Name of the experiment's part that this is (`diablo.parts`); "" where it has none.
    part: str = ""

    @property
    def where(self) -> str:
        """The experiment and its part, as messages name them."""
        return f"{self.experiment.name}: {self.part}" if self.part else self.experiment.name

    def place(self, group: Group, row: Row) -> str:
        """A row, as messages name it."""
        return f"{self.where}: {group.label} / {row.label}"

    @property
    def sizings(self) -> list[Sizing]:
        """What the scale says of caps and settings, the closest first."""
        return self.scale.sizings(self.experiment.name, self.device, self.part)

    @property
    def variant(self) -> str:
        """Variant of the protocol; a user's own has only one."""
        return OWN if isinstance(self.experiment, OwnExperiment) else self.config.protocol

    @property
    def protocol(self) -> Protocol:
        """How this experiment frames, decodes and reads."""
        if isinstance(self.experiment, OwnExperiment):
            return own_protocol(self.experiment.suite, **self.experiment.protocol.model_dump())
        return load_protocol(self.experiment.suite, self.config.protocol)

    def tasks(self) -> list[str]:
        """Tasks that are scored: all of the suite's, as tables share runs and their scores."""
        own = isinstance(self.experiment, OwnExperiment)
        return list(self.experiment.columns if own else self.protocol.tasks)

    def entries(self) -> dict[str, Entry]:
        """Entries that the suite's scores can have, by name."""
        if isinstance(self.experiment, OwnExperiment):
            return {task: Entry(task) for task in self.tasks()}
        return self.protocol.entries

    @property
    def suite_use(self) -> SuiteUse:
        """What the scale really evaluates for the experiment's suite."""
        name, suites = self.experiment.suite, self.scale.suites
        if name not in suites:
            raise ValueError(unknown("suite", name, suites, f"scale {self.scale.name}"))
        return suites[name]

    def limits(self) -> Limits:
        """Caps: command line, then scale (by part, experiment and device, the closest first)."""
        found: dict[str, int] = {}
        for limits in (self.config.limits, *(sizing.limits for sizing in self.sizings)):
            for key, value in limits.model_dump(exclude_none=True).items():
                found.setdefault(key, value)
        if self.experiment.probe is None and self.experiment.gradient_examples is None:
            found.pop("probe", None)  # it holds for those alone that look into models
        return Limits(**found)

    def every(self) -> int | None:
        """Steps between two measured gradient norms."""
        own = self.scale.experiments.get(self.experiment.name)
        return (own and own.every) or self.experiment.every

    def training_set(self) -> str:
        """The data set that is really trained on."""
        return self.dataset(self.scale.datasets.get(self.experiment.train, self.experiment.train))

    def dataset(self, name: str) -> str:
        if name not in self.catalog.datasets:
            raise ValueError(unknown("data set", name, self.catalog.datasets, "catalog.yaml"))
        return name

    def used_model(self, group: Group) -> str:
        used = self.scale.models.get(group.model, group.model)
        for name in (group.model, used):
            if name not in self.catalog.models:
                where = f"{self.where}: {group.label}"
                raise ValueError(unknown("model", name, self.catalog.models, where))
        return used

    def shapes(self, model: str) -> Shapes:
        declared = self.catalog.models[model].shapes
        return Shapes(**declared.model_dump(exclude={"heads", "vocab"}))

    def seeds(self, row: Row) -> list[int]:
        # The model as it is depends on no seed.
        return self.config.seeds if row.method != "zero-shot" else self.config.seeds[:1]

    @property
    def tune(self) -> Tune | None:
        return self.config.tune or self.experiment.tune

    @property
    def retain(self) -> Retain | None:
        """How γ is searched: as the scale says for this experiment, else as the experiment does.

        A cap on the training examples caps what is held out of them, at a quarter: a user's cap is for all
        targets, and must not make one of them impossible.
        """
        own = self.scale.experiments.get(self.experiment.name)
        found = (own and own.retain) or self.experiment.retain
        limit = self.limits().train
        if found is None or limit is None:
            return found
        return found.model_copy(update={"held_out": min(found.held_out, max(1, limit // 4))})

    def lr_from(self, row: Row) -> str | None:
        """Where a row's learning rate comes from; None without training."""
        if not is_trained(row.method):
            return None
        if self.tune:
            return "tuned"
        if isinstance(self.experiment, OwnExperiment):
            return "given"
        return "scale" if self._by_scale(row).lr is not None else "paper"

    def paper_settings(self, group: Group, row: Row) -> Settings:
        """The paper's settings of a row."""
        return paper_settings(group, row)

    def _by_scale(self, row: Row) -> Settings:
        """What the scale says of a row: by part, experiment, device and method, the closest first."""
        layers = []
        for sizing in self.sizings:
            for method in sizing.settings:
                if method != "all" and method not in METHODS:
                    where = f"scale {self.scale.name}: settings"
                    raise ValueError(unknown("method", method, [*METHODS, "all"], where))
            layers += [sizing.settings.get(key, Settings()) for key in (row.method, "all")]
        return Settings().over(*layers)

    def used_settings(self, group: Group, row: Row) -> Settings:
        """What is really used: command line, then scale, then paper.

        Where an experiment compares learning rates (`base_lr`), a scale's own keeps their ratios.
        """
        given = Settings(epochs=self.config.epochs, steps=self.limits().steps)
        scale, base = self._by_scale(row), self.experiment.base_lr
        if base and scale.lr and row.lr:
            scale = scale.model_copy(update={"lr": float(f"{scale.lr * row.lr / base:.6g}")})
        used = given.over(scale, self.paper_settings(group, row))
        precision = used.precision and self.scale.precisions.get(used.precision)
        return used.model_copy(update={"precision": precision}) if precision else used

    def sizes(self, group: Group, row: Row, paper: Settings, used: Settings) -> Sizes:
        if row.not_run:
            return Sizes(reason=row.not_run)
        if row.method not in METHODS:
            raise ValueError(unknown("method", row.method, METHODS, self.place(group, row)))
        if not self.filter.keeps(group, row):
            return Sizes(reason="filtered")
        if self.scale.skipped(self.experiment.name, self.device) & names(group, row):
            where = f" on a {self.device.upper()}"
            return Sizes(reason=f"not run at scale {self.scale.name}{where}")
        ranks = self.scale.rank_reference(self.experiment.name)
        theirs = self.shapes(ranks.model) if ranks else None
        ours = self.shapes(self.used_model(group))
        blocks = self.scale.blocks_of(self.experiment.name)
        return realise(row, paper, used, blocks, ranks, theirs, ours)


def paper_settings(group: Group, row: Row) -> Settings:
    """A row's settings as its experiment has them: the row's, the group's, the project's defaults."""
    own = Settings(**{key: getattr(row, key) for key in Settings.model_fields})
    return own.over(group.defaults, DEFAULTS)


def is_trained(method: str) -> bool:
    """Whether anything is learnt; a retained update is only cut out of one that was."""
    return method not in ("zero-shot", RETAINED)
