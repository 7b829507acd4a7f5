"""What a rehearsal has in place of the paper scale: `workflow/rehearsal.yaml`, applied. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.config import Config, Limits
from diablo.data.catalog import Catalog, Dataset, Model, Shapes
from diablo.data.source_kinds import GithubSource, HfFileSource, HfSource
from diablo.experiments import WORKFLOW, Device, Experiment
from diablo.judging import JudgeConfig
from diablo.precision import native_bf16
from diablo.scales import Calibration, ExperimentSizing, Scale, SuiteUse
from diablo.settings import Precision, Settings
from diablo.validation import Strict, load_yaml

if TYPE_CHECKING:
    from diablo.planning import Plan

DESCRIBE = (
    "a REHEARSAL of scale paper with tiny random models and made-up examples: it shows that everything runs, "
    "and its numbers mean nothing"
)
MARK = "REHEARSAL, the numbers mean nothing:"
#: Examples that a tuned rehearsal holds out of its few.
HELD_OUT = 2
#: How a model or a data set of the rehearsal is called, by the paper's name for it.
NAME = "{}-rehearsal"


class Rehearsal(Strict):
    """What differs from scale paper (`workflow/rehearsal.yaml`)."""

    models: dict[str, Shapes]
    limits: Limits
    max_new_tokens: int
    settings: dict[str, Settings]
    calibration: Calibration
    experiments: dict[str, ExperimentSizing]
    #: By the paper's model, the suite of which vLLM decodes one run.
    vllm: dict[str, str]


def load_rehearsal(path: Path = WORKFLOW / "rehearsal.yaml") -> Rehearsal:
    """The file's content, checked."""
    return load_yaml(Rehearsal, path)


def rehearsing(config: Config) -> Config:
    """The config of a rehearsal: its own sources, cache, judge and sizes, whatever else is configured.

    The judge answers on this machine, at a port that follows from the results' folder: a plan is the same
    whenever it is made, and two rehearsals do not meet.
    """
    folder = Path(config.root)
    digest = hashlib.sha256(str(folder.resolve()).encode()).digest()
    port = 20_000 + int.from_bytes(digest[:4], "big") % 12_000
    judge = {"endpoint": f"http://127.0.0.1:{port}/v1", "model": "rehearsal", "api_key_env": None}
    given = config.judge.model_dump() if config.judge else {}
    return config.model_copy(
        update={
            "mirror": str(folder / "sources"),
            "cache": str(folder / "cache"),
            "judge": JudgeConfig(**given | judge),
            "limits": Limits(),
            "epochs": None,
            "tune": config.tune and config.tune.model_copy(update={"held_out": HELD_OUT}),
        }
    )


def rehearsed(
    scale: Scale, catalog: Catalog, experiments: Iterable[Experiment], device: Device
) -> tuple[Scale, Catalog]:
    """Scale paper in small, and the catalogue with what stands in for its models and data."""
    small = load_rehearsal()
    used = {use.dataset for use in scale.suites.values()}
    for one in experiments:
        used |= {one.train, one.calibration or "", *(part.train for part in one.parts.values())}
    catalog = with_rehearsal(catalog, small)
    names = {name: NAME.format(name) for name in used if NAME.format(name) in catalog.datasets}
    suites = {suite: _suite(use, names, small) for suite, use in scale.suites.items()}
    settings = {
        method: small.settings.get(method, Settings()).over(scale.settings.get(method, Settings()))
        for method in {*scale.settings, *small.settings}
    }
    changed = scale.model_copy(
        update={
            "name": NAME.format(scale.name),
            "describe": DESCRIBE,
            "models": {name: NAME.format(name) for name in small.models},
            "datasets": names,
            "suites": suites,
            "limits": small.limits,
            "settings": settings,
            "calibration": small.calibration,
            "precisions": _precisions(device),
            "experiments": scale.experiments | small.experiments,
        }
    )
    return changed, catalog


def _precisions(device: Device) -> dict[Precision, Precision]:
    """What the jobs would refuse: fp16 on a CPU, and bfloat16 on one without instructions for it."""
    if device == "gpu":
        return {}
    if native_bf16():
        return {"fp16": "bf16"}
    return {"fp16": "fp32", "bf16": "fp32", "bf16-pure": "fp32"}


def _suite(use: SuiteUse, names: dict[str, str], small: Rehearsal) -> SuiteUse:
    update: dict[str, Any] = {
        "dataset": names.get(use.dataset, use.dataset),
        "decoding": {**use.decoding, "max_new_tokens": small.max_new_tokens},
        "note": f"at most {small.max_new_tokens} new tokens",
    }
    return use.model_copy(update=update)


def with_rehearsal(catalog: Catalog, small: Rehearsal | None = None) -> Catalog:
    """The catalogue with a model or data set `NAME-rehearsal` beside each that would be downloaded.

    They have the same sources under the same paths, builders and options. Only hashes cannot be known.
    """
    small = small or load_rehearsal()
    models = {name: _model(catalog.model(name), shapes) for name, shapes in small.models.items()}
    datasets = {name: _dataset(one) for name, one in catalog.datasets.items() if _remote(one)}
    return Catalog(
        models=catalog.models | {NAME.format(name): one for name, one in models.items()},
        datasets=catalog.datasets | {NAME.format(name): one for name, one in datasets.items()},
    )


def _remote(dataset: Dataset) -> bool:
    """Whether any file of a data set is fetched."""
    return any(isinstance(source, GithubSource | HfFileSource) for source in dataset.sources)


def _model(model: Model, shapes: Shapes) -> Model:
    assert isinstance(model.sources[0], HfSource), "the paper's models are on the Hub"
    return model.model_copy(update={"title": f"a tiny random {model.title}", "shapes": shapes})


def _dataset(dataset: Dataset) -> Dataset:
    options = dict(dataset.options)
    if "shorter_than" in options:
        limit = options["shorter_than"]
        options["shorter_than"] = limit | {"tokenizer": NAME.format(limit["tokenizer"])}
    sources = [
        source.model_copy(update={"sha256": "unknown", "bytes": None})
        if isinstance(source, GithubSource | HfFileSource)
        else source
        for source in dataset.sources
    ]
    stand_in = f"made-up examples stand in for {dataset.title} (rehearsal)"
    return dataset.model_copy(update={"stand_in": stand_in, "options": options, "sources": sources})


def mark(plan: Plan) -> None:
    """Say in the title of every table and figure what it is."""
    for table in plan.tables.values():
        table["title"] = f"{MARK} {table['title']}"


def backends(plan: Plan) -> dict[str, str]:
    """What decodes each run: vLLM the first DiaBlo run of each pair that is listed, transformers the others."""
    wanted = {(NAME.format(model), suite) for model, suite in load_rehearsal().vllm.items()}
    found = dict.fromkeys(plan.runs, "transformers")
    for name, run in plan.runs.items():
        if run.method == "diablo" and (run.model, run.suite) in wanted:
            wanted.remove((run.model, run.suite))
            found[name] = "vllm"
    return found
