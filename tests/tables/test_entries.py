"""Entries of score files: what is refused, and what plans of before and now say of their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import table_entries as entries
import table_parts as parts

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.measures import Measure, read_plan, table_measures
from diablo.tables.scores import read_entry


def measure(metric: str, unit: str = "%") -> Measure:
    return Measure("x", "", "x", metric, unit)


def read(entry: dict[str, Any], metric: str, unit: str = "%"):
    return read_entry(Path("scores.json"), {"tasks": {"x": entry}}, measure(metric, unit))


PAIRS = entries.guesses("x", 0.7)
GOOD = {
    "acc": entries.accuracy(PAIRS),
    "f1": entries.f1(PAIRS),
    "matthews": entries.matthews(PAIRS),
    "refusal": entries.refusal([1, 0, None, 1]),
    "pass@5": entries.pass_at(5, [0, 1, 3, 10]),
    "rating": entries.ratings([1, 10, 5.5, None]),
}


@pytest.mark.parametrize("metric", GOOD)
def test_good_entries_are_read(metric: str) -> None:
    unit = "points" if metric == "rating" else "%"
    found = read(GOOD[metric], metric, unit)
    assert found.n == GOOD[metric]["n"]
    assert len(found.ids) == GOOD[metric]["available"]
    assert bool(found.pairs) == (metric in ("f1", "matthews"))


def test_samples_and_their_outcomes_are_summed() -> None:
    found = read(entries.pass_at(5, [0, 1, 3, 10]), "pass@5")
    assert found.samples == {10: 4}
    assert found.kinds == {"passed": 14, "failed": 23, "timeout": 3}


def changed(metric: str, place: str = "entry", /, **fields: Any) -> dict[str, Any]:
    """A good entry with one of its fields, or of its first outcome's, changed."""
    entry = GOOD[metric]
    first, *others = entry["outcomes"]
    if place == "outcome":
        return {**entry, "outcomes": [{**first, **fields}, *others]}
    return {**entry, **fields}


@pytest.mark.parametrize(
    ("metric", "entry", "message"),
    [
        ("acc", changed("acc", metric="f1"), "metric is 'f1', the plan says 'acc'"),
        ("acc", changed("acc", unit="points"), "unit is 'points', the plan says '%'"),
        ("refusal", changed("refusal", "outcome", correct=0.5), "'h0': correct = 0.5 is neither"),
        ("refusal", changed("refusal", malformed=["h0"]), "'h0' has an outcome and is listed as"),
        ("refusal", changed("refusal", available=3), "available = 3 for n = 4"),
        ("rating", changed("rating", "outcome", correct=0), "'q0': correct = 0 is no rating"),
        ("rating", changed("rating", value=None), "says value None, its outcomes give 5.5"),
        ("f1", changed("f1", positive=None), "f1 needs to say which label is `positive`"),
        ("f1", changed("f1", positive="different"), "says value .* its outcomes give"),
        ("matthews", changed("matthews", value=1.0), "says value 1.0, its outcomes give"),
        ("pass@5", changed("pass@5", "outcome", correct=1.5), "correct = 1.5 is no share"),
        ("pass@5", changed("pass@5", "outcome", passed=1), "1 of 10 samples give pass@5 = 0.5"),
        (
            "pass@5",
            changed("pass@5", "outcome", samples=4),
            "0 of 4 samples passed; pass@5 needs 5",
        ),
    ],
)
def test_entries_that_do_not_fit_are_refused(metric: str, entry: dict, message: str) -> None:
    unit = "points" if metric == "rating" else "%"
    with pytest.raises(ValueError, match=message) as error:
        read(entry, metric, unit)
    assert str(error.value).startswith("scores.json: task x")


def test_an_entry_without_any_outcome_needs_a_reason() -> None:
    assert read(entries.ratings([None, None]), "rating", "points").n == 0
    with pytest.raises(ValueError, match="n = 0, 0 outcomes"):
        read(entries.ratings([]), "rating", "points")


def test_a_plan_of_before_is_one_part_of_accuracies(build) -> None:
    columns = {"gsm8k": "GSM8K"}
    path = build.plan([build.row()], columns=columns, readings={"gsm8k_strict": "strict"})
    plan = read_plan(path)
    (only,) = plan["parts"]
    assert (only["name"], only["suite"], only["columns"]) == ("", "toy", ["gsm8k"])
    found = table_measures(plan, with_loss=True)
    assert list(found) == ["gsm8k", "avg", "gsm8k_strict", "loss"]
    assert {one.metric for one in found.values()} == {"acc", "mean", "loss"}
    assert found["gsm8k_strict"].task == found["gsm8k"].task == "gsm8k"
    assert found["gsm8k_strict"].reading


def test_a_plan_without_readings_is_read(build) -> None:
    path = build.plan([build.row()])
    content = read_json(path)
    del content["readings"]
    write_json(path, content)
    assert read_plan(path)["readings"] == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"mtbench": "MT", "x": "X"}}, "column 'x' needs an entry"),
        ({"entries": {"mtbench": parts.entry("mtbench", "bleu")}}, "unknown metric 'bleu'"),
        ({"entries": {"mtbench": parts.entry("mtbench", "acc", "nats")}}, "has unit 'nats'"),
    ],
)
def test_plans_that_cannot_be_read_name_the_entry(build, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_table(parts.table7(build, judge=False, **change))
    assert "toy.plan.json" in str(error.value)


def test_an_average_needs_columns_that_can_be_averaged(build) -> None:
    """Pass@1 and pass@5 are of the same programs: their mean has no independent parts."""
    with pytest.raises(
        ValueError, match=r"`average` is over humaneval_pass1, .*prompts of its own"
    ):
        load_table(parts.table3(build, seeds=1, average="AVG"))


def test_runs_of_an_unknown_part_are_refused(build) -> None:
    path = parts.table3(build, seeds=1)
    plan = read_json(path)
    plan["groups"][0]["rows"][0]["runs"][0]["part"] = "chat"
    write_json(path, plan)
    with pytest.raises(ValueError, match=r"lora-code-s0 is of part 'chat'; .*'code', 'safety'"):
        load_table(path)


def test_missing_reasons_say_that_nothing_was_run(build) -> None:
    plan = read_plan(parts.table7(build, judge=False, missing={"mtbench": "no judge"}))
    assert table_measures(plan, with_loss=False)["mtbench"].missing == "not run: no judge"
