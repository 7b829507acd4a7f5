"""Table 5 as it is planned: its runs and sizes, what retained updates wait for, what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from diablo.config import Config
from diablo.experiments import WORKFLOW
from diablo.planning import Plan, resolve

PATTERNS = ["diagonal", "entries", "blocks", "outputs", "inputs"]
#: Paper's N -> N here.
USED = {
    "demo": {32: 16, 64: 32, 128: 64},
    "mini": {32: 16, 64: 32, 128: 64},
    "paper": {32: 32, 64: 64, 128: 128},
}


def plan_of(scale: str = "demo", workflow: Path = WORKFLOW, **config) -> Plan:
    return resolve(Config.model_validate({"scale": scale, "device": "cpu", **config}), workflow)


def rows_of(plan: Plan) -> list[dict]:
    return [row for group in plan.tables["table5"]["groups"] for row in group["rows"]]


@pytest.fixture
def edited(tmp_path: Path):
    """Resolves a copy of the workflow whose table5.yaml was changed."""

    def resolve_with(change, **config) -> Plan:
        folder = tmp_path / "workflow"
        shutil.copytree(WORKFLOW, folder, dirs_exist_ok=True)
        path = folder / "experiments" / "table5.yaml"
        value = yaml.safe_load(path.read_text())
        change(value)
        path.write_text(yaml.safe_dump(value))
        return plan_of(workflow=folder, **config)

    return resolve_with


@pytest.mark.parametrize("scale", USED)
def test_every_row_is_run_once_at_every_scale(scale: str) -> None:
    plan = plan_of(scale)
    rows = rows_of(plan)
    assert not any(row["reason"] for row in rows)
    assert len(plan.runs_of("table5")) == len(rows) == 22
    methods = Counter(row["method"] for row in rows)
    assert methods["retained"] == 15
    assert len(methods) == 8
    assert not any(row["same_as"] for row in rows)
    for row in rows:
        if row["num_blocks"]:
            assert row["setting_used"]["num_blocks"] == USED[scale][row["num_blocks"]]
    # As many live entries in every row of a group, in the paper's model.
    for group in plan.tables["table5"]["groups"][1:]:
        assert len({row["params_counted"] for row in group["rows"]}) == 1
    assert set(plan.figures_of("table5")) == {"table5-tasks", "table5-across"}


@pytest.mark.parametrize("scale", USED)
def test_live_entries_are_matched_on_the_model_that_is_used(scale: str) -> None:
    """Every N divides the widths: nothing pads, and 1/N of the targeted weights is live."""
    from diablo.methods import METHODS

    plan = plan_of(scale)
    for run in plan.runs_of("table5"):
        spec = plan.runs[run]
        if spec.num_blocks:
            entry = plan.catalog.models[spec.model].shapes
            from diablo.shapes import Shapes

            widths = Shapes(**entry.model_dump(exclude={"heads", "vocab"})).widths(spec.modules)
            counted = METHODS[spec.method].parameters(
                widths, num_blocks=spec.num_blocks, pattern=spec.pattern
            )
            assert counted * spec.num_blocks == sum(m1 * m2 for m1, m2 in widths)


def test_a_retained_run_waits_for_the_full_run_of_its_seed() -> None:
    plan = plan_of(seeds=[0, 1])
    specs = [plan.runs[run] for run in plan.runs_of("table5")]
    retained = [spec for spec in specs if spec.method == "retained"]
    assert len(retained) == 2 * 15
    for spec in retained:
        full = plan.runs[Path(spec.full_adapter).parent.name]
        assert (full.method, full.seed, full.held_out) == ("full", spec.seed, spec.held_out)
        assert (full.model_path, full.data_path) == (spec.model_path, spec.data_path)
        assert full.train_limit == spec.train_limit
        assert full.run in plan.runs_of("table5")
    # One budget for all: the same list, the same refinements, the same examples.
    assert len({(tuple(s.gammas), s.refine, s.held_out) for s in retained}) == 1
    assert {s.pattern for s in retained} == set(PATTERNS)
    # What is fine-tuned takes all examples, as in the paper.
    assert {s.held_out for s in specs if s.method not in ("retained", "full")} == {0}


def test_full_fine_tuning_is_one_run_with_as_many_steps_as_the_patterns() -> None:
    plan = plan_of()
    runs = [plan.runs[name] for name in plan.runs_of("table5")]
    full = [spec for spec in runs if spec.method == "full"]
    assert len(full) == 1
    assert ".full.held10." in full[0].run
    assert (full[0].train_limit - full[0].held_out) // full[0].batch_size == full[0].max_steps


def test_paper_scale_has_table_20() -> None:
    plan = plan_of("paper")
    for row in rows_of(plan):
        if row["method"] in ("zero-shot", "retained"):
            continue
        spec = plan.runs[row["runs"][0]["run"]]
        assert (spec.optimizer, spec.weight_decay, spec.schedule) == ("adamw", 0, "linear")
        assert (spec.warmup_steps, spec.epochs, spec.batch_size) == (20, 2, 32)
        assert (spec.max_length, len(spec.modules)) == (512, 0 if spec.method == "full" else 7)
        assert spec.lr == (1e-5 if spec.method == "full" else 4e-4)
        assert (spec.num_blocks, spec.suite) == (None if spec.method == "full" else 64, "gsm8k")


def test_reported_numbers_are_the_papers() -> None:
    groups = plan_of().tables["table5"]["groups"][1:]
    by_label = {
        row["label"]: [r["reported"]["gsm8k"] for g in groups for r in g["rows"] if r["label"] == row["label"]]
        for row in groups[0]["rows"]
    }  # fmt: skip
    assert by_label == {
        "DiaBlo": [67.30, 65.47, 63.11, 67.68],
        "Random Entries": [65.98, 64.05, 62.19, 65.35],
        "Random Block": [65.96, 63.75, 62.98, 64.86],
        "Random Column": [65.73, 62.93, 61.66, 65.19],
        "Random Row": [49.14, 24.08, 2.85, 61.71],
    }
    minutes = [row["minutes_reported"] for row in groups[-1]["rows"]]
    assert minutes == [17.26, 26.51, 29.76, 17.01, 17.76]
    assert all("orientation" in row["unstated"] for row in groups[0]["rows"][3:])


def test_the_full_run_is_made_also_where_its_row_is_filtered() -> None:
    for filters in ({"only": ["retained"]}, {"skip": ["full"]}):
        plan = plan_of(filters=filters)
        rows = {row["id"]: row for row in rows_of(plan)}
        assert rows["full"]["reason"] == "filtered"
        run = plan.runs[rows["retained-diagonal-n32"]["runs"][0]["run"]]
        assert Path(run.full_adapter).parent.name in plan.runs
    only = plan_of(filters={"only": ["retained-diagonal-n32"]})
    assert len(only.runs_of("table5")) == 1


def test_names_of_other_runs_stay_what_they_are() -> None:
    plan = plan_of()
    spec = plan.runs[plan.runs_of("table10")[1]]
    written = spec.model_dump()
    assert not {"pattern", "full_adapter", "gammas", "refine"} & written.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("retain"), "table5: Retained, sparsity 1/32 / DiaBlo: needs `retain`"),
        (lambda v: v["groups"][1]["rows"][0].pop("pattern"), "DiaBlo: `pattern` = None with method retained"),
        (lambda v: v["groups"][4]["rows"][0].update(pattern="diagonal"), "`pattern` = diagonal with method diablo"),
        (lambda v: v["groups"][1]["rows"][0].update(pattern="columns"), "pattern"),
        (lambda v: v["groups"][0]["rows"].pop(1), "Retained, sparsity 1/32 / DiaBlo: nothing to retain a part of; give the experiment a row of method full"),
        (lambda v: v["retain"].update(gammas=[2, 1]), r"gammas: \[2.0, 1.0\] must be positive and rising"),
        (lambda v: v["retain"].update(gammas=[0, 1]), "must be positive and rising"),
        (lambda v: v["groups"][1]["rows"][0].pop("num_blocks"), "needs num_blocks"),
        (lambda v: v["groups"][1]["rows"][0].update(layers="1/4"), "'retained' looks at all layers"),
    ],
)  # fmt: skip
def test_mistakes_are_told_while_planning(change, words: str, edited) -> None:
    with pytest.raises(ValueError, match=words):
        edited(change)


@pytest.mark.parametrize(("limit", "held_out"), [(58, 10), (20, 5), (12, 3), (2, 1)])
def test_a_cap_leaves_something_to_train_on(limit, held_out) -> None:
    """A user's cap is for all targets: it must not make the others impossible to plan."""
    plan = plan_of(limits={"train": limit})
    runs = [plan.runs[name] for name in plan.runs_of("table5")]
    assert {spec.held_out for spec in runs if spec.method in ("full", "retained")} == {held_out}
    assert all(spec.train_limit == limit for spec in runs if spec.method != "zero-shot")
