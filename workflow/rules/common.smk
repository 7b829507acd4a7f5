# The plan of every run and table, resolved once while Snakemake parses, and the helpers of the rules.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Where this file is, whichever Snakefile reads it: ours, or one that uses it as a module.
REPOSITORY = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
if not (REPOSITORY / "diablo").is_dir():
    raise WorkflowError(
        "the rules call the code beside them, so they cannot be fetched alone: clone the repository and "
        "give `module` the path of the Snakefile in the clone (config/README.md)"
    )
paths = workflow.modifier.path_modifier
if paths.prefix or paths.modifies_prefixes:
    raise WorkflowError(
        "`prefix` and `replace_prefix` of a module do not reach the paths inside of specs; set `results` "
        "in the module's config instead"
    )
sys.path.insert(0, str(REPOSITORY))

from diablo.data.protocol import protocol_of
from diablo.digests import code_digest, function_digest, protocol_digest, verb_digest
from diablo.config import Config
from diablo.validation import validate
from diablo.planning import resolve, used_device
from diablo.provenance import lock_version
from diablo.rehearsal.scale import rehearsing


def load_plan():
    try:
        settings = validate(Config, config, "config")
        settings = rehearsing(settings) if settings.rehearse else settings
        return settings, resolve(settings)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


SETTINGS, PLAN = load_plan()
ROOT = SETTINGS.root
MODELS = f"{SETTINGS.results}/models"
LOGS = f"{SETTINGS.results}/logs/{Path(ROOT).name}"
BENCHMARKS = f"{SETTINGS.results}/benchmarks/{Path(ROOT).name}"
TABLES = ("csv", "md", "html", "tex")
FIGURES = ("png", "svg", "csv")

# Snakemake's own interpreter, never whatever `diablo` the PATH has; the code of this checkout.
PYTHON = f"PYTHONPATH={shlex.quote(str(REPOSITORY))} {shlex.quote(sys.executable)}"
DEVICE = used_device(SETTINGS)
# What is planned for a CPU leases no GPU, so it sees none.
if DEVICE == "cpu":
    PYTHON = f"CUDA_VISIBLE_DEVICES= {PYTHON}"
DIABLO = f"{PYTHON} -m diablo"
# Without conda Snakemake does not see a new torch: the lock file's hash is a param of the rules
# whose results depend on it.
LOCK = (lock_version() or {}).get("sha256")
# Not a param of the download rules: where a file is found changes nothing, its hash is checked.
WHERE = " ".join(
    f"--{key} {shlex.quote(value)}"
    for key in ("mirror", "cache", "experiments")
    if (value := getattr(SETTINGS, key))
) + (" --rehearse" if SETTINGS.rehearse else "")


def scoring_flags():
    flags = ["--unsafe-execution"] if SETTINGS.unsafe_execution else []
    if SETTINGS.judge:
        flags += ["--judge", SETTINGS.judge.model_dump_json(exclude_none=True)]
    for key, value in (
        ("phrases", SETTINGS.refusal_phrases),
        ("cache", SETTINGS.cache),
    ):
        flags += [f"--{key}", value] if value else []
    return shlex.join(flags)


# Not a param either: how a judge is asked (retries, prices) and where its replies are kept.
SCORING = scoring_flags()


# A module's commands run with the module's own names, but are printed with those of the Snakefile that
# uses it, which fails where they are missing there.
for name in ("PYTHON", "DIABLO", "WHERE", "SCORING"):
    workflow.modifier_stack[0].globals.setdefault(name, globals()[name])


# Names of the runs whose full gradients are monitored; a pattern that matches nothing if there are none.
MONITORED = (
    "|".join(
        re.escape(run) for run, spec in PLAN.runs.items() if spec.gradient_examples
    )
    or "(?!)"
)


wildcard_constraints:
    run=r"[^/]+",
    suite=r"[a-z0-9_]+",
    variant=r"(paper|released|peer)(-without-[a-z_]+)*|own",
    model=r"[^/]+",
    quantized=r"[^/]+",
    dataset=r"[^/]+",
    probe="|".join(PLAN.probes) or "(?!)",
    experiment="|".join(PLAN.tables),


# What Snakemake cannot see: the code that a verb runs through, of the run's own method and the suite's
# own scorer. Functions, so that only the digests of the jobs in question are computed.
def code_of(verb):
    return lambda wildcards: verb_digest(verb)


def run_code(verb):
    return lambda wildcards: verb_digest(verb, PLAN.runs[wildcards.run].method)


def score_code(wildcards):
    run = PLAN.runs[wildcards.run]
    return verb_digest("score", run.method, protocol_of(run).scorer)


def model_code(wildcards):
    from diablo.data.prepare import MODEL_BUILDERS

    return function_digest(MODEL_BUILDERS[PLAN.catalog.models[wildcards.model].builder])


# Of this data set's own builder: another one's code makes nothing of it.
def dataset_code(wildcards):
    from diablo.data.prepare import BUILDERS

    return function_digest(BUILDERS[PLAN.catalog.datasets[wildcards.dataset].builder])


# Any other run's spec is its `json`, whatever writes it.
def tuning_code(wildcards):
    tuned = PLAN.runs[wildcards.run].trials
    return code_digest("diablo.tuning:tuned") if tuned else None


# A user's own protocol is in the specs; those in diablo/data/protocols are seen by their content alone.
def trained_protocol(wildcards):
    run = PLAN.runs[wildcards.run]
    if run.protocol or not run.dataset:
        return None
    # What is kept of an update is chosen by the answer loss, which evaluation's prompts are part of.
    return protocol_digest(run.suite, run.variant, training=run.method != "retained")


def asked_protocol(wildcards):
    run = PLAN.runs[wildcards.run]
    return None if run.protocol else protocol_digest(run.suite, run.variant)


def model_digest(wildcards):
    return PLAN.catalog.models[wildcards.model].digest


def dataset_digest(wildcards):
    return PLAN.catalog.datasets[wildcards.dataset].digest


# What a rehearsal has in place of what is downloaded.
def rehearsed_sources(wildcards):
    return [f"{ROOT}/sources/provenance.json"] if SETTINGS.rehearse else []


def rehearsed_digest(wildcards):
    from diablo.rehearsal.sources import declared_digest

    return declared_digest()


def model_files_of(wildcards):
    return PLAN.model_files(wildcards.model)


def suite_spec(wildcards):
    return PLAN.suites[f"{wildcards.suite}-{wildcards.variant}"]


def as_json(value):
    return json.dumps(value, ensure_ascii=False)


def model_of(wildcards):
    run = PLAN.runs[wildcards.run]
    return f"{run.model_path}/provenance.json"


def float_model_of(wildcards):
    return f"{PLAN.quantized[wildcards.quantized].model_path}/provenance.json"


def calibration_of(wildcards):
    return f"{PLAN.quantized[wildcards.quantized].calibration_path}/provenance.json"


def trials_of(wildcards):
    trials = PLAN.runs[wildcards.run].trials
    return [f"{ROOT}/runs/{run}/held_out.json" for run in trials]


def mask_of(wildcards):
    adapter = PLAN.runs[wildcards.run].mask_adapter
    return [f"{adapter}/provenance.json"] if adapter else []


def full_of(wildcards):
    adapter = PLAN.runs[wildcards.run].full_adapter
    return [f"{adapter}/provenance.json"] if adapter else []


def train_data_of(wildcards):
    data = PLAN.runs[wildcards.run].data_path
    return [f"{data}/provenance.json"] if data else []


# Nothing trains on a data set whose training questions occur in its test set.
def overlap_of(wildcards):
    data = PLAN.runs[wildcards.run].data_path
    return [f"{data}/overlap.json"] if data else []


def suite_key(run):
    return PLAN.runs[run].suite_key


def suite_of(wildcards):
    return f"{ROOT}/suites/{suite_key(wildcards.run)}.json"


def test_data_of(wildcards):
    return f"{PLAN.suites[suite_key(wildcards.run)].data_path}/provenance.json"


def table_outputs(name):
    tables = [f"{ROOT}/tables/{name}.{form}" for form in TABLES]
    figures = PLAN.figures_of(name)
    if PLAN.tables[name]["quantizers"]:
        tables += [f"{ROOT}/tables/{name}-quantizers.{form}" for form in TABLES]
    return tables + [
        f"{ROOT}/figures/{fig}.{form}" for fig in figures for form in FIGURES
    ]


def serving_outputs(wildcards):
    runs = [run for table in PLAN.tables for run in PLAN.runs_of(table)]
    return [
        f"{ROOT}/runs/{run}/serving/{PLAN.runs[run].suite}.json"
        for run in dict.fromkeys(runs)
        if PLAN.runs[run].method not in ("zero-shot", "full")
    ]
