"""The learning rate of the best trial, and refusals of what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from diablo.config import Config
from diablo.experiments import Tune
from diablo.io import write_json
from diablo.planning import Plan, resolve
from diablo.specs import RunSpec
from diablo.tuning import tuned

TUNE = {"factors": [0.5, 1, 2], "held_out": 16}


def plan_with(**config) -> Plan:
    return resolve(Config.model_validate(config))


def spec_of(name: str, **fields) -> RunSpec:
    values = {
        "run": name, "scale": "demo", "model": "m", "model_path": "m", "dataset": "d",
        "data_path": "d", "suite": "commonsense", "variant": "paper", "method": "lora", **fields,
    }  # fmt: skip
    return RunSpec(**values)


def trial(folder: Path, name: str, lr: float, loss: float, held_out: int = 16) -> str:
    spec = spec_of(name, lr=lr, held_out=held_out)
    write_json(folder / name / "spec.json", spec.model_dump())
    write_json(folder / name / "held_out.json", {"run": name, "value": loss})
    return name


def test_the_trial_with_the_least_held_out_loss_decides(tmp_path: Path) -> None:
    losses = {"a": (1e-3, 0.9), "b": (2e-3, 0.4), "c": (4e-3, 0.5)}
    names = [trial(tmp_path, name, *pair) for name, pair in losses.items()]
    found = tuned(spec_of("final", lr=1e-3, trials=names), tmp_path)
    assert found.lr == 2e-3
    assert found.tuning == {
        "held_out": 16,
        "trials": [{"run": n, "lr": lr, "loss": loss} for n, (lr, loss) in losses.items()],
        "chosen": 2e-3,
    }


def test_equal_losses_give_the_lower_rate(tmp_path: Path) -> None:
    names = [trial(tmp_path, "a", 2e-3, 0.5), trial(tmp_path, "b", 1e-3, 0.5)]
    assert tuned(spec_of("final", trials=names), tmp_path).lr == 1e-3


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    a = trial(tmp_path, "a", 1e-3, 0.5)
    with pytest.raises(ValueError, match=r"b/held_out\.json: no such file"):
        tuned(spec_of("final", trials=[a, "b"]), tmp_path)
    b = trial(tmp_path, "b", 2e-3, 0.4)
    write_json(tmp_path / "b" / "held_out.json", {"run": "a", "value": 0.4})
    with pytest.raises(ValueError, match="run is 'a'"):
        tuned(spec_of("final", trials=[a, b]), tmp_path)
    b = trial(tmp_path, "b", 2e-3, 0.4, held_out=8)
    with pytest.raises(ValueError, match=r"held out \[8, 16\]"):
        tuned(spec_of("final", trials=[a, b]), tmp_path)


def test_every_method_gets_the_same_number_of_trials() -> None:
    plan = plan_with(tune=TUNE, seeds=[0, 1])
    runs = [plan.runs[run] for run in plan.runs_of("table1")]
    for spec in runs:
        trials = [plan.runs[name] for name in spec.trials]
        if spec.method == "zero-shot":
            assert not trials
            continue
        rates = [spec.lr * factor for factor in TUNE["factors"]]
        assert [one.lr for one in trials] == pytest.approx(rates)
        # Trials are of the first seed, never of test data, and none is a row of its own.
        assert {one.seed for one in trials} == {0}
        assert {one.held_out for one in trials} == {16}
        assert not set(spec.trials) & set(plan.runs_of("table1"))
        same = {"method", "rank", "num_blocks", "modules", "batch_size", "epochs", "dataset"}
        for one in trials:
            assert one.model_dump(include=same) == spec.model_dump(include=same)
    rows = [row for g in plan.tables["table1"]["groups"] for row in g["rows"] if row["runs"]]
    assert {row["lr_from"] for row in rows} == {"tuned", None}


def test_trials_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValueError, match="leaves nothing of the 10 training examples"):
        plan_with(tune=TUNE, limits={"train": 10})


@pytest.mark.parametrize("factors", [[1, 1], [0, 1], [-1]])
def test_factors_are_positive_and_distinct(factors: list[float]) -> None:
    with pytest.raises(ValueError, match="positive, each given once"):
        Tune(factors=factors, held_out=1)
