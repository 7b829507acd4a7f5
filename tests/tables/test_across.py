"""Retained updates in a table: the reference, the side-by-side table, the search of γ, the lines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from diablo.io import read_json
from diablo.tables import aggregate, load_table
from diablo.tables.across import gammas, side_by_side, training_minutes
from diablo.tables.across_figure import series

COLUMNS = {"boolq": "BoolQ"}
ACROSS = {"label": "N (sparsity 1/N)"}
#: The random pattern answers more of these questions than the diagonal one.
HITS = {"diagonal": 10, "entries": 30}


def record(pattern: str, n: int, **changes) -> dict:
    tried = [[1.0, 2.5], [2.0, 2.25], [4.0, None]]
    return {
        "pattern": pattern, "num_blocks": n, "seed": 0, "gamma": 2.0, "at_edge": False,
        "held_out": 16, "tried": tried, "full_run": "full", **changes,
    }  # fmt: skip


def plan_of(build, ran=(32, 64), **changes) -> Path:
    """Zero-shot and full fine-tuning; two retained patterns at two N; both of them fine-tuned."""
    ends = [
        build.row("Zero-shot", "zero-shot", reported={},
                  runs=[build.run("zero", "zero-shot", columns=COLUMNS, trainable=0)]),
        build.row("Full FT", "full", reported={},
                  runs=[build.run("full", "full", columns=COLUMNS, trainable=100_000)]),
    ]  # fmt: skip
    groups = [ends]
    for n in (32, 64):
        rows = []
        for pattern, label in (("diagonal", "DiaBlo"), ("entries", "Random Entries")):
            outcomes = {"boolq": [1] * HITS[pattern] + [0] * (40 - HITS[pattern])}
            runs = []
            if n in ran:
                retained = record(pattern, n, at_edge=n == 64)
                runs = [
                    build.run(
                        f"{pattern}-n{n}",
                        "retained",
                        columns=COLUMNS,
                        outcomes=outcomes,
                        retained=retained,
                        trainable=64_000 // n,
                        learning_rate=None,
                    )
                ]
            rows.append(
                build.row(label, "retained", pattern=pattern, num_blocks=n, lr_from=None, runs=runs,
                          setting_used={"num_blocks": n // 2, "rank": None, "lr": None},
                          reported={"boolq": 60.0 + n / 32}, params_reported=None)
            )  # fmt: skip
        groups.append(rows)
    tuned = [
        build.row(label, method, num_blocks=64, minutes_reported=minutes, reported={"boolq": 65.25},
                  setting_used={"num_blocks": 32, "rank": None, "lr": 1e-4},
                  runs=[build.run(method, method, columns=COLUMNS, step_seconds=90.0)])
        for label, method, minutes in (
            ("DiaBlo", "diablo", 17.26), ("Random Entries", "random-entries", 26.51),
        )
    ]  # fmt: skip
    more = {"columns": COLUMNS, "average": None, "across": ACROSS}
    return build.plan(*groups, tuned, **{**more, **changes})


def test_the_diagonal_row_is_the_reference_whatever_else_is_better(build) -> None:
    table = load_table(plan_of(build), resamples=200)
    whole, *others = table.groups
    assert whole.reference is None
    for group in others:
        assert group.reference is group.rows[0]
        assert group.reference.name.startswith("DiaBlo N=")
        cell = group.rows[1].cells["boolq"]
        assert cell.comparison is not None
    versus = others[0].rows[1].cells["boolq"].comparison
    assert versus.difference == pytest.approx(50)
    assert versus.verdict == "better"
    assert versus.low < 50 < versus.high


def test_side_by_side_has_the_papers_layout(build) -> None:
    detail = side_by_side(load_table(plan_of(build), resamples=200))
    assert detail.heads == ("Method", "Number", "Big1", "Big2", "Big3", "Minutes, Big3")
    lines = {row[:2]: row[2:] for row in detail.rows}
    assert lines["DiaBlo", "BoolQ, %, paper"] == ("61.00", "62.00", "65.25", "17.26")
    assert lines["Random Entries", "BoolQ, %, paper"][3] == "26.51"
    here = lines["DiaBlo", "BoolQ, %, here"]
    assert here[0].startswith("25.0 [")
    assert here[3] == "1.50"
    assert lines["DiaBlo", "answer loss, nats per token, here"][3] == ""
    assert "on cpu" in detail.text
    assert all(label != "Full FT" for label, *_ in detail.rows)


def test_what_was_not_run_says_so_and_time_that_was_not_recorded_is_left_out(build) -> None:
    table = load_table(plan_of(build, ran=(32,)), resamples=200)
    lines = {row[:2]: row[2:] for row in side_by_side(table).rows}
    assert lines["DiaBlo", "BoolQ, %, here"][1] == "not run"
    assert training_minutes(table.groups[1].rows[0]) is None
    assert training_minutes(None) is None


def test_the_search_of_gamma_is_shown_with_the_live_entries(build) -> None:
    detail = gammas(load_table(plan_of(build), resamples=200))
    assert len(detail.rows) == 4
    first, last = detail.rows[0], detail.rows[-1]
    assert first == ("Big1 / DiaBlo N=32", "1: 2.5000, 2: 2.2500, 4: not finite", "16", "2",
                     "2.2500", "2,000")  # fmt: skip
    assert last[3] == "2 (at the edge)"


def test_all_formats_have_them(build) -> None:
    plan = plan_of(build)
    aggregate(plan, resamples=200)
    for form in ("md", "html", "tex"):
        text = plan.with_name(f"toy.{form}").read_text()
        for part in ("Groups side by side", "17.26", "the edge", "Smallest detectable difference"):
            assert part.lower() in text.lower(), (form, part)
    frame = pd.read_csv(plan.with_name("toy.csv"))
    random = frame[(frame["label"] == "Random Entries") & (frame["column"] == "boolq")]
    assert (random["detectable"] > 0).all()
    assert (random["detectable_holm"] >= random["detectable"]).all()
    assert random["difference_low"].notna().all()


def test_lines_are_of_rows_with_several_n(build) -> None:
    plan = plan_of(build)
    table = load_table(plan, resamples=200)
    assert {label: [row.plan["num_blocks"] for row in rows] for label, rows in series(table).items()} == {
        "DiaBlo": [32, 64], "Random Entries": [32, 64],
    }  # fmt: skip
    aggregate(plan, resamples=200)
    stem = plan.parent.parent / "figures" / "toy-across"
    assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    frame, svg = pd.read_csv(stem.with_suffix(".csv")), stem.with_suffix(".svg").read_text()
    assert set(frame["method"]) == {"retained", "full", "zero-shot"}
    assert len(frame) == 2 * (4 + 2)  # columns x (retained, ends)
    for part in ("Small-1M stands in for Big0", "32 (here 16)", "N (sparsity 1/N)", "Full FT"):
        assert part in svg
    captions = read_json(stem.with_name("toy.provenance.json"))["captions"]
    assert set(captions) == {"toy-tasks", "toy-across"}


@pytest.mark.parametrize("ran", [(), (32,)])
def test_lines_of_what_was_not_run(build, ran) -> None:
    plan = plan_of(build, ran=ran)
    aggregate(plan, resamples=200)
    assert (plan.parent.parent / "figures" / "toy-across.svg").is_file()


def test_without_several_n_there_are_no_lines(build) -> None:
    rows = [build.row("DiaBlo", "diablo", num_blocks=8, runs=[build.run("one", "diablo")])]
    with pytest.raises(ValueError, match="toy: has `across`, but no label has rows of two N"):
        aggregate(build.plan(rows, across=ACROSS), resamples=200)


def test_nothing_reaches_over_the_edge(build) -> None:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from diablo.tables import across_figure

    table = load_table(plan_of(build), resamples=200)
    with matplotlib.style.context(across_figure.STYLE):
        drawn = across_figure._figure(table, series(table))
        FigureCanvasAgg(drawn).draw()
    box = drawn.get_tightbbox()
    width, height = drawn.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height
    # The accuracy here, the loss, and the reported accuracy on a scale of its own; up is better.
    assert [ax.yaxis_inverted() for ax in drawn.axes] == [False, True, False]
