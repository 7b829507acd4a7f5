"""One experiment's rows at one scale: what is run for each, or why it is not run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diablo import apart
from diablo.data.protocol import Entry, Protocol
from diablo.experiments import Group, Row
from diablo.methods import METHODS
from diablo.probes import add_probe
from diablo.quantized import Quantised, excluded
from diablo.realise import Sizes, linear_modules, paper_rank
from diablo.rows import Rows, is_trained
from diablo.runs import Runs
from diablo.settings import Settings
from diablo.shapes import Shapes
from diablo.specs import SuiteSpec
from diablo.suites import add_suite, shown

if TYPE_CHECKING:
    from diablo.planning import Plan


@dataclass
class Resolver:
    """Resolves one experiment, or one part of it; adds its runs and suite to the plan."""

    rows: Rows
    plan: Plan

    def table(self) -> dict[str, Any]:
        """The part's plan; `diablo.parts.join` makes the JSON that `diablo aggregate` reads of it."""
        suite, kept = add_suite(self.rows, self.plan), shown(self.rows)
        e, scale, protocol = self.rows.experiment, self.rows.scale, self.rows.protocol
        groups = [self._group(group, kept.scored) for group in e.groups]
        return add_probe(self.rows, self.plan) | {
            "name": e.name,
            "title": e.title,
            "section": e.section,
            "kind": e.kind,
            "every": self.rows.every(),
            "scale": scale.name,
            "scale_describe": scale.describe,
            "suite": e.suite,
            "tasks": suite.tasks,
            "test_sizes_paper": self._test_sizes(protocol, suite),
            "variant": self.rows.variant,
            "protocol": protocol.describe,
            "unstated": list(protocol.unstated),
            "columns": kept.columns,
            "readings": kept.readings,
            "entries": {name: _measured(entry) for name, entry in kept.entries.items()},
            "missing": kept.missing,
            # An average of other columns than the paper's would be read as its average.
            "average": None if kept.lacking else e.average,
            "chart": e.chart and e.chart.model_dump(),
            "across": e.across and e.across.model_dump(),
            "stand_ins": self._stand_ins(),
            "limits": {**self.rows.limits().model_dump(), "device": self.rows.device},
            "notes": [
                *e.notes,
                *suite.notes,
                *(f"{e.columns[name]} {why}." for name, why in kept.lacking.items()),
            ],
            "decoding": suite.decoding,
            "groups": groups,
            "quantizers": self._quantizers(),
        }

    def _test_sizes(self, protocol: Protocol, suite: SuiteSpec) -> dict[str, int]:
        """The paper's full test sizes, where its test sets are scored without a cap."""
        complete = "expect_test" in self.rows.catalog.datasets[suite.dataset].options
        return dict(protocol.test_sizes) if complete and not suite.limit_per_task else {}

    def _quantizers(self) -> list[dict[str, Any]]:
        """The lines of the table of quantisers: those of the rows, then the experiment's others."""
        quantised = Quantised(self.rows, self.plan)
        found: dict[tuple[str, str], dict[str, Any]] = {}
        entries = []
        for group in self.rows.experiment.groups:
            model = self.rows.catalog.models[self.rows.used_model(group)]
            for row in group.rows:
                if row.quantize is None or row.not_run:
                    continue
                paper = self.rows.paper_settings(group, row)
                used = self.rows.used_settings(group, row)
                sizes = self.rows.sizes(group, row, paper, used)
                reason = sizes.reason or excluded(model, row.quantize)
                spec = quantised.of_row(group, row, used, sizes) if reason is None else None
                entries.append(quantised.entry(group, row.quantize, spec, reason))
            entries += quantised.others(group)
        for entry in entries:
            # Of a setting that is filtered in one row and not in another, the one that is run.
            key = (entry["model"], entry["label"])
            if key not in found or (found[key]["path"] is None and entry["path"]):
                found[key] = entry
        return list(found.values())

    def _stand_ins(self) -> list[str]:
        rows, experiment = self.rows, self.rows.experiment
        texts = []
        paper_models: dict[str, dict[str, str]] = {}
        for group in experiment.groups:
            if (used := rows.used_model(group)) != group.model:
                labels = paper_models.setdefault(used, {})
                # Several groups of one model have more in their labels than its name.
                several = group.model in labels
                title = rows.catalog.models[group.model].title
                labels[group.model] = title if several else group.label
        for used, labels in paper_models.items():
            names = _listed(list(labels.values()))
            texts.append(f"{rows.catalog.models[used].title} stands in for {names}")
        used_data = {rows.training_set(), rows.suite_use.dataset}
        for name in sorted(used_data):
            if stand_in := rows.catalog.datasets[name].stand_in:
                texts.append(stand_in)
        return texts

    def _group(self, group: Group, scored: bool) -> dict[str, Any]:
        return {
            "model": group.model,
            "label": group.label,
            "used_model": self.rows.used_model(group),
            "used_model_title": self.rows.catalog.models[self.rows.used_model(group)].title,
            "used_base_parameters": self.rows.shapes(self.rows.used_model(group)).base_parameters,
            "rows": [self._row(group, row, scored) for row in group.rows],
        }

    def _row(self, group: Group, row: Row, scored: bool) -> dict[str, Any]:
        paper, used = self.rows.paper_settings(group, row), self.rows.used_settings(group, row)
        shapes, ours = self.rows.shapes(group.model), self.rows.shapes(self.rows.used_model(group))
        try:
            rank = paper_rank(row, paper, shapes)
            counted = _count(
                row,
                shapes,
                paper,
                Sizes(
                    num_blocks=row.num_blocks,
                    rank=rank,
                    block_size=paper.block_size,
                    chosen_blocks=row.chosen_blocks,
                ),
            )
            layers, layers_here = _layers(paper, shapes), _layers(paper, ours)
        except ValueError as error:
            raise ValueError(f"{self.rows.place(group, row)}: {error}") from None
        sizes = self.rows.sizes(group, row, paper, used)
        if row.quantize is not None and sizes.reason is None:
            model = self.rows.catalog.models[self.rows.used_model(group)]
            sizes = replace(sizes, reason=excluded(model, row.quantize))
        notes = [*row.notes, *sizes.notes]
        if layers_here != layers and sizes.reason is None:
            trained, count = _count(row, ours, paper, sizes), len(ours.part(str(paper.layers)))
            notes.append(
                f"{layers_here} here for the paper's {layers}: {count} of {ours.layers} layers, {trained:,} parameters"
            )
        seeds = self.rows.seeds(row) if sizes.reason is None else []
        runs = Runs(self.rows, self.plan, scored)
        return {
            "id": apart.name(group, row),
            "label": row.label,
            "method": row.method,
            "pattern": row.pattern,
            "group": row.group,
            "quantize": row.quantize and row.quantize.label,
            "num_blocks": row.num_blocks,
            "rank": rank,
            "rank_of": row.rank_of,
            "lr": paper.lr if is_trained(row.method) else None,
            "modules": paper.modules,
            "layers": layers,
            # What a row's name says beside method and size, where that is not enough.
            "apart": apart.texts(group, row, layers),
            "origin": row.origin,
            "source": row.source,
            "params_reported": row.params,
            "minutes_reported": row.minutes,
            "params_counted": counted,
            "params_counted_percent": None
            if counted is None
            else round(100 * counted / shapes.base_parameters, 3),
            "reported": row.reported,
            "unstated": row.unstated,
            "notes": notes,
            "setting_used": {
                "num_blocks": sizes.num_blocks,
                "rank": sizes.rank,
                "block_size": sizes.block_size,
                "chosen_blocks": sizes.chosen_blocks,
                "layers": layers_here,
                "lr": used.lr if is_trained(row.method) else None,
            },
            "lr_from": self.rows.lr_from(row),
            "runs": [runs.run(group, row, used, sizes, seed) for seed in seeds],
            "same_as": None,
            "reason": sizes.reason,
        }


def _count(row: Row, shapes: Shapes, settings: Settings, sizes: Sizes) -> int | None:
    """Trainable parameters of a row on a model, None for a method not implemented here."""
    if row.method not in METHODS:
        return None
    return METHODS[row.method].parameters(
        shapes.widths(linear_modules(settings, shapes), settings.layers),
        num_blocks=sizes.num_blocks,
        rank=sizes.rank,
        block_size=sizes.block_size,
        chosen_blocks=sizes.chosen_blocks,
        pattern=row.pattern,
        base_parameters=shapes.base_parameters,
    )


def _layers(settings: Settings, shapes: Shapes) -> str | None:
    """A row's layers of a model in words; None for all."""
    return apart.layers_text(shapes.part(settings.layers)) if settings.layers else None


def _measured(entry: Entry) -> dict[str, Any]:
    """What a column measures, for the tables."""
    return {key: getattr(entry, key) for key in ("task", "metric", "unit", "lower_is_better")}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
