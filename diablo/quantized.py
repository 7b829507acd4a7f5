"""Quantised base models in the plan: what `diablo quantize` is asked for, or why it is not. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diablo.data.catalog import Model
from diablo.experiments import Group, Row
from diablo.realise import Sizes, linear_modules
from diablo.rows import Rows
from diablo.settings import Quantize, Settings
from diablo.specs import QuantSpec

if TYPE_CHECKING:
    from diablo.planning import Plan


def excluded(model: Model, quantize: Quantize) -> str | None:
    """Why a setting says nothing about a model, or None.

    Weights that were decoded from a min-max grid lie on it, and a min-max grid of the same groups whose
    steps divide the old ones gives them back. Parts of a group need not span its range, so smaller
    groups do not.
    """
    grid = model.grid
    if grid is None or quantize.quantizer == "nf4" or quantize.symmetric or quantize.shrink != 1:
        return None
    same = quantize.group_size == grid.group_size
    if same and (2**quantize.bits - 1) % (2**grid.bits - 1) == 0:
        return (
            f"excluded: {model.title}'s weights were decoded from a {grid.bits}-bit min-max grid with groups "
            f"of {grid.group_size}, which such a grid of {quantize.bits} bits reproduces exactly; it would "
            "measure that file, not the quantiser"
        )
    return None


@dataclass
class Quantised:
    """Makes the quantised models of an experiment and adds them to the plan."""

    rows: Rows
    plan: Plan

    def of_row(self, group: Group, row: Row, used: Settings, sizes: Sizes) -> QuantSpec | None:
        """The quantised base of a row; None for a row on the model as published."""
        if row.quantize is None:
            return None
        loftq = row.quantize.quantizer == "loftq"
        if loftq != (row.method == "loftq"):
            raise ValueError(
                f"{self.rows.place(group, row)}: quantizer {row.quantize.quantizer} with method {row.method}; LoftQ's adapter "
                "and its quantised model belong together: give both the name loftq"
            )
        more: dict[str, Any] = {}
        if loftq:
            shapes = self.rows.shapes(self.rows.used_model(group))
            more = {"rank": sizes.rank, "modules": linear_modules(used, shapes)}
        return self._add(group, row.quantize, used, **more)

    def others(self, group: Group) -> list[dict[str, Any]]:
        """Entries of the table of quantisers that no row has: name and folder, or the reason."""
        model = self.rows.catalog.models[self.rows.used_model(group)]
        found = []
        for quantize in self.rows.experiment.quantizers:
            reason = excluded(model, quantize)
            spec = None
            if reason is None:
                blank = Row(label=quantize.label, method="zero-shot")
                spec = self._add(group, quantize, self.rows.used_settings(group, blank))
            found.append(self.entry(group, quantize, spec, reason))
        return found

    def entry(
        self, group: Group, quantize: Quantize, spec: QuantSpec | None, reason: str | None
    ) -> dict[str, Any]:
        """One line of the table of quantisers in the plan."""
        return {
            "model": self.rows.used_model(group),
            "title": self.rows.catalog.models[self.rows.used_model(group)].title,
            "paper_model": group.model,
            "quantize": quantize.model_dump(),
            "label": quantize.label,
            "name": spec and spec.name,
            "path": spec and f"{self.folder(spec.name)}/quantization.json",
            "reason": reason,
        }

    def folder(self, name: str) -> str:
        """Where a quantised model lies."""
        return f"{self.rows.config.results}/{self.rows.scale.name}/quantized/{name}"

    def _add(self, group: Group, quantize: Quantize, used: Settings, **more: Any) -> QuantSpec:
        rows, model = self.rows, self.rows.used_model(group)
        text = rows.experiment.calibration or rows.experiment.train
        data = rows.dataset(rows.scale.datasets.get(text, text))
        if rows.scale.calibration.iterations is not None and quantize.quantizer == "magr":
            more["iterations"] = rows.scale.calibration.iterations
        spec = QuantSpec(
            name="",
            model=model,
            model_path=f"{rows.config.results}/models/{model}",
            calibration_path=f"{rows.config.results}/{rows.scale.name}/data/{data}",
            samples=rows.scale.calibration.samples,
            length=rows.scale.calibration.length,
            perplexity_tokens=rows.scale.calibration.perplexity_tokens,
            precision=used.precision or "fp32",
            **quantize.model_dump() | more,
        )
        rank = f"r{spec.rank}" if spec.rank else None
        name = ".".join(filter(None, (model, quantize.label, rank, spec.digest[:8])))
        spec = spec.model_copy(update={"name": name})
        if self.plan.quantized.setdefault(name, spec) != spec:
            raise ValueError(f"quantised model {name}: two different specs would share its folder")
        return spec
