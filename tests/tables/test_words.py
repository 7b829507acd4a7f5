"""The sentences around the numbers: learning rates, denominators, devices, own experiments."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd
import pytest

from diablo.io import read_json, write_json
from diablo.tables import aggregate, load_table, words

TUNING = {
    "held_out": 100,
    "trials": [{"lr": lr, "loss": 1.0, "run": "r"} for lr in (1e-3, 2e-3, 4e-3)],
    "chosen": 2e-3,
}
FORMATS = ("csv", "md", "html", "tex")


def table_of(build, *rows, **plan):
    return load_table(build.plan(list(rows), **plan), resamples=100)


def texts(build, *rows, **plan) -> dict[str, str]:
    """Every format of a table by suffix, and the figures' words."""
    path = build.plan(list(rows), **plan)
    aggregate(path, resamples=100)
    found = {x: path.with_name(f"toy.{x}").read_text(encoding="utf-8") for x in FORMATS}
    found["html"] = html.unescape(found["html"])
    figures = Path(path).parent.parent / "figures"
    return found | {"svg": (figures / "toy.svg").read_text(encoding="utf-8")}


@pytest.mark.parametrize(
    ("lr", "text"), [(2e-3, "2e-3"), (2.5e-4, "2.5e-4"), (1e-5, "1e-5"), (9.865e-6, "9.865e-6")]
)
def test_scientific(lr: float, text: str) -> None:
    assert words.scientific(lr) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("paper", "lr 1e-4 (the paper's value)"),
        ("scale", "lr 1e-4 (the scale's value)"),
        ("given", "lr 1e-4 (as given)"),
    ],
)
def test_learning_rates_say_where_they_are_from(build, source: str, text: str) -> None:
    row = build.row(runs=[build.run("lora")], lr_from=source)
    assert words.learning_rate(table_of(build, row).groups[0].rows[0]) == text


def test_a_tuned_learning_rate_in_every_format(build) -> None:
    run = build.run("lora", learning_rate=2e-3, tuning=TUNING)
    found = texts(build, build.row(runs=[run], lr_from="tuned"))
    for suffix in FORMATS:
        shown = "tuned on 100 held-out training examples: 1e-3, 2e-3, 4e-3"
        assert shown in found[suffix], suffix
    assert "0.002" in found["csv"]


def test_seeds_may_have_tuned_to_different_rates(build) -> None:
    runs = [
        build.run(f"s{i}", seed=i, learning_rate=lr, tuning=TUNING)
        for i, lr in enumerate((4e-3, 2e-3))
    ]
    row = table_of(build, build.row(runs=runs, lr_from="tuned")).groups[0].rows[0]
    assert words.learning_rate(row).startswith("lr 2e-3, 4e-3 by seed (tuned on 100 held-out")


def test_without_training_there_is_no_learning_rate(build) -> None:
    run = build.run("zero", "zero-shot", trainable=0)
    setting = {"num_blocks": None, "rank": None, "lr": None}
    row = build.row("Zero-shot", "zero-shot", runs=[run], setting_used=setting)
    assert words.learning_rate(table_of(build, row).groups[0].rows[0]) == ""


def test_an_untuned_adapter_in_a_tuned_row_is_refused(build) -> None:
    row = build.row(runs=[build.run("lora")], lr_from="tuned")
    with pytest.raises(ValueError, match=r"lora/adapter/provenance\.json: has no `tuning`"):
        table_of(build, row)


def test_another_learning_rate_than_the_plans_is_refused(build) -> None:
    row = build.row(runs=[build.run("lora", learning_rate=3e-4)])
    with pytest.raises(ValueError, match=r"learning_rate is 0\.0003, the plan says 0\.0001"):
        table_of(build, row)


def test_adapters_of_before_have_the_plans_learning_rate(build) -> None:
    run = build.run("lora")
    path = Path(run["adapter"]) / "provenance.json"
    content = read_json(path)
    del content["learning_rate"]
    write_json(path, content)
    assert table_of(build, build.row(runs=[run])).groups[0].rows[0].learning_rates == [1e-4]


def test_fewer_examples_than_the_papers_are_flagged_in_every_format(build) -> None:
    """A dropped last batch: 496 of OBQA's 500."""
    rows = [
        build.row("LoRA", runs=[build.run("lora", n=496, available=500)]),
        build.row("DiaBlo", "diablo", runs=[build.run("best", "diablo", n=496, available=500)]),
    ]
    found = texts(build, *rows, test_sizes_paper={"boolq": 500, "piqa": 496})
    for suffix in ("md", "html", "tex"):
        assert "BoolQ: n = 496, the paper's test set has 500" in found[suffix]
        assert "PIQA: n = 496, the paper's" not in found[suffix]
        assert "496 of 500" in found[suffix]
    frame = pd.read_csv(build.folder / "tables" / "toy.csv").set_index("column")
    assert set(frame.loc["boolq", "n"]) == {496}
    assert set(frame.loc["boolq", "available"]) == {500}
    assert set(frame.loc["avg", "available"]) == {1000}


def test_rows_with_other_counts_are_named(build) -> None:
    rows = [
        build.row("LoRA", runs=[build.run("lora", n=40)]),
        build.row("DoRA", "dora", runs=[build.run("dora", "dora", n=50)]),
    ]
    table = table_of(build, *rows, test_sizes_paper={"boolq": 50, "openbookqa": 500})
    assert words.test_sizes(table) == ["BoolQ: n = 40, the paper's test set has 50 (LoRA)"]
    assert table.examples("boolq") == "40 to 50 of 100"


@pytest.mark.parametrize("available", [None, 39])
def test_scores_must_say_how_many_examples_there_were(build, available) -> None:
    row = build.row(runs=[build.run("lora", available=available)])
    with pytest.raises(ValueError, match=f"available = {available} for n = 40.*`diablo score`"):
        table_of(build, row)


def test_a_table_needs_one_test_set(build) -> None:
    rows = [
        build.row("LoRA", runs=[build.run("lora", available=500)]),
        build.row("DoRA", "dora", runs=[build.run("dora", "dora", available=496)]),
    ]
    with pytest.raises(
        ValueError, match=r"dora/scores/toy\.json: task boolq had 496 .* it had 500"
    ):
        table_of(build, *rows)


def test_devices_and_caps(build) -> None:
    rows = [
        build.row("LoRA", runs=[build.run("lora")]),
        build.row("DoRA", "dora", runs=[build.run("dora", "dora", device="NVIDIA H200")]),
    ]
    limits = {"train": 10, "test_per_task": None, "steps": None, "device": "cpu"}
    found = words.facts(table_of(build, *rows, limits=limits))
    assert found["Trained on"] == "NVIDIA H200: DoRA; cpu: LoRA"
    assert found["Limits"] == "10 training examples in total (as set for cpu)"
    assert words.facts(table_of(build, rows[0]))["Trained on"] == "cpu"
    assert "Trained on" not in words.facts(table_of(build, build.row()))


def own(build, label: str, method: str = "lora", **changes):
    fields = {"reported": {}, "params_reported": None, "params_counted_percent": None}
    return build.row(label, method, **fields, origin=None, lr_from="given", **changes)


def test_an_own_experiment_has_no_word_of_the_paper(build) -> None:
    rows = [
        own(build, "Mine", runs=[build.run("mine")]),
        own(build, "DiaBlo", "diablo", num_blocks=8, runs=[build.run("best", "diablo")]),
        own(build, "Later"),
    ]
    found = texts(build, *rows, section=None)
    for suffix in ("md", "html", "tex", "svg"):
        text = found[suffix]
        assert "Mine" in text
        assert "DiaBlo N=8" in " ".join(text.replace("<small>", " ").split())
        for word in ("paper", "reported", "Reported", "difference &"):
            assert word not in text, (suffix, word)
    assert "not run: filtered" in found["html"]
    frame = pd.read_csv(build.folder / "tables" / "toy.csv")
    assert frame["reported"].isna().all()
    assert frame["difference"].isna().all()


def test_an_own_row_beside_the_papers(build) -> None:
    rows = [build.row("LoRA", runs=[build.run("lora")]), own(build, "Mine", runs=[build.run("m")])]
    found = texts(build, *rows)
    assert found["md"].count("here minus paper") == 1
    assert found["html"].count("here minus paper") == 1
    assert found["tex"].count("& difference &") == 1
    assert "reported, paper" in found["svg"]
