"""From experiment × scale × config to runs, suites and a plan of every row, without torch.

`resolve` is what the workflow calls while it parses: every mistake a user can make in the YAML or
on the command line is refused here, before any job starts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diablo import apart
from diablo.averages import averages_plan
from diablo.config import Config
from diablo.data.catalog import Catalog, load_catalog
from diablo.data.local import model_files
from diablo.data.protocol import unknown
from diablo.experiments import WORKFLOW, Device, Experiment, Group, Row, load_experiment
from diablo.figures import figure_names, load_averages
from diablo.gpus import NO_GPU, VISIBLE
from diablo.naming import mark_repeats
from diablo.own import OwnExperiment, load_own, with_own
from diablo.parts import join, parts_of
from diablo.rehearsal.scale import backends, mark, rehearsed, with_rehearsal
from diablo.resolver import Resolver
from diablo.rows import Rows
from diablo.scales import load_scale
from diablo.specs import ProbeSpec, QuantSpec, RunSpec, SuiteSpec

#: By kind of experiment: the file of a run, among those that its entry names, that the table is made from.
MEASURED = {"gradient-variance": "log", "effective-rank": "ranks", "gradient-norms": "gradients"}


@dataclass
class Plan:
    """All that the workflow needs to know: runs and suites by name, and each table's rows."""

    #: Models and data sets, a user's own among them.
    catalog: Catalog
    runs: dict[str, RunSpec] = field(default_factory=dict)
    #: GPUs of each run's jobs: no part of its spec, as its result is the same but for rounding.
    gpus: dict[str, int] = field(default_factory=dict)
    suites: dict[str, SuiteSpec] = field(default_factory=dict)
    #: What the user decides about scoring each suite, by the same names.
    scoring: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Quantised base models by name.
    quantized: dict[str, QuantSpec] = field(default_factory=dict)
    #: What is decomposed of an experiment's runs, by the experiment's name.
    probes: dict[str, ProbeSpec] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What decodes a run, where that is not the config's to say (a rehearsal).
    backends: dict[str, str] = field(default_factory=dict)

    def runs_of(self, table: str) -> list[str]:
        """Names of the runs that `table` needs, in order, each once."""
        rows = [row for group in self.tables[table]["groups"] for row in group["rows"]]
        return list(dict.fromkeys(run["run"] for row in rows for run in row["runs"]))

    def results_of(self, table: str) -> list[str]:
        """Files of its runs that `table` is made from: scores, losses, provenance, what its kind measures."""
        rows = [row for group in self.tables[table]["groups"] for row in group["rows"]]
        found: dict[str, None] = {}
        for run in (run for row in rows for run in row["runs"]):
            paths = [run["scores"], run["losses"], f"{run['adapter']}/provenance.json"]
            if measured := MEASURED.get(self.tables[table]["kind"]):
                paths.append(run[measured])
            found |= dict.fromkeys(path for path in paths if path)
        return list(found)

    def quantizers_of(self, table: str) -> list[str]:
        """Files that the table of quantisers of `table` is made from; none for most tables."""
        entries = self.tables[table]["quantizers"]
        return list(dict.fromkeys(entry["path"] for entry in entries if entry["path"]))

    def model_files(self, model: str) -> list[str]:
        """The user's own files that a model is made from; none for other models."""
        entry = self.catalog.models[model]
        local = entry.builder == "folder"
        return list(map(str, model_files(Path(entry.sources[0].name)))) if local else []

    def figures_of(self, table: str) -> dict[str, str]:
        """Names of the figures of `table`, and what each shows."""
        return figure_names(self.tables[table])

    def models_of(self, table: str) -> list[str]:
        """Catalogue names of the models that `table` needs."""
        return sorted({self.runs[run].model for run in self.runs_of(table)})

    def datasets_of(self, table: str) -> list[str]:
        """Catalogue names of the data sets that `table` needs, for training, quantisation and evaluation."""
        specs = [self.runs[run] for run in self.runs_of(table)]
        found = {spec.dataset for spec in specs if spec.dataset}
        quantised = {spec.quantized for spec in specs if spec.quantized}
        quantised |= {Path(path).parent.name for path in self.quantizers_of(table)}
        texts = [self.quantized[name].calibration_path for name in quantised]
        found |= {Path(path).name for path in texts if path}
        if self.tables[table]["kind"] != "gradient-variance":
            found |= {self.suites[spec.suite_key].dataset for spec in specs}
        return sorted(found)


def experiment_names(folder: Path = WORKFLOW / "experiments") -> list[str]:
    """Names of the experiments that a folder declares."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def resolve(config: Config, workflow: Path = WORKFLOW) -> Plan:
    """Resolve every experiment at the config's scale, and a user's own as they are written.

    Raises:
        ValueError: on any unknown name or impossible setting; the message says where and what.
    """
    scale = load_scale(config.scale, workflow / "scales")
    experiments = [
        load_experiment(name, workflow / "experiments")
        for name in experiment_names(workflow / "experiments")
    ]
    averages = load_averages(workflow / "figures")
    scale.check_experiments(experiments, averages)
    names = [one.name for one in experiments] + [one.name for one in averages]
    own = load_own(config.experiments, names)
    catalog = with_own(load_catalog(workflow / "catalog.yaml"), own)
    device = used_device(config)
    if config.rehearse:
        scale, catalog = rehearsed(scale, catalog, experiments, device)
    experiments += own
    filter = RowFilter.build(config, experiments)
    plan = Plan(catalog)
    for experiment in experiments:
        here = experiment.scale(config.scale) if isinstance(experiment, OwnExperiment) else scale
        tables = {}
        for name, alone in parts_of(experiment).items():
            rows = Rows(config, here, catalog, alone, filter, device, name)
            tables[name] = Resolver(rows, plan).table()
        table = join(experiment, tables)
        mark_repeats(table["groups"])
        plan.tables[experiment.name] = table
    titles = {name: model.title for name, model in catalog.models.items()}
    for figure in averages:
        plan.tables[figure.name] = averages_plan(
            figure, plan.tables, titles, scale.skipped(figure.name, device)
        )
    if config.rehearse:
        mark(plan)
        plan.backends = backends(plan) if config.backend == "auto" else {}
    return plan


def user_catalog(experiments: str | Path | None, rehearse: bool = False) -> Catalog:
    """The catalogue with what a user's experiments, or a rehearsal, have beside it; for the jobs.

    Raises:
        ValueError: see `diablo.own`.
    """
    catalog = with_own(load_catalog(), load_own(experiments, experiment_names()))
    return with_rehearsal(catalog) if rehearse else catalog


def used_device(config: Config) -> Device:
    """What the caps are chosen for; looked up without torch, and told by `device` where it is wrong.

    (A cluster's login node has no GPU, its jobs do.)
    """
    if config.device != "auto":
        return config.device
    hidden = os.environ.get(VISIBLE, "0") in NO_GPU
    found = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    return "gpu" if found and not hidden else "cpu"


@dataclass(frozen=True)
class RowFilter:
    """Which rows are run.

    `only` keeps a row if its group is named (or no group is), its method, slug or whole name is (or none
    is), and a detail that tells it apart is (or none is: `diablo.apart`); `skip` then drops what it names.
    """

    only: frozenset[str]
    skip: frozenset[str]
    groups: frozenset[str]
    details: frozenset[str]

    @classmethod
    def build(cls, config: Config, experiments: list[Experiment]) -> RowFilter:
        """The config's filter; ValueError if a word names no row, method or group."""
        groups = {group.model for experiment in experiments for group in experiment.groups}
        rows = [(group, row) for e in experiments for group in e.groups for row in group.rows]
        details = {word for group, row in rows for word in apart.details(group, row)}
        valid = groups.union(*(apart.names(group, row) for group, row in rows))
        for key in ("only", "skip"):
            for word in getattr(config.filters, key):
                if word not in valid:
                    raise ValueError(unknown("row, method or group", word, valid, f"filters.{key}"))
        only, skip = map(frozenset, (config.filters.only, config.filters.skip))
        return cls(only, skip, frozenset(groups), frozenset(details))

    def keeps(self, group: Group, row: Row) -> bool:
        """Whether this row is run."""
        names = {group.model, *apart.names(group, row)}
        asked = (
            self.only & self.groups,
            self.only & self.details,
            self.only - self.groups - self.details,
        )
        return all(not words or names & words for words in asked) and not self.skip & names
