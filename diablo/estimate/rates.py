"""How fast a card is: the recorded benchmark files, scaled by published peaks where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from diablo.data.catalog import Catalog, Model
from diablo.experiments import WORKFLOW
from diablo.io import read_json

from .facts import Gpu, Gpus
from .flops import matrix_parameters

BENCHMARKS = WORKFLOW.parent / "benchmarks" / "results"


@dataclass(frozen=True)
class Rates:
    """Achieved FLOP/s of a card.

    Attributes:
        gpu: the card.
        steps: `train_step` of the benchmark file: settings by name.
        file: the file's name.
        factor: the card's published 16-bit peak over that of the card that was measured.
        measured: whether the file was recorded on this very card.
    """

    gpu: Gpu
    catalog: Catalog
    steps: Mapping[str, Any]
    file: str
    factor: float
    measured: bool

    @classmethod
    def load(cls, name: str, gpus: Gpus, catalog: Catalog, folder: Path = BENCHMARKS) -> Rates:
        """The rates of the card `name`: its own file, else that of the reference card, scaled.

        Raises:
            ValueError: an unknown card.
            FileNotFoundError: the reference card's file is not there.
        """
        gpu, reference = gpus.named(name), gpus.gpus[gpus.reference]
        measured = bool(gpu.benchmark) and (folder / f"{gpu.benchmark}.json").is_file()
        file = f"{gpu.benchmark if measured else reference.benchmark}.json"
        factor = 1.0 if measured else gpu.bf16_tflops / reference.bf16_tflops
        return cls(gpu, catalog, read_json(folder / file)["train_step"], file, factor, measured)

    def frozen(self, model: Model, precision: str = "bf16") -> float:
        """FLOP/s that forward and input-gradient backward pass of the nearest shape reach (4 P a token).

        Args:
            precision: of a run; in float32 at most 0.5 of the published peak.
        """
        entry = self._nearest("frozen", model)
        parameters = matrix_parameters(self.catalog.model(entry["settings"]["shape"]))
        seconds = entry["forms"]["frozen"]["median_ms"] / 1000
        rate = self.factor * 4 * parameters * entry["tokens"] / seconds
        return min(rate, 0.5e12 * self.gpu.fp32_tflops) if precision == "fp32" else rate

    def multiple(self, form: str, model: Model) -> float:
        """A step's time in a form, in multiples of the frozen model's."""
        return self._nearest(form, model)["forms"][form]["x_frozen"]

    def basis(self, model: Model) -> str:
        """What a rate rests on, in words."""
        shape = self._nearest("frozen", model)["settings"]["shape"]
        text = f"benchmarks/results/{self.file} (train_step, nearest shape {shape})"
        if self.measured:
            return f"{text}, measured on this card"
        return (
            f"{text}, scaled × {self.factor:.2f} by published peaks ({self.gpu.source}); this card was "
            "not measured"
        )

    def _nearest(self, form: str, model: Model) -> Mapping[str, Any]:
        """The recorded setting with this form whose model is nearest in size, plain ones first."""

        def distance(entry: Mapping[str, Any]) -> tuple[float, bool, bool, bool, int]:
            settings = entry["settings"]
            size = self.catalog.model(settings["shape"]).shapes.base_parameters
            return (
                abs(log(size / model.shapes.base_parameters)),
                settings["graphs"],
                settings["kernels"],
                settings["precision"] != "bf16+fp32",
                settings["blocks"],
            )

        able = [e for e in self.steps.values() if "median_ms" in e["forms"].get(form, {})]
        if not able:
            raise ValueError(f"benchmarks/results/{self.file}: no train_step with form {form!r}")
        return min(able, key=distance)
