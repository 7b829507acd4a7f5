"""Figures of tables with parts: a panel for each measure, with the scale of its unit."""

from __future__ import annotations

import pandas as pd
import pytest
import table_parts as parts

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.figure import drawn_columns


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("table3", [*parts.CODE, "hexphi", "harmless", "loss"]),
        ("table7", ["mtbench", "loss"]),
        ("table8", [*parts.GLUE, "mrpc_f1", "cola_matthews"]),
    ],
)
def test_figures_have_a_panel_for_each_measure(made, name: str, keys: list[str]) -> None:
    table = load_table(made[name] / "tables" / "toy.plan.json", resamples=50)
    assert drawn_columns(table) == keys
    figures = made[name] / "figures"
    data = pd.read_csv(figures / "toy-tasks.csv")
    assert list(dict.fromkeys(data["column"])) == keys
    svg = (figures / "toy-tasks.svg").read_text(encoding="utf-8")
    for key in keys:
        assert table.columns[key] in svg
    assert (figures / "toy.svg").exists() == (name == "table8")


def test_panels_have_the_scale_of_their_unit(made) -> None:
    import matplotlib.style

    from diablo.tables import figure

    shown = {}
    for name in ("table3", "table7"):
        table = load_table(made[name] / "tables" / "toy.plan.json", resamples=50)
        with matplotlib.style.context(figure.STYLE):
            drawn = figure._tasks(table, drawn_columns(table))
        for ax in drawn.axes:
            shown[name, ax.get_title(loc="left")] = ax
    assert shown["table3", "Pass@5"].get_xlim() == (0, 100)
    assert shown["table7", "MT-Bench"].get_xlim() == (1, 10)
    low, high = shown["table7", "answer loss"].get_xlim()
    assert low == 0
    assert high < 3
    bars = [bar.get_x() for bar in shown["table7", "MT-Bench"].patches]
    assert bars == [1, 1]
    labels = {ax.get_xlabel() for ax in shown.values()}
    assert labels == {"%", "points", "nats per token"}


def test_captions_say_what_is_measured(made) -> None:
    captions = {
        name: read_json(folder / "figures" / "toy.provenance.json")["captions"]
        for name, folder in made.items()
    }
    assert "each column in percent, bars" in captions["table3"]["toy-tasks"]
    assert "each column in points of 1 to 10, bars" in captions["table7"]["toy-tasks"]
    assert "average in percent, bars" in captions["table8"]["toy"]
    assert not [text for each in captions.values() for text in each.values() if "accuracy" in text]


def test_a_second_judge_of_the_same_prompts_has_no_panel(build) -> None:
    """Nor has a long name room beside another panel's: it gets smaller."""
    import matplotlib.style

    from diablo.tables import figure

    path = parts.table3(build, seeds=1)
    plan = read_json(path)
    plan["parts"][1]["readings"].append("harmless_llm")
    plan["readings"] |= {
        "harmless": "harmless prompts that were refused",
        "harmless_llm": "by the judge",
    }
    plan["entries"]["harmless_llm"] = plan["entries"]["harmless"]
    plan["missing"]["harmless_llm"] = "no judge"
    write_json(path, plan)
    table = load_table(path, resamples=50)
    assert "harmless_llm" in table.columns
    assert drawn_columns(table) == [*parts.CODE, "hexphi", "harmless", "loss"]
    with matplotlib.style.context(figure.STYLE):
        drawn = figure._tasks(table, drawn_columns(table))
    titles = [ax._left_title for ax in drawn.axes]
    sizes = {title.get_text(): title.get_fontsize() for title in titles}
    assert sizes["Pass@1"] == 10
    assert sizes["harmless prompts that were refused"] < 10
