"""What `diablo VERB` does: reads what its options name and calls the part of the project that does the work.

Heavy modules are imported inside the verbs, so `diablo --help` and planning stay fast.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from diablo.lean import leave_out_unused


def download(options: argparse.Namespace) -> None:
    from diablo.data import prepare
    from diablo.planning import user_catalog

    if options.check:
        return check(options)
    if options.out is None or (options.model is None) == (options.dataset is None):
        raise ValueError("give --out and one of --model and --dataset, or --check EXPERIMENT")
    build = prepare.download_model if options.model else prepare.download_dataset
    name = options.model or options.dataset
    catalog = user_catalog(options.experiments, options.rehearse)
    build(name, options.out, options.mirror, options.cache, catalog)


def rehearse(options: argparse.Namespace) -> None:
    from diablo.rehearsal.sources import make_sources

    make_sources(options.out)


def check(options: argparse.Namespace) -> None:
    from diablo.available import check_available

    given = {key: getattr(options, key) for key in ("scale", "experiments")}
    instead = {key: value for key, value in given.items() if value}
    scale = check_available(options.check, options.config, instead, options.mirror, options.cache)
    print(f"all sources of {', '.join(options.check)} are here (scale {scale})")


def estimate(options: argparse.Namespace) -> None:
    from diablo.estimate.run import command

    instead = {key: value for key in ("scale", "limits") if (value := getattr(options, key))}
    if filters := {key: value for key in ("only", "skip") if (value := getattr(options, key))}:
        instead["filters"] = filters
    command(options.targets, options.gpu, options.config, instead, options.json)


def check_overlap(options: argparse.Namespace) -> None:
    from diablo.data.overlap import check_overlap as run

    run(options.data, options.out)


def json_option(text: str, name: str, model: Any = None) -> Any:
    """The JSON value of option `name`, as the pydantic `model` if there is one; ValueError names the option."""
    from diablo.validation import validate

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not valid JSON ({error})") from None
    return value if model is None else validate(model, value, name)


def resolve(options: argparse.Namespace) -> None:
    from diablo.io import write_json
    from diablo.specs import QuantSpec, RunSpec, SuiteSpec
    from diablo.tuning import tuned

    models = {"run": RunSpec, "suite": SuiteSpec, "quantized": QuantSpec}
    value = json_option(options.json, "--json", models.get(options.kind))
    if options.kind == "run" and value.trials:
        # A tuned run's learning rate is only known once its trials are there.
        value = tuned(value, options.out.parent.parent)
    write_json(options.out, value if options.kind == "plan" else value.model_dump())


def read_spec(path: Path):
    """The RunSpec in `path`; ValueError if it is missing, does not fit or lies in another run's folder."""
    from diablo.io import read_json
    from diablo.specs import RunSpec
    from diablo.validation import validate

    if not path.is_file():
        raise ValueError(f"{path}: no such spec; `snakemake` writes one for each run that it plans")
    spec = validate(RunSpec, read_json(path), str(path))
    # As it is given: the run's other folders are found from it.
    if path.parent.name != spec.run:
        raise ValueError(
            f"{path}: spec of run {spec.run!r} lies in folder {path.parent.name!r}; give it as "
            f"results/<scale>/runs/{spec.run}/{path.name}"
        )
    return spec


def read_suite(path: Path):
    """The SuiteSpec in `path`."""
    from diablo.io import read_json
    from diablo.specs import SuiteSpec
    from diablo.validation import validate

    return validate(SuiteSpec, read_json(path), str(path))


def read_model_spec(path: Path):
    """:func:`read_spec` of a job that fine-tunes or runs the model: call it before torch is imported."""
    spec = read_spec(path)
    leave_out_unused(spec.quantized)
    return spec


def work_folder(run_folder: Path, part: str) -> Path:
    """Where a resume's files live: outside what Snakemake declares and cleans up."""
    return run_folder.parent.parent / ".work" / run_folder.name / part


def finetune(options: argparse.Namespace) -> None:
    from diablo.data.protocol import protocol_of
    from diablo.data.sources import locked

    spec = read_model_spec(options.spec)
    from diablo.launch import launch
    from diablo.rows import is_trained
    from diablo.training import finetune as run

    folder = options.spec.parent
    protocol = protocol_of(spec)
    work = work_folder(folder, "finetune")
    # A killed Snakemake leaves its job running: the one that takes over waits for it to end.
    with locked(work):
        launch(
            max(1, options.gpus) if is_trained(spec.method) else 1,
            run,
            spec,
            folder,
            work,
            protocol,
            threads=options.threads,
            acceleration=options.acceleration,
            sharded=options.sharded,
        )


def quantize(options: argparse.Namespace) -> None:
    from diablo.data.sources import locked
    from diablo.io import read_json
    from diablo.quantization.run import quantize as run
    from diablo.quantization.run import work_folder
    from diablo.specs import QuantSpec
    from diablo.validation import validate

    spec = validate(QuantSpec, read_json(options.spec), str(options.spec))
    folder = options.spec.parent
    if folder.name != spec.name:
        raise ValueError(
            f"{options.spec}: spec of quantised model {spec.name!r} lies in folder {folder.name!r}"
        )
    with locked(work_folder(folder, spec)):
        run(spec, folder, options.threads)


def generate(options: argparse.Namespace) -> None:
    from diablo.data.sources import locked

    spec, suite = read_model_spec(options.spec), read_suite(options.suite)
    from diablo.generation import generate as one_turn
    from diablo.generation.turns import generate_turns

    folder = options.spec.parent
    work = work_folder(folder, f"generate-{suite.suite}")
    run = generate_turns if suite.second_turn else one_turn
    with locked(work):
        run(
            spec,
            suite,
            folder,
            folder / "generations" / f"{suite.suite}.jsonl",
            work,
            backend=options.backend,
            batch_size=options.batch_size,
            threads=options.threads,
            gpus=options.gpus,
        )


def score(options: argparse.Namespace) -> None:
    from diablo.data.sources import locked
    from diablo.judging import JudgeConfig
    from diablo.scoring import score as run
    from diablo.scoring.options import ScoreOptions

    judge = options.judge and json_option(options.judge, "--judge", JudgeConfig)
    given = ScoreOptions(
        unsafe_execution=options.unsafe_execution,
        workers=options.workers,
        judge=judge,
        phrases=options.phrases,
        cache=options.cache and Path(options.cache),
    )
    spec, suite = read_spec(options.spec), read_suite(options.suite)
    folder = options.spec.parent
    generations = folder / "generations" / f"{suite.suite}.jsonl"
    work = work_folder(folder, f"score-{suite.suite}")
    with locked(work):
        run(spec, suite, generations, folder / "scores" / f"{suite.suite}.json", work, given)


def measure(options: argparse.Namespace) -> None:
    spec, folder = read_model_spec(options.spec), options.spec.parent
    from diablo.scoring.answer_loss import measure_held_out, measure_suite

    if options.suite is None:
        measure_held_out(spec, folder, options.threads)
    else:
        measure_suite(spec, read_suite(options.suite), folder, options.threads)


def check_serving(options: argparse.Namespace) -> None:
    spec, suite = read_model_spec(options.spec), read_suite(options.suite)
    from diablo.analysis.serving import check_serving as run

    out = options.spec.parent / "serving" / f"{suite.suite}.json"
    run(
        spec,
        suite,
        out,
        prompts=options.prompts,
        backend=options.backend,
        threads=options.threads,
        gpus=options.gpus,
    )


def ranks(options: argparse.Namespace) -> None:
    from diablo.specs import ProbeSpec

    probe = json_option(options.probe, "--probe", ProbeSpec)
    spec = read_model_spec(options.spec)
    from diablo.analysis.ranks import ranks as run

    run(spec, probe, options.spec.parent, options.threads)


def aggregate(options: argparse.Namespace) -> None:
    from diablo.tables import aggregate as run
    from diablo.tables.quantizers import aggregate_quantizers

    (aggregate_quantizers if options.what == "quantizers" else run)(options.plan)


def theorems(options: argparse.Namespace) -> None:
    from diablo.analysis.theorems.run import theorems as run

    run(options.out)


def report(options: argparse.Namespace) -> None:
    from diablo.config import read_config
    from diablo.report import render_report

    if options.results is None:
        options.results = Path(read_config(options.config).root)
    elif not options.results.is_dir():
        raise ValueError(f"--results {options.results}: no such folder; give results/<scale>")
    render_report(options.results, options.out, as_zip=options.zip)


def audit(options: argparse.Namespace) -> None:
    from diablo.audit.run import audit as run

    run(options.out)


def schematic(options: argparse.Namespace) -> None:
    from diablo.tables.schematic import schematic as run

    run(options.out)


def claims(options: argparse.Namespace) -> None:
    from diablo.claims.run import claims as run

    run(options.out / "tables")


def verify(options: argparse.Namespace) -> int:
    from diablo.verify import verify as run

    found = run(options.results)
    print(found.as_json() if options.json else "\n".join(found.lines()))
    return 0 if found.good else 1


def merge(options: argparse.Namespace) -> None:
    from diablo.publish import run_spec

    spec = read_model_spec(run_spec(options.run))
    from diablo.publish.merge import merge as run

    run(spec, options.run, options.out)
    print(f"{options.out}: {spec.run} merged into {spec.model}")


def push(options: argparse.Namespace) -> None:
    from diablo.publish import run_spec

    spec = read_model_spec(run_spec(options.run))
    from diablo.publish.push import push as run

    run(spec, options.run, options.repo, options.merged, options.base, options.dry_run)
