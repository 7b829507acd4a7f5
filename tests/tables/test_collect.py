"""From plans and score files to the table as data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.estimates import measure
from diablo.tables.losses import Losses
from diablo.tables.measures import Measure
from diablo.tables.runs import Run
from diablo.tables.scores import Entry


def run_of(outcomes: dict[str, dict[str, int]], name: str = "r") -> Run:
    """A run with these outcomes and a loss of one nat for every answer."""
    losses = {task: dict.fromkeys(ids, (2.0, 2)) for task, ids in outcomes.items()}
    path = Path(f"{name}.json")
    return Run(
        name=name,
        part="",
        seed=0,
        learning_rate=1e-4,
        provenance={},
        files=(path,),
        scores=path,
        entries={task: Entry(len(ids), values=ids) for task, ids in outcomes.items()},
        losses=Losses(path, losses),
    )


outcomes_of_a_task = st.lists(st.integers(0, 1), min_size=1, max_size=30)


@given(st.lists(outcomes_of_a_task, min_size=1, max_size=4))
@settings(max_examples=50)
def test_average_is_the_unweighted_mean_of_tasks(tasks: list[list[int]]) -> None:
    names = [f"t{i}" for i in range(len(tasks))]
    outcomes = {
        name: {str(i): one for i, one in enumerate(task)}
        for name, task in zip(names, tasks, strict=True)
    }
    measures = {name: Measure(name, "", name, "acc", "%") for name in names}
    measures["avg"] = Measure("avg", "", "", "mean", "%")
    found = measure([run_of(outcomes)], measures, 500, 0).estimates
    for name, task in zip(names, tasks, strict=True):
        assert found[name].value == pytest.approx(100 * np.mean(task))
    assert found["avg"].value == pytest.approx(np.mean([100 * np.mean(task) for task in tasks]))
    assert found["avg"].n == sum(map(len, tasks))
    assert found["avg"].low <= found["avg"].value + 1e-9
    assert found["avg"].value <= found["avg"].high + 1e-9


def test_values_differences_and_parameters(full_plan: Path) -> None:
    table = load_table(full_plan)
    lora = table.groups[0].rows[1]
    for key, cell in lora.cells.items():
        assert cell.estimate.low <= cell.estimate.value <= cell.estimate.high
        if key == "loss":
            assert cell.difference is None
            continue
        assert cell.difference == pytest.approx(cell.estimate.value - cell.reported)
    assert lora.cells["boolq"].estimate.n == 40
    assert lora.trained == 1000
    assert lora.trained_percent == pytest.approx(1.0)
    assert lora.setting == "r=32"
    assert lora.setting_here == "r=4"
    assert table.groups[0].rows[3].setting_here is None
    assert table.examples("boolq") == "40 of 100"
    assert table.examples("avg") == "80 of 200"


def test_not_run_rows_have_reported_numbers_only(full_plan: Path) -> None:
    smt = load_table(full_plan).groups[0].rows[2]
    assert smt.status == "not run: not implemented yet"
    assert smt.trained is None
    assert smt.trained_percent is None
    assert smt.setting_here is None
    assert all(cell.estimate is None and cell.difference is None for cell in smt.cells.values())
    assert smt.cells["avg"].reported == 75.0


def test_same_run_shows_the_same_numbers_and_says_so(full_plan: Path) -> None:
    first, second = load_table(full_plan).groups
    again = second.rows[0]
    assert again.status == "same run as Big0 / LoRA r=32"
    assert again.cells["avg"].estimate == first.rows[1].cells["avg"].estimate


def test_ends_of_the_scale_are_not_ranked(build) -> None:
    def reported(number: float) -> dict[str, float]:
        return {"boolq": number, "piqa": number, "avg": number}

    rows = [
        build.row("Full FT", "full", reported=reported(99.0)),
        build.row("LoRA", reported=reported(80.0)),
        build.row("DiaBlo", "diablo", reported=reported(81.0)),
        build.row("Zero-shot", "zero-shot", reported=reported(80.5)),
    ]
    (group,) = load_table(build.plan(rows)).groups
    found = [row.cells["avg"].reported_mark for row in group.rows]
    assert found == [None, "second", "best", None]


def test_several_seeds_give_mean_and_spread(build) -> None:
    seeds = ([1] * 10 + [0] * 10, [1] * 14 + [0] * 6)
    runs = [
        build.run(f"s{i}", seed=i, outcomes={"boolq": one, "piqa": one})
        for i, one in enumerate(seeds)
    ]
    cell = load_table(build.plan([build.row(runs=runs)])).groups[0].rows[0].cells["boolq"]
    assert cell.estimate.value == pytest.approx(60.0)
    assert cell.estimate.seed_sd == pytest.approx(200**0.5)
    assert cell.estimate.seeds == 2
    assert cell.estimate.n == 20


def test_an_interval_does_not_depend_on_other_rows(build) -> None:
    lora = build.row(runs=[build.run("lora")])
    alone = load_table(build.plan([lora])).groups[0].rows[0].cells["avg"].estimate
    other = build.row("Full FT", "full", runs=[build.run("full", "full")])
    beside = load_table(build.plan([other, lora])).groups[0].rows[1].cells["avg"].estimate
    assert alone == beside


def test_missing_provenance_is_an_error_that_names_it(build) -> None:
    run = build.run("lora")
    (Path(run["adapter"]) / "provenance.json").unlink()
    plan = build.plan([build.row(runs=[run])])
    with pytest.raises(ValueError, match=r"runs/lora/adapter/provenance\.json: missing") as error:
        load_table(plan)
    assert run["scores"] in str(error.value)


def edit(path: str | Path, **changes) -> None:
    write_json(path, read_json(path) | changes)


def break_outcomes(content: dict) -> dict:
    content["tasks"]["piqa"]["outcomes"].pop()
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"provenance": {}}, "has no provenance"),
        (lambda c: c | {"run": "other"}, "run is 'other', the plan says 'lora'"),
        (lambda c: c | {"variant": "peer"}, "variant is 'peer', the plan says 'paper'"),
        (lambda c: c | {"tasks": {"boolq": c["tasks"]["boolq"]}}, "task piqa is missing"),
        (break_outcomes, "n = 40, 39 outcomes"),
        (
            lambda c: json.loads(json.dumps(c).replace('"value": ', '"value": 9')),
            "its outcomes give",
        ),
    ],
)
def test_scores_that_do_not_fit_are_refused(build, change, message: str) -> None:
    run = build.run("lora")
    write_json(run["scores"], change(read_json(run["scores"])))
    with pytest.raises(ValueError, match=message) as error:
        load_table(build.plan([build.row(runs=[run])]))
    assert run["scores"] in str(error.value)


def test_missing_scores_are_named(build) -> None:
    run = build.run("lora")
    Path(run["scores"]).unlink()
    with pytest.raises(ValueError, match="no such score file"):
        load_table(build.plan([build.row(runs=[run])]))


def test_adapter_of_another_method_is_refused(build) -> None:
    run = build.run("lora", method="dora")
    with pytest.raises(ValueError, match="method is 'dora', the plan says 'lora'"):
        load_table(build.plan([build.row(runs=[run])]))


def test_adapter_without_counts_is_refused(build) -> None:
    run = build.run("lora")
    edit(Path(run["adapter"]) / "provenance.json", trainable_parameters=None)
    with pytest.raises(ValueError, match="trainable_parameters = None is not a count"):
        load_table(build.plan([build.row(runs=[run])]))


def test_seeds_on_other_examples_are_refused(build) -> None:
    runs = [build.run("s0", seed=0), build.run("s1", seed=1, shift=5)]
    with pytest.raises(ValueError, match="scored on other examples"):
        load_table(build.plan([build.row(runs=runs)]))


def test_seeds_with_other_counts_are_refused(build) -> None:
    runs = [build.run("s0"), build.run("s1", seed=1, trainable=2000)]
    with pytest.raises(ValueError, match=r"different numbers of parameters: \[1000, 2000\]"):
        load_table(build.plan([build.row(runs=runs)]))


@pytest.mark.parametrize("both", [True, False])
def test_a_row_has_runs_or_a_reason(build, both: bool) -> None:
    row = build.row(runs=[build.run("lora")])
    row |= {"reason": "filtered"} if both else {"runs": []}
    with pytest.raises(ValueError, match="either runs or a reason"):
        load_table(build.plan([row]))


def test_plan_without_average_has_no_average_column(build) -> None:
    table = load_table(build.plan([build.row(runs=[build.run("lora")])], average=None))
    assert list(table.columns) == ["boolq", "piqa", "loss"]


def test_labels_say_what_stands_in(full_plan: Path, build) -> None:
    table = load_table(full_plan)
    assert table.paper_label(table.groups[0]) == "paper (Big0)"
    assert table.here_label(table.groups[0]) == "here (Small-1M, stand-in)"
    plan = read_json(full_plan)
    plan["groups"][0] |= {"used_model": "big-0", "used_model_title": "Big0"}
    write_json(full_plan, plan)
    table = load_table(full_plan)
    assert table.here_label(table.groups[0]) == "here (Big0, stand-in data)"
    write_json(full_plan, plan | {"stand_ins": []})
    table = load_table(full_plan)
    assert table.here_label(table.groups[0]) == "here (Big0, same model)"


def test_heading_carries_the_papers_number(build) -> None:
    assert load_table(build.plan([build.row()])).heading == "A toy table"
    named = build.plan([build.row()], name="table12")
    assert load_table(named).heading == "Table 12: A toy table"


def test_second_readings_enter_neither_average_nor_loss(build) -> None:
    """Columns of a second reading have their own estimates and comparisons."""
    columns = {"boolq": "BoolQ", "piqa": "PIQA", "boolq_strict": "strict"}
    right, wrong = [1] * 30 + [0] * 10, [0] * 40

    def run(name: str, method: str, strict: list[int]) -> dict:
        outcomes = {"boolq": right, "piqa": wrong, "boolq_strict": strict}
        return build.run(name, method, columns=columns, outcomes=outcomes)

    rows = [
        build.row(runs=[run("a", "lora", wrong)]),
        build.row("DiaBlo", "diablo", num_blocks=64, runs=[run("b", "diablo", right)]),
    ]
    table = load_table(build.plan(rows, readings={"boolq_strict": "strict"}), resamples=500)
    first, second = table.groups[0].rows
    assert list(table.columns) == ["boolq", "piqa", "avg", "boolq_strict", "loss"]
    for row, strict in ((first, 0.0), (second, 75.0)):
        assert row.cells["avg"].estimate.value == pytest.approx(37.5)
        assert row.cells["boolq_strict"].estimate.value == pytest.approx(strict)
        assert row.cells["avg"].estimate.n == row.cells["loss"].estimate.n == 80
    assert first.cells["boolq"].comparison.verdict == "no"
    assert first.cells["boolq_strict"].comparison.verdict == "worse"
