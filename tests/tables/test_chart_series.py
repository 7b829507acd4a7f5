"""Figures 5 to 7 and 2 from their own plans with made-up results: series, marks, data, words."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.style
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from planned_runs import planned

from diablo.io import read_json, write_json
from diablo.tables import aggregate, chart, chart_bars, chart_lines, load_table
from diablo.tables.averages import load_averages
from diablo.tables.figure import _averages
from diablo.tables.frame import STYLE


def built(plan: Path) -> tuple[pd.DataFrame, str, str]:
    """A figure's data, its SVG and the table's Markdown."""
    aggregate(plan, resamples=100)
    name = plan.name.partition(".")[0]
    stem = plan.parent.parent / "figures" / name
    assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    page = (plan.parent / f"{name}.md").read_text(encoding="utf-8")
    return pd.read_csv(stem.with_suffix(".csv")), stem.with_suffix(".svg").read_text(), page


@pytest.fixture(scope="module")
def figure5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(tmp_path_factory.mktemp("figure5"), "figure5")


@pytest.fixture(scope="module")
def figure6(tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip = {"skip": ["lora-as-n128-od"]}
    return planned(tmp_path_factory.mktemp("figure6"), "figure6", seeds=[0, 1], filters=skip)


@pytest.fixture(scope="module")
def figure7(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(tmp_path_factory.mktemp("figure7"), "figure7", filters={"skip": ["layers2of4"]})


@pytest.fixture(scope="module")
def figure2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planned(tmp_path_factory.mktemp("figure2"), "figure2", filters={"skip": ["pissa"]})


def test_figure5_has_a_line_for_each_n_over_the_learning_rate(figure5: Path) -> None:
    frame, svg, page = built(figure5)
    assert list(frame.columns[:3]) == ["series", "lr", "lr_used"]
    assert set(frame["column"]) == {"gsm8k", "loss"}
    run = frame[frame["reproduced"].notna()]
    assert len(run) == 2 * 16
    # A scale's own rate keeps the ratio to the paper's.
    assert list((run["lr_used"] / run["lr"]).round(6).unique()) == [5.0]
    assert set(run["series"]) == {f"DiaBlo N={n}" for n in (16, 64, 128, 256)}
    for text in ("DiaBlo N=128 (here N=96)", "DiaBlo N=32: not run", "here 5e-4", "answer loss"):
        assert text in svg
    assert "16 rows, not run at scale demo on a CPU" in svg
    assert "SmolLM2-135M-Instruct stands in for Llama3-8B" in svg
    assert "reported" not in svg
    assert "| DiaBlo N=64 lr 4e-4 |" in page
    assert "all rows: " not in page
    assert "num\\_blocks, lr, precision, dropout: all rows" in page


def test_series_are_told_apart_by_more_than_colour() -> None:
    looks = chart_lines.LOOKS
    for key in ("marker", "color", "ls"):
        assert len({str(look[key]) for look in looks}) == len(looks)
    # Each is lighter than the one before, so that a print in grey keeps their order.
    greys = [
        sum(weight * int(to_hex(look["color"])[i : i + 2], 16) for weight, i in
            ((0.299, 1), (0.587, 3), (0.114, 5)))
        for look in looks
    ]  # fmt: skip
    assert all(b - a > 8 for a, b in itertools.pairwise(greys))
    hatches = [face["hatch"] for face in (*chart_bars.OURS, *chart_bars.OTHERS)]
    assert len(set(hatches)) == len(hatches)


def test_several_lines_stand_side_by_side_with_the_loss(figure5: Path) -> None:
    table = load_table(figure5, resamples=100)
    with matplotlib.style.context(STYLE):
        accuracy, loss = chart_lines.figure(table, table.groups, "lr", "gsm8k").axes
    assert accuracy.get_position().y0 == pytest.approx(loss.get_position().y0)
    assert accuracy.get_xscale() == loss.get_xscale() == "log"
    assert [accuracy.yaxis_inverted(), loss.yaxis_inverted()] == [False, True]
    # Neighbouring series are moved apart by less than the space between two rates.
    shifts = [chart_lines._shift(number, 6) for number in range(6)]
    assert shifts == sorted(shifts)
    assert shifts[-1] / shifts[0] < 2**0.5


def test_figure6_groups_bars_by_modules_and_prints_what_was_solved(figure6: Path) -> None:
    frame, svg, page = built(figure6)
    assert list(frame.columns[:3]) == ["series", "modules", "modules_used"]
    assert list(dict.fromkeys(frame["series"])) == [
        "DiaBlo N=64", "LoRA of the size of N=64", "DiaBlo N=128", "LoRA of the size of N=128",
    ]  # fmt: skip
    assert list(dict.fromkeys(frame["modules"])) == ["qk", "vug", "od"]
    assert frame["reproduced"].notna().sum() == 2 * 11
    for text in ("LoRA r=45 (here r=6): 6,000 parameters", "LoRA r=22: not run", "sd over seeds"):
        assert text in svg
    assert "rank 6 here: 1.02 of the parameters of DiaBlo N = 64 in the same layers" in page
    assert "| LoRA r=25 QK |" in page


def test_figure7_has_reported_values_as_marks_of_their_own(figure7: Path) -> None:
    frame, svg, page = built(figure7)
    shown = frame[frame["column"] == "gsm8k"]
    assert list(shown["reported"]) == [60.67, 58.92, 40.47, 31.63]
    assert list(shown["reproduced"].notna()) == [True, False, True, True]
    for text in (
        "layers 0-7 (here layers 0-6)",
        "layers 8-15",
        ">not run<",
        "reported, paper",
        "here (stand-in)",
    ):
        assert text in svg
    assert "layers 22-29 here for the paper's layers 24-31: 8 of 30 layers, 442,368 par" in page
    table = load_table(figure7, resamples=100)
    axes = chart_bars.figure(table, table.groups, "layers", "gsm8k").axes
    diamonds = [line for line in axes[0].get_lines() if line.get_marker() == "D"]
    assert [float(line.get_ydata()[0]) for line in diamonds] == list(shown["reported"])
    assert axes[0].get_ylim()[0] == 0
    assert axes[1].yaxis_inverted()


def test_figure2_shows_averages_of_three_tables_on_whole_axes(figure2: Path) -> None:
    frame, svg, page = built(figure2)
    assert set(frame["column"]) == {"avg"}
    assert list(frame["reported"]) == [
        77.6, 80.5, 73.8, 79.2, 81.8, 83.5,
        38.7, 37.0, 40.7, 43.4,
        53.7, 52.9, 52.3, 53.5, 54.8,
        39.9, 45.6, 47.3, 48.7,
    ]  # fmt: skip
    statuses = dict(zip(frame["label"], frame["status"], strict=True))
    assert statuses["PiSSA"] == "not run: filtered"
    assert statuses["ApiQ-bw"].startswith("not run: ApiQ's joint optimisation")
    assert frame["reproduced"].notna().sum() == 19 - 2 - 9
    assert statuses["DoRA"] == "not run: left to table1 at scale demo"
    # Rows say the limits of their own table alone.
    assert "20 test examples per task" in frame["limits"][frame["label"] == "DiaBlo"].iloc[1]
    assert ";" not in frame["limits"].iloc[0]
    assert "SmolLM2-135M-Instruct stands in for Llama-2-7B; " in svg
    assert "Llama-13B" not in svg
    assert "Limits (table4): " in page
    table = load_averages(figure2, resamples=100)
    with matplotlib.style.context(STYLE):
        axes = _averages(table).axes
    assert {ax.get_xlim() for ax in axes} == {(0.0, 100.0)}


def test_figure2_has_the_tables_own_numbers(figure2: Path) -> None:
    table = load_averages(figure2, resamples=100)
    for group in table.groups:
        for row in (row for row in group.rows if row.runs):
            scores = read_json(row.runs[0].scores)["tasks"]
            keys = [key for key in row.runs[0].entries if not key.endswith("_strict")]
            mean = 100 * sum(scores[key]["value"] for key in keys) / len(keys)
            assert row.cells["avg"].estimate.value == pytest.approx(mean)


@pytest.mark.parametrize("name", ["figure2", "figure5", "figure6", "figure7"])
def test_nothing_reaches_over_the_edge(request: pytest.FixtureRequest, name: str) -> None:
    plan = request.getfixturevalue(name)
    with matplotlib.style.context(STYLE):
        if name == "figure2":
            drawn = _averages(load_averages(plan, resamples=100))
        else:
            table = load_table(plan, resamples=100)
            x = table.plan["chart"]["x"]
            kind = chart_lines if x == "lr" else chart_bars
            drawn = kind.figure(table, table.groups, x, "gsm8k")
        FigureCanvasAgg(drawn).draw()
        box = drawn.get_tightbbox()
    width, height = drawn.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_two_rows_at_one_place_are_refused(figure7: Path, tmp_path: Path) -> None:
    plan = read_json(figure7)
    plan["groups"][0]["rows"][1]["layers"] = "layers 0-7"
    write_json(tmp_path / "figure7.plan.json", plan)
    table = load_table(tmp_path / "figure7.plan.json", resamples=100)
    with pytest.raises(ValueError, match="rows 1 and 2 are both DiaBlo N=64 with layers"):
        chart.draw_chart(table, tmp_path / "figure7")


def test_a_chart_of_several_columns_needs_an_average(build) -> None:
    rows = [build.row("DiaBlo", "diablo", num_blocks=8, runs=[build.run("n8", "diablo")])]
    plan = build.plan(rows, chart={"x": "num_blocks", "label": "N"}, average=None)
    with pytest.raises(ValueError, match="toy: has a `chart`, but no `average` and 2 columns"):
        aggregate(plan, resamples=100)


def test_plans_of_before_charts_are_read(build) -> None:
    rows = [build.row("DiaBlo", "diablo", num_blocks=8, runs=[build.run("n8", "diablo")])]
    plan = build.plan(rows, curve={"over": "num_blocks", "label": "N"})
    content = read_json(plan)
    del content["chart"]
    write_json(plan, content)
    assert load_table(plan, resamples=100).plan["chart"] == {"x": "num_blocks", "label": "N"}
