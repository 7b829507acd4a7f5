"""The choice of a learning rate: the trial with the least held-out answer loss (no test data)."""

from __future__ import annotations

import math
from pathlib import Path

from diablo.io import read_json
from diablo.specs import RunSpec
from diablo.validation import validate


def tuned(spec: RunSpec, runs_folder: str | Path) -> RunSpec:
    """`spec` with the learning rate of its best trial, and what was tried.

    Of trials with equal losses the one with the lower learning rate is taken.

    Args:
        runs_folder: holds the trials' folders, each with spec.json and held_out.json.

    Raises:
        ValueError: if a trial is not measured, its loss is not finite, or trials were judged on
            different numbers of examples; names the file.
    """
    tried = []
    for run in spec.trials:
        folder = Path(runs_folder) / run
        path = folder / "held_out.json"
        if not path.is_file():
            raise ValueError(f"{path}: no such file; run `diablo measure` for this trial")
        trial, measured = (
            validate(RunSpec, read_json(folder / "spec.json"), str(folder / "spec.json")),
            read_json(path),
        )
        if measured["run"] != run or not math.isfinite(measured["value"]):
            raise ValueError(
                f"{path}: run is {measured['run']!r} and its loss {measured['value']}; measure again"
            )
        tried.append({"run": run, "lr": trial.lr, "loss": measured["value"], "n": trial.held_out})
    counts = {trial["n"] for trial in tried}
    if len(counts) != 1:
        raise ValueError(f"{runs_folder}: trials of {spec.run} held out {sorted(counts)} examples")
    best = min(tried, key=lambda trial: (trial["loss"], trial["lr"]))
    trials = [{key: trial[key] for key in ("run", "lr", "loss")} for trial in tried]
    record = {"held_out": counts.pop(), "trials": trials, "chosen": best["lr"]}
    return spec.model_copy(update={"lr": best["lr"], "tuning": record})
