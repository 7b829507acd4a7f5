"""One experiment's rows at one scale: what is run for each, or why it is not run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diablo.data.catalog import Catalog
from diablo.data.protocol import load_protocol, unknown
from diablo.experiments import (
    MODULES,
    Config,
    Experiment,
    Group,
    Limits,
    Row,
    RunSpec,
    Scale,
    Settings,
    SuiteSpec,
)
from diablo.methods import METHODS
from diablo.shapes import Shapes, diablo_parameters, lora_parameters, matched_rank

if TYPE_CHECKING:
    from diablo.planning import Plan, RowFilter

#: Methods of the paper's tables that have no implementation here yet: their rows say so.
NOT_YET = ("smt", "lora-ga", "lori", "qlora", "loftq")

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
)


@dataclass
class Resolver:
    """Resolves one experiment; adds its runs and suite to the plan."""

    config: Config
    scale: Scale
    catalog: Catalog
    experiment: Experiment
    rows: RowFilter
    plan: Plan

    def table(self) -> dict[str, Any]:
        """The experiment's plan: the JSON that `diablo aggregate` reads."""
        suite = self._suite()
        groups = [self._group(group) for group in self.experiment.groups]
        e = self.experiment
        return {
            "name": e.name,
            "title": e.title,
            "section": e.section,
            "scale": self.scale.name,
            "scale_describe": self.scale.describe,
            "suite": e.suite,
            "variant": self.config.protocol,
            "protocol": load_protocol(e.suite, self.config.protocol).describe,
            "unstated": list(load_protocol(e.suite, self.config.protocol).unstated),
            "columns": e.columns,
            "average": e.average,
            "curve": e.curve and e.curve.model_dump(),
            "stand_ins": self._stand_ins(),
            "limits": self._limits().model_dump(),
            "notes": suite.notes,
            "decoding": suite.decoding,
            "groups": groups,
        }

    def _limits(self) -> Limits:
        chosen = self.config.limits.model_dump(exclude_none=True)
        return Limits(**{**self.scale.limits.model_dump(exclude_none=True), **chosen})

    def _suite(self) -> SuiteSpec:
        name, variant = self.experiment.suite, self.config.protocol
        if name not in self.scale.suites:
            raise ValueError(unknown("suite", name, self.scale.suites, f"scale {self.scale.name}"))
        use = self.scale.suites[name]
        protocol = load_protocol(name, variant)
        for task in self.experiment.columns:
            if task not in protocol.labels:
                where = f"{self.experiment.name}: columns"
                raise ValueError(unknown("task", task, protocol.labels, where))
        decoding = {
            "num_beams": protocol.decoding.num_beams,
            "max_new_tokens": protocol.decoding.max_new_tokens,
            "stop": list(protocol.decoding.stop),
        }
        for key in use.decoding:
            if key not in decoding:
                where = f"scale {self.scale.name}: suites.{name}.decoding"
                raise ValueError(unknown("key", key, decoding, where))
        self._dataset(use.dataset)
        spec = SuiteSpec(
            suite=name,
            variant=variant,
            dataset=use.dataset,
            data_path=f"{self.config.results}/{self.scale.name}/data/{use.dataset}",
            # All of the suite's tasks, whatever the table shows: tables share runs and their scores.
            tasks=list(protocol.labels),
            limit_per_task=self._limits().test_per_task,
            decoding=decoding | use.decoding,
            notes=[use.note] if use.note else [],
        )
        self.plan.suites[f"{name}-{variant}"] = spec
        return spec

    def _dataset(self, name: str) -> str:
        if name not in self.catalog.datasets:
            raise ValueError(unknown("data set", name, self.catalog.datasets, "catalog.yaml"))
        return name

    def _used_model(self, group: Group) -> str:
        used = self.scale.models.get(group.model, group.model)
        for name in (group.model, used):
            if name not in self.catalog.models:
                where = f"{self.experiment.name}: {group.label}"
                raise ValueError(unknown("model", name, self.catalog.models, where))
        return used

    def _shapes(self, model: str) -> Shapes:
        shapes = self.catalog.models[model].shapes
        return Shapes(shapes.layers, shapes.hidden, shapes.kv, shapes.ffn, shapes.base_parameters)

    def _stand_ins(self) -> list[str]:
        texts = []
        paper_models: dict[str, list[str]] = {}
        for group in self.experiment.groups:
            if self._used_model(group) != group.model:
                paper_models.setdefault(self._used_model(group), []).append(group.label)
        for used, labels in paper_models.items():
            texts.append(f"{self.catalog.models[used].title} stands in for {_listed(labels)}")
        used_data = {
            self.scale.datasets.get(self.experiment.train, self.experiment.train),
            self.scale.suites[self.experiment.suite].dataset,
        }
        for name in sorted(used_data):
            if stand_in := self.catalog.datasets[self._dataset(name)].stand_in:
                texts.append(stand_in)
        return texts

    def _group(self, group: Group) -> dict[str, Any]:
        return {
            "model": group.model,
            "label": group.label,
            "used_model": self._used_model(group),
            "used_model_title": self.catalog.models[self._used_model(group)].title,
            "used_base_parameters": self._shapes(self._used_model(group)).base_parameters,
            "rows": [self._row(group, row) for row in group.rows],
        }

    def _row(self, group: Group, row: Row) -> dict[str, Any]:
        paper = self._settings(group, row)
        shapes = self._shapes(group.model)
        counted = _count(row.method, shapes, _modules(row.method, paper), row.num_blocks, row.rank)
        reason, num_blocks, rank, notes = self._realise(group, row, paper)
        used = self._used_settings(group, row)
        runs = []
        if reason is None:
            runs = [
                self._run(group, row, used, num_blocks, rank, seed) for seed in self._seeds(row)
            ]
        return {
            "id": row.slug,
            "label": row.label,
            "method": row.method,
            "num_blocks": row.num_blocks,
            "rank": row.rank,
            "origin": row.origin,
            "source": row.source,
            "params_reported": row.params,
            "params_counted": counted,
            "params_counted_percent": None
            if counted is None
            else round(100 * counted / shapes.base_parameters, 3),
            "reported": row.reported,
            "unstated": row.unstated,
            "notes": [*row.notes, *notes],
            "setting_used": {
                "num_blocks": num_blocks,
                "rank": rank,
                "lr": used.lr if _trains(row.method) else None,
            },
            "runs": runs,
            "same_as": None,
            "reason": reason,
        }

    def _seeds(self, row: Row) -> list[int]:
        # Without training nothing depends on the seed.
        return self.config.seeds if _trains(row.method) else self.config.seeds[:1]

    def _settings(self, group: Group, row: Row) -> Settings:
        """The paper's settings of a row."""
        own = Settings(**{key: getattr(row, key) for key in Settings.model_fields})
        return own.over(group.defaults, DEFAULTS)

    def _used_settings(self, group: Group, row: Row) -> Settings:
        """What is really used: command line, then scale (by method, then for all), then paper."""
        given = Settings(epochs=self.config.epochs, steps=self._limits().steps)
        scale = self.scale.settings
        for method in scale:
            if method != "all" and method not in METHODS:
                where = f"scale {self.scale.name}: settings"
                raise ValueError(unknown("method", method, [*METHODS, "all"], where))
        by_scale = (scale.get(row.method, Settings()), scale.get("all", Settings()))
        return given.over(*by_scale, self._settings(group, row))

    def _realise(
        self, group: Group, row: Row, paper: Settings
    ) -> tuple[str | None, int | None, int | None, list[str]]:
        """(reason not to run, N, rank, notes) of a row at this scale."""
        if row.method not in METHODS:
            if row.method not in NOT_YET:
                where = f"{self.experiment.name}: {group.label} / {row.label}"
                raise ValueError(unknown("method", row.method, [*METHODS, *NOT_YET], where))
            return f"{row.label} is not implemented yet", None, None, []
        if not self.rows.keeps(group, row):
            return "filtered", None, None, []
        num_blocks, rank, notes = row.num_blocks, row.rank, []
        if num_blocks is not None and self.scale.blocks is not None:
            num_blocks = self.scale.blocks.get(num_blocks)
            if num_blocks is None:
                return "wider than the layer at this scale", None, None, []
            if num_blocks != row.num_blocks:
                notes.append(f"N = {num_blocks} here for the paper's N = {row.num_blocks}")
        if rank is not None and self.scale.ranks is not None:
            rank, note = self._scaled_rank(group, rank, paper)
            notes.append(note)
        return None, num_blocks, rank, notes

    def _scaled_rank(self, group: Group, rank: int, paper: Settings) -> tuple[int, str]:
        """The rank that keeps the paper's ratio of LoRA's to DiaBlo's parameters, and a note."""
        reference = self.scale.ranks
        assert reference is not None
        blocks = (self.scale.blocks or {}).get(reference.num_blocks) or reference.num_blocks
        modules = _modules("lora", paper)
        theirs = self._shapes(reference.model).widths(modules)
        ours = self._shapes(self._used_model(group)).widths(modules)
        paper_ratio = lora_parameters(theirs, rank) / diablo_parameters(
            theirs, reference.num_blocks
        )
        scaled = matched_rank(paper_ratio, ours, blocks)
        realised = lora_parameters(ours, scaled) / diablo_parameters(ours, blocks)
        return scaled, (
            f"rank {scaled} here for the paper's {rank}: {realised:.2f} of the parameters of DiaBlo "
            f"N = {blocks} (paper: {paper_ratio:.2f} of N = {reference.num_blocks})"
        )

    def _run(
        self,
        group: Group,
        row: Row,
        used: Settings,
        num_blocks: int | None,
        rank: int | None,
        seed: int,
    ) -> dict[str, Any]:
        spec = self._spec(group, row, used, num_blocks, rank, seed)
        known = self.plan.runs.setdefault(spec.run, spec)
        if known != spec:
            raise ValueError(f"run {spec.run}: two different specs would share its folder")
        base = f"{self.config.results}/{self.scale.name}/runs/{spec.run}"
        scores = f"{base}/scores/{spec.suite}.json"
        return {"run": spec.run, "seed": seed, "scores": scores, "adapter": f"{base}/adapter"}

    def _spec(
        self,
        group: Group,
        row: Row,
        used: Settings,
        num_blocks: int | None,
        rank: int | None,
        seed: int,
    ) -> RunSpec:
        trains = _trains(row.method)
        if trains and used.lr is None:
            raise ValueError(
                f"{self.experiment.name}: {group.label} / {row.label}: no learning rate; "
                f"give `lr` to the row or to settings.{row.method} of scale {self.scale.name}"
            )
        model = self._used_model(group)
        fields: dict[str, Any] = {
            "scale": self.scale.name,
            "model": model,
            "model_path": f"{self.config.results}/models/{model}",
            "dataset": None,
            "data_path": None,
            "suite": self.experiment.suite,
            "variant": self.config.protocol,
            "method": row.method,
            "precision": used.precision,
            "seed": seed if trains else 0,
        }
        if trains:
            data = self._dataset(
                self.scale.datasets.get(self.experiment.train, self.experiment.train)
            )
            ratio = None if row.alpha is None or row.rank is None else row.alpha / row.rank
            batch = used.batch_size or 1
            fields |= {
                "dataset": data,
                "data_path": f"{self.config.results}/{self.scale.name}/data/{data}",
                "num_blocks": num_blocks,
                "rank": rank,
                "alpha": None if ratio is None or rank is None else ratio * rank,
                "modules": _modules(row.method, used),
                "max_steps": used.steps,
                "micro_batch_size": min(used.micro_batch_size or batch, batch),
                "train_limit": self._limits().train,
            }
            copied = "dropout optimizer lr weight_decay schedule warmup_steps epochs batch_size "
            copied += "max_length max_grad_norm gradient_checkpointing"
            fields |= {key: getattr(used, key) for key in copied.split()}
            if used.max_length is None:
                fields["max_length"] = load_protocol(fields["suite"], fields["variant"]).max_length
        spec = RunSpec(run="", **fields)
        setting = f"n{num_blocks}" if num_blocks else f"r{rank}" if rank else ""
        parts = [
            model,
            fields["dataset"],
            f"{row.method}{setting and '-' + setting}",
            fields["variant"],
        ]
        name = ".".join([*filter(None, parts), f"s{fields['seed']}", spec.digest[:8]])
        return spec.model_copy(update={"run": name})


def _trains(method: str) -> bool:
    return method != "zero-shot"


def _modules(method: str, settings: Settings) -> list[str]:
    if method in ("full", "zero-shot"):
        return []
    return [MODULES[letter] for letter in settings.modules or ""]


def _count(
    method: str, shapes: Shapes, modules: list[str], num_blocks: int | None, rank: int | None
) -> int | None:
    """Trainable parameters of a row on a model, None for a method that is not implemented."""
    if method not in METHODS:
        return None
    widths = shapes.widths(modules)
    return METHODS[method].parameters(
        widths, num_blocks=num_blocks, rank=rank, base_parameters=shapes.base_parameters
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
