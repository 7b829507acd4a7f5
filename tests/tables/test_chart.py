"""A chart over the number of blocks: files, data and words."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from diablo.io import read_json
from diablo.tables import aggregate, load_table

CHART = {"x": "num_blocks", "label": "number of blocks N"}
COUNTS = {8: None, 128: 96, 2048: None}  # N in the paper: another N here
REPORTED = {"boolq": 70.0, "piqa": 80.0, "avg": 75.0}


def sweep(build, seeds: int = 1, ran: tuple[int, ...] = (8, 128), **changes) -> Path:
    """Full fine-tuning and DiaBlo with three numbers of blocks, the last one not run."""
    full = build.run("full", "full", trainable=100_000)
    rows = [build.row("Full FT", "full", runs=[full], params_reported=None)]
    # Not in order of N: the line must not go back and forth.
    for index, (blocks, here) in enumerate(reversed(COUNTS.items())):
        runs = []
        if blocks in ran:
            names = [f"diablo-n{blocks}-s{seed}" for seed in range(seeds)]
            runs = [
                build.run(name, "diablo", seed=seed, trainable=1_000_000 // blocks)
                for seed, name in enumerate(names)
            ]
        used = {"num_blocks": (here or blocks) if runs else None, "rank": None, "lr": 1e-4}
        reported = {**REPORTED, "avg": 84.0 - index}
        rows.append(
            build.row("DiaBlo", "diablo", num_blocks=blocks, runs=runs, setting_used=used,
                      reported=reported, params_reported=f"{blocks}.50M")
        )  # fmt: skip
    return build.plan(rows, **{"chart": CHART, **changes})


def drawn(plan: Path) -> tuple[pd.DataFrame, str]:
    """The curve's data and its SVG."""
    aggregate(plan, resamples=200)
    stem = plan.parent.parent / "figures" / "toy-curve"
    assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    return pd.read_csv(stem.with_suffix(".csv")), stem.with_suffix(".svg").read_text()


def test_data_are_the_tables_averages(build) -> None:
    plan = sweep(build, seeds=2)
    frame, _ = drawn(plan)
    table = load_table(plan, resamples=200)
    assert list(frame["column"]) == ["avg"] * 4 + ["loss"] * 4
    for (_, row), line in zip(table.rows * 2, frame.to_dict("records"), strict=True):
        cell = row.cells[line["column"]]
        assert line["reported"] == cell.reported or pd.isna(line["reported"])
        assert pd.isna(line["reported"]) == (cell.reported is None)
        if row.plan["num_blocks"] is None:
            assert pd.isna(line["num_blocks"])
        else:
            assert line["num_blocks"] == row.plan["num_blocks"]
        if cell.estimate is None:
            assert pd.isna(line["reproduced"])
            assert pd.isna(line["num_blocks_used"])
            continue
        for key, value in (("reproduced", "value"), ("low", "low"), ("high", "high")):
            assert line[key] == pytest.approx(getattr(cell.estimate, value), abs=1e-6)
        if row.plan["num_blocks"]:
            assert line["num_blocks_used"] == row.plan["setting_used"]["num_blocks"]
            assert line["seed_sd"] == pytest.approx(cell.estimate.seed_sd, abs=1e-6)


def test_svg_says_what_stands_where(build) -> None:
    _, svg = drawn(sweep(build, seeds=2))
    for part in (
        "Small-1M stands in for Big0",
        "here (Small-1M, stand-in)",
        "reported (Big0)",
        "128 (here 96)",
        "paper 2048.50M",
        "here 125,000",
        "sd over seeds",
        "Full FT, reported",
        "number of blocks N",
    ):
        assert part in svg
    assert "8 (here" not in svg.replace("128 (here", "")


@pytest.mark.parametrize(
    ("stand_ins", "panels"), [(["Small-1M stands in for Big0"], 3), ([], 2)], ids=["apart", "one"]
)
def test_stand_ins_have_a_scale_of_their_own(build, stand_ins, panels: int) -> None:
    from diablo.tables.chart_lines import figure

    table = load_table(sweep(build, stand_ins=stand_ins), resamples=200)
    axes = figure(table, table.groups, "num_blocks", "avg").axes
    assert len(axes) == panels
    assert {ax.get_xscale() for ax in axes} == {"log"}
    # Accuracy upwards and loss downwards: up is better in every panel.
    assert [ax.yaxis_inverted() for ax in axes] == [False] * (panels - 1) + [True]
    assert [float(x) for x in axes[0].get_xticks()] == [8, 128, 2048]
    lines = [line for ax in axes for line in ax.get_lines()]
    paths = [[float(x) for x in line.get_xdata()] for line in lines]
    # What was not run is on the reported line alone.
    assert [8, 128] in paths
    assert [8, 128, 2048] in paths


def test_nothing_reaches_over_the_edge(build) -> None:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from diablo.tables import chart_lines, frame

    table = load_table(sweep(build, seeds=2), resamples=200)
    with matplotlib.style.context(frame.STYLE):
        drawn = chart_lines.figure(table, table.groups, "num_blocks", "avg")
        FigureCanvasAgg(drawn).draw()
    box = drawn.get_tightbbox()
    width, height = drawn.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_caption_is_kept(build) -> None:
    plan = sweep(build)
    drawn(plan)
    captions = read_json(plan.parent.parent / "figures" / "toy.provenance.json")["captions"]
    assert set(captions) == {"toy", "toy-tasks", "toy-curve"}
    assert "number of blocks N" in captions["toy-curve"]
    assert "Small-1M stands in for Big0" in captions["toy-curve"]


def test_nothing_was_run(build) -> None:
    frame, svg = drawn(sweep(build, ran=()))
    assert "no row was run" in svg
    assert frame["reproduced"].notna().sum() == 2  # full fine-tuning's average and loss


def test_own_experiment_without_reported_numbers(build) -> None:
    rows = [
        build.row("DiaBlo", "diablo", num_blocks=n, reported={}, params_reported=None,
                  setting_used={"num_blocks": n, "rank": None, "lr": 1e-4},
                  runs=[build.run(f"n{n}", "diablo")])
        for n in (8, 16)
    ]  # fmt: skip
    _, svg = drawn(build.plan(rows, chart=CHART))
    assert "reported" not in svg
    assert "full fine-tuning" not in svg


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"average": None}, "no `average`"), ({}, "no row with `num_blocks`")],
)
def test_a_curve_needs_an_average_and_a_setting(build, changes, message: str) -> None:
    plan = sweep(build, **changes) if changes else build.plan([build.row()], chart=CHART)
    with pytest.raises(ValueError, match=message):
        aggregate(plan, resamples=200)


def test_without_a_curve_no_file(build) -> None:
    plan = sweep(build, chart=None)
    aggregate(plan, resamples=200)
    assert not list((plan.parent.parent / "figures").glob("*curve*"))
