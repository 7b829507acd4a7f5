"""`diablo VERB`: one verb per rule of the workflow. Its options; what each does with them is in `diablo.verbs`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from diablo import __version__, verbs
from diablo.gpus import lease
from diablo.launch import MISTAKES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status (2 for a mistake of the user's, 1 for a failed check)."""
    parsed = parser().parse_args(arguments)
    try:
        with lease(getattr(parsed, "gpus", 0)):
            return parsed.call(parsed) or 0
    except MISTAKES as error:
        if os.environ.get("DIABLO_DEBUG"):
            raise
        print(f"diablo {parsed.verb}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line of all verbs."""
    top = argparse.ArgumentParser(prog="diablo", description=__doc__)
    top.add_argument("--version", action="version", version=f"diablo {__version__}")
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, call: Callable[[argparse.Namespace], int | None], help: str, gpus: int = 0):
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(call=call, gpus=gpus)
        return sub

    sub = verb(
        "download", verbs.download, "fetch and build a model or a data set, or check the sources"
    )
    sub.add_argument("--model", help="a model of workflow/catalog.yaml")
    sub.add_argument("--dataset", help="a data set of workflow/catalog.yaml")
    sub.add_argument("--out", type=Path, help="folder to write")
    sub.add_argument("--experiments", help="your own experiments, as in config.yaml")
    sub.add_argument("--mirror", help="folder that holds the sources (looked up first)")
    sub.add_argument("--cache", help="folder for downloads (default: ~/.cache/diablo)")
    sub.add_argument(
        "--check",
        metavar="EXPERIMENT",
        nargs="+",
        help="verify that everything these experiments need is here, and build nothing",
    )
    sub.add_argument("--config", type=Path, default=Path("config.yaml"), help="for --check")
    sub.add_argument("--scale", help="for --check: instead of the config's scale")
    sub.add_argument("--rehearse", action="store_true", help="a name of the rehearsal's catalogue")

    sub = verb(
        "rehearse", verbs.rehearse, "make up files in place of all that scale paper downloads"
    )
    sub.add_argument("--out", type=Path, required=True, help="folder to write, a mirror")

    sub = verb(
        "check-overlap", verbs.check_overlap, "check that no training question is a test question"
    )
    sub.add_argument("data", type=Path, help="data set folder")
    sub.add_argument("--out", type=Path, required=True, help="report, written if there is none")

    sub = verb("resolve", verbs.resolve, "write a resolved spec, suite or plan as JSON")
    sub.add_argument("--kind", choices=["run", "suite", "plan", "quantized"], required=True)
    sub.add_argument("--json", required=True, help="the value")
    sub.add_argument("--out", type=Path, required=True)

    sub = verb(
        "estimate", verbs.estimate, "runs, GPU-hours, disk and download, before anything is run"
    )
    sub.add_argument("targets", nargs="*", help="experiments and figures (default: all)")
    sub.add_argument("--gpu", default="h100", help="a card of diablo/estimate/gpus.yaml")
    sub.add_argument("--config", type=Path, default=Path("config.yaml"))
    sub.add_argument("--scale", help="instead of the config's scale")
    sub.add_argument("--limits", type=yaml_value, help="instead of the config's: '{train: 512}'")
    sub.add_argument("--only", nargs="+", help="rows, methods or groups, as filters.only")
    sub.add_argument("--skip", nargs="+", help="rows, methods or groups, as filters.skip")
    sub.add_argument("--json", action="store_true", help="all numbers as JSON")

    sub = verb("finetune", verbs.finetune, "fine-tune one run from its spec.json", gpus=1)
    sub.add_argument("spec", type=Path)
    sub.add_argument("--threads", type=at_least(1))
    sub.add_argument(
        "--acceleration",
        default="auto",
        help="auto (all that help here), none, or some of packing,kernels,graphs",
    )
    sub.add_argument("--gpus", type=at_least(0), help="processes that train together, a GPU each")
    sub.add_argument(
        "--sharded",
        action="store_true",
        help="of several GPUs each keeps a part of the frozen weights, even where all fit one",
    )

    sub = verb("quantize", verbs.quantize, "quantise a base model from its spec.json", gpus=1)
    sub.add_argument("spec", type=Path)
    sub.add_argument("--threads", type=at_least(1))

    sub = verb(
        "generate", verbs.generate, "generate a suite's completions with a run's model", gpus=1
    )
    sub.add_argument("spec", type=Path)
    sub.add_argument("--suite", type=Path, required=True, help="suite JSON")
    sub.add_argument("--backend", choices=["auto", "vllm", "transformers"], default="auto")
    sub.add_argument("--batch-size", type=at_least(1))
    sub.add_argument("--gpus", type=at_least(0), help="vLLM's tensor-parallel size on a GPU")
    sub.add_argument("--threads", type=at_least(1))

    sub = verb("score", verbs.score, "score a run's stored generations")
    sub.add_argument("spec", type=Path)
    sub.add_argument("--suite", type=Path, required=True, help="suite JSON")
    sub.add_argument(
        "--unsafe-execution",
        action="store_true",
        help="run model-written code even where this system has no sandbox",
    )
    sub.add_argument(
        "--workers", type=at_least(1), help="candidates that run at a time (default: all cores)"
    )
    sub.add_argument("--judge", metavar="JSON", help="the judge, with the keys of config.yaml's")
    sub.add_argument("--phrases", type=Path, help="your own list of refusal phrases (YAML)")
    sub.add_argument("--cache", help="folder for downloads; the judge's replies are kept there too")

    sub = verb(
        "measure",
        verbs.measure,
        "measure a run's loss on the gold answers of unseen examples",
        gpus=1,
    )
    sub.add_argument("spec", type=Path)
    sub.add_argument("--suite", type=Path, help="suite JSON (default: what a trial held out)")
    sub.add_argument("--threads", type=at_least(1))

    sub = verb(
        "check-serving",
        verbs.check_serving,
        "check adapter model = merged model = served model",
        gpus=1,
    )
    sub.add_argument("spec", type=Path)
    sub.add_argument("--suite", type=Path, required=True, help="suite JSON")
    sub.add_argument("--backend", choices=["auto", "vllm", "transformers"], default="auto")
    sub.add_argument("--prompts", type=at_least(1), default=32)
    sub.add_argument("--gpus", type=at_least(0), help="vLLM's tensor-parallel size on a GPU")
    sub.add_argument("--threads", type=at_least(1))

    sub = verb(
        "ranks",
        verbs.ranks,
        "measure the ranks of activations and output gradients of one layer",
        gpus=1,
    )
    sub.add_argument("spec", type=Path)
    sub.add_argument("--probe", metavar="JSON", required=True, help="layer, examples, thresholds")
    sub.add_argument("--threads", type=at_least(1))

    sub = verb(
        "aggregate", verbs.aggregate, "build an experiment's table and figure from its scores"
    )
    sub.add_argument("plan", type=Path)
    sub.add_argument("--what", choices=["table", "quantizers"], default="table")

    sub = verb(
        "theorems", verbs.theorems, "test the paper's theorems; write their table and figure"
    )
    sub.add_argument(
        "--out", type=Path, required=True, help="folder that gets tables/ and figures/"
    )

    sub = verb(
        "report", verbs.report, "write one page of all results: tables, figures, costs, provenance"
    )
    sub.add_argument("--results", type=Path, help="results/<scale> (default: as --config says)")
    sub.add_argument("--out", type=Path, default=Path("report/index.html"), help="the page")
    sub.add_argument(
        "--zip", action="store_true", help="an archive of page, CSVs, images and specs"
    )
    sub.add_argument("--config", type=Path, default=Path("config.yaml"))
    sub = verb(
        "audit",
        verbs.audit,
        "check the paper's numbers against themselves, its code and its sources",
    )
    sub.add_argument("--out", type=Path, required=True, help="folder that gets tables/")
    sub = verb("schematic", verbs.schematic, "draw Figure 1, what each method trains of a weight")
    sub.add_argument("--out", type=Path, required=True, help="folder that gets figures/")
    sub = verb(
        "claims", verbs.claims, "judge the paper's claims on its own numbers and on what was run"
    )
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        help="results of a scale: its tables/ is read and written",
    )
    sub = verb(
        "verify", verbs.verify, "hash all results again and compare them with their provenance"
    )
    sub.add_argument("results", type=Path, help="results/<scale>, whole or in part")
    sub.add_argument("--json", action="store_true", help="print everything as JSON")

    sub = verb(
        "merge", verbs.merge, "merge a run's adapter into a plain model folder, to be served"
    )
    sub.add_argument("run", type=Path, help="results/<scale>/runs/<run>")
    sub.add_argument("--out", type=Path, required=True, help="folder to write")

    sub = verb("push", verbs.push, "put a run on the Hugging Face Hub, with a card of its scores")
    sub.add_argument("run", type=Path, help="results/<scale>/runs/<run>")
    sub.add_argument("--repo", required=True, metavar="OWNER/NAME")
    sub.add_argument("--merged", action="store_true", help="the merged model, not the adapter")
    sub.add_argument(
        "--base", metavar="OWNER/NAME", help="where the Hub has a base model of your own"
    )
    sub.add_argument(
        "--dry-run",
        type=Path,
        metavar="FOLDER",
        help="write what would be uploaded, and upload nothing",
    )
    return top


def yaml_value(text: str):
    """An argument that is a value of config.yaml."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"not valid YAML: {text}") from None


def at_least(least: int) -> Callable[[str], int]:
    """A type of arguments: whole numbers from `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: not a whole number of at least {least}")
        return int(text)

    return number
