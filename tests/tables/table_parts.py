"""Made-up plans with parts, and their runs, for the tests of tables.

`table3`, `table7` and `table8` are small tables in the shape of the paper's: two parts and two seeds with
pass@k, refusals and over-refusal; ratings by a judge, or none; five parts with statistics of whole sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table_builder import Builder, loss_entry
from table_entries import accuracy, f1, guesses, matthews, pass_at, ratings, refusal

from diablo.io import write_json

GREEDY = {"num_beams": 1, "max_new_tokens": 32, "stop": []}
SAMPLED = {**GREEDY, "temperature": 0.2, "top_p": 0.95, "samples": 10, "seed": 0}
JUDGE = {
    "endpoint": "judge.example:8000",
    "model": "judge-1",
    "calls": 40,
    "cached": 2,
    "prompt_tokens": 12_000,
    "completion_tokens": 800,
    "cost": 0.25,
    "prompts_sha256": {"grade": "abcdef0123456789" * 4},
}


def write_run(
    build: Builder,
    name: str,
    method: str,
    part: str,
    suite: str,
    entries: Mapping[str, dict[str, Any]] | None,
    nll: Mapping[str, Sequence[float]],
    seed: int = 0,
    lr: float = 1e-4,
    decoding: Mapping[str, Any] = GREEDY,
    ids: Mapping[str, Sequence[str]] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Write one run of a part; return its entry in a plan.

    `nll` has the losses of each prompt task, whose ids are those of the first entry of the task's name
    unless `ids` says them; `facts` go to the scores' provenance.
    """
    base = build.folder / "runs" / name
    about = {"suite": suite, "variant": "paper", "run": name}
    scores = base / "scores" / f"{suite}.json"
    if entries is not None:
        provenance = {"verb": "score", "generated": {"decoding": dict(decoding)}, **facts}
        content = {**about, "tasks": dict(entries), "average": None, "provenance": provenance}
        write_json(scores, content)
    measured = {
        task: loss_entry(
            list((ids or {}).get(task) or scored_ids(entries or {}, task)), list(losses)
        )
        for task, losses in nll.items()
    }
    losses = base / "losses" / f"{suite}.json"
    write_json(losses, {**about, "tasks": measured, "provenance": {"verb": "measure"}})
    trained = {"method": method, "trainable_parameters": 1000, "base_parameters": 100_000}
    write_json(
        base / "adapter" / "provenance.json", {**trained, "learning_rate": lr, "device": "cpu"}
    )
    return {
        "part": part,
        "run": name,
        "seed": seed,
        "lr": lr,
        "scores": None if entries is None else str(scores),
        "adapter": str(base / "adapter"),
        "losses": str(losses),
        "log": str(base / "log.jsonl"),
    }


def scored_ids(entries: Mapping[str, dict[str, Any]], task: str) -> list[str]:
    entry = next(e for name, e in entries.items() if name.startswith(task))
    return sorted([*(one["id"] for one in entry["outcomes"]), *entry.get("malformed", ())])


def part(name: str, suite: str, columns: list[str], readings: list[str], **changes: Any) -> dict:
    """A part of a plan."""
    return {
        "name": name,
        "suite": suite,
        "variant": "paper",
        "columns": columns,
        "readings": readings,
        "decoding": GREEDY,
        "limits": {"train": 512, "test_per_task": None, "steps": None, "device": "cpu"},
        "protocol": f"{suite}'s protocol",
        "unstated": [],
        "notes": [],
        "test_sizes_paper": {},
        **changes,
    }


def entry(task: str, metric: str, unit: str = "%", lower_is_better: bool = False) -> dict[str, Any]:
    return {"task": task, "metric": metric, "unit": unit, "lower_is_better": lower_is_better}


CODE = ("humaneval_pass1", "humaneval_pass5", "humaneval_pass10")
SAFETY = ("hexphi", "hexphi_with_prompt", "hexphi_llm", "harmless")


def table3(build: Builder, seeds: int = 2, **changes: Any) -> Path:
    """Code and safety: LoRA, two DiaBlo rows and one that was not run."""
    rng = np.random.default_rng(3)

    def runs(name: str, method: str, skill: float) -> list[dict[str, Any]]:
        found = []
        for seed in range(seeds):
            passed = [int(x) for x in rng.binomial(10, skill, 20)]
            code = {f"humaneval_pass{k}": pass_at(k, passed) for k in (1, 5, 10)}
            refused = [int(x) for x in rng.random(30) < skill]
            safety = {
                "hexphi": refusal(refused),
                "hexphi_with_prompt": refusal([max(r, i % 10 == 0) for i, r in enumerate(refused)]),
                "hexphi_llm": refusal([None if i == 3 else r for i, r in enumerate(refused)]),
                "harmless": refusal([int(x) for x in rng.random(12) < skill / 2], "m"),
            }
            kappa = {"n": 29, "counts": [], "agreed": 0.9, "kappa": 0.8, "stderr": 0.1,
                     "interval": [0.6, 1.0], "note": None}  # fmt: skip
            agreement = [{"task": "hexphi", "judges": ["keywords", "llm"], **kappa}]
            found += [
                write_run(
                    build, f"{name}-code-s{seed}", method, "code", "humaneval", code,
                    {"humaneval": rng.uniform(2, 6, 20)}, seed, 2e-5, SAMPLED,
                    sandbox="bubblewrap",
                    limits={"cpu_seconds": 3, "memory_bytes": 512 * 2**20},
                ),
                write_run(
                    build, f"{name}-safety-s{seed}", method, "safety", "hexphi", safety,
                    {"hexphi": rng.uniform(2, 6, 30), "harmless": rng.uniform(2, 6, 12)}, seed,
                    judge=JUDGE, agreement=agreement,
                ),
            ]  # fmt: skip
        return found

    reported = {
        "humaneval_pass1": 34.7,
        "humaneval_pass5": 46.4,
        "humaneval_pass10": 50.8,
        "hexphi": 91.6,
    }
    plain = {"reported": reported, "lr_from": "scale"}
    rows = [
        build.row("LoRA", rank=32, runs=runs("lora", "lora", 0.5), **plain),
        build.row("DiaBlo", "diablo", num_blocks=64, runs=runs("n64", "diablo", 0.7), **plain),
        build.row("DiaBlo", "diablo", num_blocks=128, runs=runs("n128", "diablo", 0.4), **plain),
        build.row("LoRI", "lori", rank=32, reason="filtered", **plain),
    ]
    metrics = [f"pass@{k}" for k in (1, 5, 10)]
    entries = {
        **{key: entry("humaneval", metric) for key, metric in zip(CODE, metrics, strict=True)},
        **{key: entry("hexphi", "refusal") for key in SAFETY[:3]},
        "harmless": entry("harmless", "refusal", lower_is_better=True),
    }
    parts = [
        part("code", "humaneval", list(CODE), [], decoding=SAMPLED, notes=["Twenty problems."]),
        part("safety", "hexphi", ["hexphi"], list(SAFETY[1:]), test_sizes_paper={"hexphi": 330}),
    ]
    readings = {
        "hexphi_with_prompt": "with the prompt",
        "hexphi_llm": "by the judge",
        "harmless": "over-refusal",
    }
    columns = dict(zip(CODE, ("Pass@1", "Pass@5", "Pass@10"), strict=True)) | {"hexphi": "HEx-PHI"}
    fields = {"columns": columns, "readings": readings, "entries": entries}
    return plan(build, rows, parts, **fields | changes)


def table7(build: Builder, judge: bool, **changes: Any) -> Path:
    """Chat, with or without a judge; only some questions have a reference answer."""
    rng = np.random.default_rng(7)

    def runs(name: str, method: str, skill: float) -> list[dict[str, Any]]:
        given = [round(min(10, max(1, skill + rng.normal(0, 2)))) for _ in range(16)]
        verdicts = [None if name == "lora" and i == 5 else one for i, one in enumerate(given)]
        scores = {"mtbench": ratings(verdicts)} if judge else None
        asked = [f"q{i}" for i in range(10)]
        return [
            write_run(
                build, name, method, "", "mtbench", scores,
                {"mtbench": rng.uniform(4, 8, 10) - skill / 10}, ids={"mtbench": asked}, judge=JUDGE,
                decoding={**GREEDY, "temperature_by_task": {"writing": 0.7}},
            )
        ]  # fmt: skip

    rows = [
        build.row("LoRA", rank=8, runs=runs("lora", "lora", 4.0), reported={"mtbench": 5.61}),
        build.row("DiaBlo", "diablo", num_blocks=320, runs=runs("n320", "diablo", 6.0),
                  reported={"mtbench": 6.26}),
    ]  # fmt: skip
    decoding = {**GREEDY, "temperature_by_task": {"writing": 0.7}, "top_p": 1.0, "samples": 1}
    fields = {
        "columns": {"mtbench": "MT-Bench"},
        "readings": {},
        "entries": {"mtbench": entry("mtbench", "rating", "points")},
        "missing": {} if judge else {"mtbench": "no judge"},
    }
    only = part("", "mtbench", ["mtbench"], [], decoding=decoding)
    return plan(build, rows, [only], **fields | changes)


GLUE = {"mrpc": "MRPC", "cola": "CoLA", "sst2": "SST-2", "qnli": "QNLI", "mnli": "MNLI"}


def table8(build: Builder, **changes: Any) -> Path:
    """Five parts with an average, F1 and Matthews beside it."""
    skills = {"lora": 0.6, "n64": 0.75}
    rows = []
    for name, skill in skills.items():
        method = "diablo" if name == "n64" else "lora"
        runs = []
        for task in GLUE:
            pairs = guesses(f"{name}{task}", skill)
            scores = {task: accuracy(pairs)}
            if task == "mrpc":
                scores["mrpc_f1"] = f1(pairs)
            if task == "cola":
                scores["cola_matthews"] = matthews(pairs)
            nll = {task: [4 * (1.5 - skill)] * len(pairs)}
            runs.append(
                write_run(build, f"{name}-{task}", method, task, f"glue_{task}", scores, nll)
            )
        reported = dict.fromkeys([*GLUE, "avg"], 84.3)
        blocks = 64 if name == "n64" else None
        rows.append(build.row(name, method, num_blocks=blocks, runs=runs, reported=reported))
    readings = {"mrpc_f1": "MRPC F1", "cola_matthews": "CoLA Matthews"}
    beside = {"mrpc": ["mrpc_f1"], "cola": ["cola_matthews"]}
    parts = [part(task, f"glue_{task}", [task], beside.get(task, [])) for task in GLUE]
    entries = {task: entry(task, "acc") for task in GLUE}
    entries |= {"mrpc_f1": entry("mrpc", "f1"), "cola_matthews": entry("cola", "matthews")}
    fields = {"columns": GLUE, "readings": readings, "entries": entries, "average": "Avg"}
    return plan(build, rows, parts, **fields | changes)


def plan(
    build: Builder, rows: list[dict[str, Any]], parts: list[dict[str, Any]], **fields: Any
) -> Path:
    """Write a plan of one group; return its path."""
    return build.plan(rows, **{"parts": parts, "missing": {}, "average": None} | fields)
