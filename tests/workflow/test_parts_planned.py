"""Experiments with parts: each part resolved as an experiment of its own, and put together again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from diablo.config import Config
from diablo.experiments import WORKFLOW
from diablo.planning import Plan, resolve
from diablo.specs import RunSpec

PARTS = {
    "sums": {
        "train": "metamathqa",
        "suite": "metamath",
        "columns": {"gsm8k": "GSM8K", "math": "MATH"},
        "readings": {"gsm8k_strict": "GSM8K strict"},
        "defaults": {"epochs": 4, "lr": 1e-1, "weight_decay": 0.5},
    },
    "sense": {
        "train": "commonsense_170k",
        "suite": "commonsense",
        "columns": {"boolq": "BoolQ"},
        "defaults": {"epochs": 5, "lr": 2e-1},
    },
}
ROWS = [
    {"label": "Zero-shot", "method": "zero-shot", "reported": {"boolq": 1.0, "avg": 2.0}},
    {"label": "LoRA", "method": "lora", "rank": 32, "alpha": 64},
    {"label": "DiaBlo", "method": "diablo", "num_blocks": 64, "lr": 4e-1, "parts": {"sense": {"lr": 5e-1}}},
]  # fmt: skip
EXPERIMENT = {
    "name": "both",
    "title": "Both",
    "average": "Mean",
    "parts": PARTS,
    "groups": [
        {
            "model": "llama2-7b",
            "label": "Llama2-7B",
            "defaults": {"modules": "qkvud", "weight_decay": 0.25},
            "parts": {"sums": {"lr": 3e-1}},
            "rows": ROWS,
        }
    ],
}


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A copy of the declarations with the experiment `both` and little else."""
    folder = Path(shutil.copytree(WORKFLOW, tmp_path / "workflow"))
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    # Figures of the tables that are gone.
    shutil.rmtree(folder / "figures")
    for path in (folder / "scales").glob("*.yaml"):
        edit(path, lambda value: value.pop("experiments", None))
    write(folder, EXPERIMENT)
    return folder


def write(workflow: Path, experiment: dict) -> None:
    path = workflow / "experiments" / f"{experiment['name']}.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))


def edit(path: Path, change) -> None:
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def plan_of(workflow: Path, **config) -> Plan:
    return resolve(Config.model_validate({"device": "cpu", **config}), workflow)


def specs_of(plan: Plan, row: int) -> dict[str, RunSpec]:
    runs = plan.tables["both"]["groups"][0]["rows"][row]["runs"]
    return {run["part"]: plan.runs[run["run"]] for run in runs}


def test_a_row_is_trained_once_for_each_part(workflow: Path) -> None:
    plan = plan_of(workflow)
    assert len(plan.runs_of("both")) == 6
    for row in range(3):
        specs = specs_of(plan, row)
        assert {part: spec.suite for part, spec in specs.items()} == {
            "sums": "metamath", "sense": "commonsense",
        }  # fmt: skip
    assert specs["sums"].dataset == "metamath_generated"
    assert specs["sense"].dataset == "commonsense_generated"
    assert plan.datasets_of("both") == ["commonsense_generated", "metamath_generated"]
    for row in plan.tables["both"]["groups"][0]["rows"]:
        for run in row["runs"]:
            suite = {"sums": "metamath", "sense": "commonsense"}[run["part"]]
            assert run["scores"].endswith(f"{run['run']}/scores/{suite}.json")
            assert run["losses"].endswith(f"{run['run']}/losses/{suite}.json")
    seeds = plan_of(workflow, seeds=[0, 1]).tables["both"]["groups"][0]["rows"][1]["runs"]
    assert [(run["part"], run["seed"]) for run in seeds] == [
        ("sums", 0), ("sums", 1), ("sense", 0), ("sense", 1),
    ]  # fmt: skip


def test_the_closest_settings_win(workflow: Path) -> None:
    plan = plan_of(workflow, scale="paper")
    lora, diablo = specs_of(plan, 1), specs_of(plan, 2)
    # The part's < the group's < the group's for the part < the row's < the row's for the part.
    assert (lora["sums"].lr, lora["sense"].lr) == (3e-1, 2e-1)
    assert (diablo["sums"].lr, diablo["sense"].lr) == (4e-1, 5e-1)
    for specs in (lora, diablo):
        assert (specs["sums"].epochs, specs["sense"].epochs) == (4, 5)
        assert {spec.weight_decay for spec in specs.values()} == {0.25}
    row = plan.tables["both"]["groups"][0]["rows"][2]
    assert row["setting_used"]["lr"] is None
    assert [run["lr"] for run in row["runs"]] == [4e-1, 5e-1]
    assert row["lr_from"] == "paper"


def test_a_part_is_what_an_experiment_of_its_own_would_be(workflow: Path) -> None:
    rows = [
        {key: value for key, value in row.items() if key not in ("parts", "reported")}
        for row in ROWS
    ]
    group = EXPERIMENT["groups"][0]
    defaults = PARTS["sense"]["defaults"] | group["defaults"]
    rows[2]["lr"] = 5e-1
    alone = {
        "name": "alone",
        "title": "Alone",
        **{key: PARTS["sense"][key] for key in ("train", "suite", "columns")},
        "groups": [{**group, "parts": {}, "defaults": defaults, "rows": rows}],
    }
    write(workflow, alone)
    for scale in ("demo", "mini", "paper"):
        plan = plan_of(workflow, scale=scale)
        both = [spec.run for row in range(3) for spec in [specs_of(plan, row)["sense"]]]
        assert plan.runs_of("alone") == both


def test_the_plan_has_every_part_and_no_part_at_its_top(workflow: Path) -> None:
    table = plan_of(workflow).tables["both"]
    assert list(table["columns"]) == ["gsm8k", "math", "boolq"]
    assert table["readings"] == {"gsm8k_strict": "GSM8K strict"}
    assert table["entries"]["boolq"] == {
        "task": "boolq", "metric": "acc", "unit": "%", "lower_is_better": False,
    }  # fmt: skip
    assert table["entries"]["gsm8k_strict"]["task"] == "gsm8k"
    assert (table["missing"], table["average"]) == ({}, "Mean")
    sums, sense = table["parts"]
    assert (sums["name"], sums["suite"], sums["columns"]) == ("sums", "metamath", ["gsm8k", "math"])
    assert (sense["name"], sense["readings"], len(sense["tasks"])) == ("sense", [], 8)
    assert sums["decoding"]["max_new_tokens"] > sense["decoding"]["max_new_tokens"]
    assert not {"suite", "decoding", "limits", "protocol", "unstated"} & set(table)
    assert len(table["stand_ins"]) == 3  # the model once, two data sets
    # One part is what it ever was, with one entry more.
    edit(
        workflow / "experiments" / "both.yaml",
        lambda v: (v.pop("parts"), v.update(train="commonsense_170k", suite="commonsense")),
    )
    edit(
        workflow / "experiments" / "both.yaml",
        lambda v: (v.update(columns={"boolq": "B"}), v["groups"][0].update(parts={})),
    )
    edit(workflow / "experiments/both.yaml", lambda v: v["groups"][0]["rows"][2].pop("parts"))
    plain = plan_of(workflow).tables["both"]
    assert [part["name"] for part in plain["parts"]] == [""]
    assert all(plain[key] == plain["parts"][0][key] for key in ("suite", "decoding", "limits"))
    assert {run["part"] for row in plain["groups"][0]["rows"] for run in row["runs"]} == {""}


def test_there_is_no_average_without_all_of_its_columns(workflow: Path) -> None:
    table = plan_of(workflow, scale="mini").tables["both"]
    assert list(table["columns"]) == ["gsm8k", "boolq"]
    assert table["average"] is None
    assert any("MATH is not scored" in note for note in table["parts"][0]["notes"])


def test_a_scale_sizes_single_parts(workflow: Path) -> None:
    own = {
        "limits": {"train": 30, "steps": 9},
        "settings": {"all": {"batch_size": 3}},
        "parts": {
            "sense": {
                "limits": {"test_per_task": 2, "steps": 7},
                "settings": {"lora": {"lr": 7e-1}},
                "gpu": {"limits": {"steps": 8}},
            }
        },
    }
    edit(workflow / "scales/demo.yaml", lambda v: v.update(experiments={"both": own}))
    plan = plan_of(workflow)
    lora = specs_of(plan, 1)
    assert {(s.train_limit, s.batch_size) for s in lora.values()} == {(30, 3)}
    assert (lora["sums"].max_steps, lora["sense"].max_steps) == (9, 7)
    assert lora["sense"].lr == 7e-1 != lora["sums"].lr
    assert plan.suites["commonsense-paper"].limit_per_task == 2
    assert plan.suites["metamath-paper"].limit_per_task == 10
    assert specs_of(plan_of(workflow, device="gpu"), 1)["sense"].max_steps == 8
    limits = {part["name"]: part["limits"] for part in plan.tables["both"]["parts"]}
    assert (limits["sums"]["steps"], limits["sense"]["steps"]) == (9, 7)
    # The command line holds for all parts.
    given = specs_of(plan_of(workflow, limits={"steps": 4}), 1)
    assert {spec.max_steps for spec in given.values()} == {4}
    own["parts"]["sens"] = {}
    edit(workflow / "scales/demo.yaml", lambda v: v.update(experiments={"both": own}))
    with pytest.raises(
        ValueError, match=r"experiments\.both: unknown part 'sens'; did you mean 'sense'"
    ):
        plan_of(workflow)


def part(name: str, **changes):
    return lambda v: v["parts"][name].update(changes)


def row(**changes):
    return lambda v: v["groups"][0]["rows"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (row(parts={"sens": {"lr": 1.0}}), "LoRA: unknown part 'sens'; did you mean 'sense'"),
        (row(parts={"sense": {"lrr": 1.0}}), "unknown key 'lrr'; did you mean 'lr'"),
        (lambda v: v["groups"][0].update(parts={"sum": {}}), "unknown part 'sum'"),
        (lambda v: v.update(suite="metamath"), "suite: each of the `parts` has its own"),
        (lambda v: v.update(train="metamathqa"), "train: each of the `parts` has its own"),
        (lambda v: v.update(readings={"gsm8k_strict": "S"}), "readings: each of the `parts`"),
        (lambda v: v.pop("parts"), "train: this key is required (or `parts`"),
        (lambda v: v["parts"].update({"Sums 2": v["parts"]["sums"]}), "'Sums 2': use small letters"),
        (lambda v: v["parts"].update(again=v["parts"]["sense"]), "boolq is shown twice, by sense and again"),
        (part("sums", readings={"gsm8k": "again"}), "gsm8k is shown twice, by sums and sums"),
        (part("sums", columns={}), "parts.sums.columns"),
        (part("sums", columns={"gsm8": "G"}), "both: sums: columns: unknown entry 'gsm8'; did you mean 'gsm8k'"),
        (part("sums", readings={"mth_strict": "M"}), "unknown entry 'mth_strict'; did you mean 'math_strict'"),
        (part("sums", suite="metamth"), "unknown suite 'metamth'; did you mean 'metamath'"),
        (part("sense", train="commonsense"), "unknown data set 'commonsense'"),
        (row(reported={"bolq": 1.0}), "unknown column 'bolq'; did you mean 'boolq'"),
        (row(parts={"sense": {"modules": "q"}}), "LoRA: trains [8388608, 56098816] parameters in its parts"),
        (row(parts={"sense": {"warmup_steps": 3, "warmup_ratio": 0.1}}), "give one of the two"),
        (lambda v: v.update(kind="gradient-variance"), "parts: for experiments of kind accuracy"),
    ],
)  # fmt: skip
def test_mistakes_are_told(workflow: Path, change, words: str) -> None:
    edit(workflow / "experiments/both.yaml", change)
    with pytest.raises(ValueError, match=re.escape(words)):
        plan_of(workflow, scale="paper")
