"""`diablo estimate`: the jobs of the named experiments, added up, with what the numbers rest on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diablo.config import Config, read_config
from diablo.data.naming import unknown
from diablo.planning import Plan, resolve

from .facts import RULES, Assumptions, load_assumptions, load_gpus
from .fits import Fits, Misfit
from .jobs import Costs, Job, waits_for
from .rates import BENCHMARKS, Rates
from .render import cards, render


def command(
    targets: Sequence[str],
    gpu: str,
    config: Path,
    instead: dict[str, Any],
    as_json: bool = False,
) -> None:
    """Print an estimate.

    Args:
        targets: experiments and figures; none: all.
        gpu: a card of `gpus.yaml`.
        config: the config file.
        instead: keys of it that are to be others; `limits` and `filters` are JSON or YAML mappings.

    Raises:
        ValueError: an unknown name, or (after the estimate of what fits is printed) runs that do not fit.
    """
    # What a rehearsal rehearses is what costs.
    found = estimate(targets, gpu, read_config(config, {**instead, "rehearse": False}))
    print(json.dumps(found, indent=2) if as_json else render(found), flush=True)
    if refused := found["does_not_fit"]:
        lines = "\n".join(f"  {one['text']}" for one in refused)
        raise ValueError(
            f"{len(refused)} run(s) do not fit {cards(found)} and are not counted above:\n"
            f"{lines}\nLeave them out with --skip METHOD, or choose another --gpu. A method's "
            "micro_batch_size and gradient_checkpointing stand in its rows and in the settings of "
            f"workflow/scales/{found['scale']}.yaml."
        )


def estimate(
    targets: Sequence[str], gpu: str, config: Config, benchmarks: Path = BENCHMARKS
) -> dict[str, Any]:
    """What the named experiments cost on GPUs of one type, as a JSON value.

    A job that several of them need is counted with the first that is named. Jobs of runs that do not fit,
    and of runs that wait for such a run, are counted nowhere.

    Raises:
        ValueError: an unknown experiment or GPU (with the nearest valid name), or see `planning.resolve`.
    """
    gpus, known = load_gpus(), load_assumptions()
    card = gpus.named(gpu)
    if config.device == "auto":
        config = config.model_copy(update={"device": "gpu"})
    plan = resolve(config)
    names = list(dict.fromkeys(targets)) or list(plan.tables)
    for name in names:
        if name not in plan.tables:
            raise ValueError(unknown("experiment", name, plan.tables, "estimate"))
    rates = Rates.load(gpu, gpus, plan.catalog, benchmarks)
    costs, fits = Costs(plan, rates, known, config.backend), Fits(gpus, gpu, known)
    refused = _refused(costs, fits, names)
    runs = {run for name in names for run in costs.runs_of(name)}
    most = max((costs.gpus(rule, run) for rule in RULES for run in runs), default=1)
    seen: dict[tuple[str, str], Job] = {}
    entries = []
    for name in names:
        left_out = refused.keys() & costs.runs_of(name)
        jobs = costs.jobs_of(name, without=refused)
        new = {key: job for key, job in jobs.items() if key not in seen}
        shared = sum(rule == "finetune" for rule, _ in jobs.keys() & seen.keys())
        seen |= new
        entries.append(
            {"name": name, "runs": len(costs.runs_of(name)), "shared_runs": shared}
            | {"left_out_runs": len(left_out)}
            | _totals(new.values(), known, rates.measured)
        )
    notes = {
        rule: list(
            dict.fromkeys(n for job in seen.values() if job.rule == rule for n in job.rests_on)
        )
        for rule in RULES
    }
    return {
        "scale": config.scale,
        "gpu": {"name": gpu, "measured": rates.measured, **card.model_dump()},
        "gpus": most,
        "targets": entries,
        "total": _totals(seen.values(), known, rates.measured) | {"runs": len(runs)},
        "rests_on": {rule: found for rule, found in notes.items() if found},
        "ranges": {rule: known.ranges[rule].why for rule in RULES},
        "unmeasured_card": None if rates.measured else known.unmeasured_card.model_dump(),
        "not_counted": _not_counted(names, plan),
        "does_not_fit": [
            {"run": one.run, "rule": one.rule, "need_gb": one.need.total / 1e9, "text": one.text()}
            for one in refused.values()
            if isinstance(one, Misfit)
        ],
        "wait_for_them": [name for name, one in refused.items() if one is None],
    }


def _refused(costs: Costs, fits: Fits, names: Iterable[str]) -> dict[str, Misfit | None]:
    """Runs that do not fit with the reason, and (None) those that wait for one of them."""
    runs = dict.fromkeys(run for name in names for run in costs.runs_of(name))
    found: dict[str, Misfit | None] = {}
    for name in runs:
        run, model, suite = costs.parts(name)
        if misfit := fits.misfit(run, model, suite, costs.quantized(run), costs.cards(name)):
            found[name] = misfit
    waiting = {
        name for name in runs for other in waits_for(costs.plan.runs[name]) if other in found
    }
    return found | dict.fromkeys(sorted(waiting - found.keys()))


def _totals(jobs: Iterable[Job], known: Assumptions, measured: bool) -> dict[str, Any]:
    """Sums of jobs: by rule, and over all of them. Hours of each GPU that is held, bytes, operations."""
    every, rules = list(jobs), {}
    for rule in RULES:
        mine = [job for job in every if job.rule == rule]
        hours = sum(job.seconds * job.gpus for job in mine) / 3600
        spread = known.ranges[rule]
        more = 1.0 if measured else known.unmeasured_card.factor
        rules[rule] = {
            "jobs": len(mine),
            "gpu_hours": hours,
            "gpu_hours_low": hours * spread.low / more,
            "gpu_hours_high": hours * spread.high * more,
            "flops": sum(job.flops for job in mine),
            "disk_bytes": sum(job.disk for job in mine),
            "download_bytes": sum(job.download for job in mine),
        }
    keys = rules["score"].keys()
    return {
        "rules": rules,
        **{key: sum(rules[rule][key] for rule in RULES) for key in keys},
        "temporary_bytes": max((job.temporary for job in every), default=0.0),
    }


def _not_counted(names: Iterable[str], plan: Plan) -> list[str]:
    """What these experiments do besides, in words."""
    found = [
        "jobs that are run again, and waiting in a queue",
        "a cache of downloads, which holds them once more",
    ]
    if any(name in plan.probes for name in names):
        found.append("the ranks of Figure 3 (one layer's decompositions)")
    if any(plan.tables[name]["kind"] == "accuracy" for name in names):
        found.append("`snakemake serving`")
    return found
