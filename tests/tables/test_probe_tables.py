"""Tables and figures of ranks and of full gradients: against hand-made numbers, in every format."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from probe_cases import EPOCHS, line, matrix, monitored, norm_plan, rank_plan, ranked

from diablo.analysis.theorems.stationary import needed_blocks
from diablo.io import read_json, write_json
from diablo.tables import aggregate
from diablo.tables.gradient_norms import averages, load_gradient_norms
from diablo.tables.ranks import Condition, load_ranks, tidy_conditions, tidy_ranks

STAND_IN = "Small-1M stands in for Big0"


def diablo_row(build, runs, **changes):
    return build.row("DiaBlo", "diablo", num_blocks=64, runs=runs, reported={}, **changes)


def full_row(build, runs=(), **changes):
    return build.row("Full FT", "full", runs=list(runs), reported={}, **changes)


def rank_table(build, seeds=(0,)):
    runs = [ranked(build, f"d{seed}", "diablo", seed) for seed in seeds]
    return rank_plan(build, diablo_row(build, runs), full_row(build))


# --- Theorem 2's condition


@pytest.mark.parametrize(("m1", "m2"), [(64, 32), (48, 72), (7, 7)])
def test_the_condition_is_the_theorem_modules(m1, m2) -> None:
    for r1 in (1, 3, m1):
        for r2 in (1, 2, m2):
            one = Condition(m1, m2, r1, r2)
            holding = []
            for blocks in range(1, m1 + 1):
                if m1 % blocks or m2 % blocks:
                    assert one.needed(blocks) is None
                    assert one.holds(blocks) is None
                    continue
                needed = math.ceil(r1 * blocks / m1) * math.ceil(r2 * blocks / m2)
                assert one.needed(blocks) == needed == needed_blocks(m1, m2, blocks, r1, r2)
                assert one.holds(blocks) == (blocks >= needed)
                holding += [blocks] if blocks >= needed else []
            assert one.largest == max(holding)


def test_full_ranks_leave_the_whole_weight_alone() -> None:
    assert Condition(64, 32, 64, 32).largest == 1
    assert Condition(64, 64, 8, 8).largest == 64
    # ceil(8 * 8 / 64) = 1, and ceil(16 * 8 / 64) = 2.
    assert Condition(64, 64, 8, 16).needed(8) == 2


# --- ranks


def test_ranks_and_ratios_of_every_module(build) -> None:
    table = load_ranks(rank_table(build))
    frame = tidy_ranks(table)
    assert len(frame) == 3 * 2 * 5
    one = frame[(frame["module"] == "mlp.down_proj") & (frame["matrix"] == "X")]
    # 100 tokens, 128 wide: the ratio is to the tokens.
    assert one["of"].unique() == [100]
    assert one.set_index("criterion")["ratio"].to_dict() == {
        "numerical rank": 1.0, "Σσ² ≥ 0.9": 0.12, "Σσ² ≥ 0.99": 0.25, "Σσ ≥ 0.9": 0.33, "Σσ ≥ 0.99": 0.5,
    }  # fmt: skip
    assert frame["stand_ins"].unique() == [STAND_IN]
    condition = tidy_conditions(table)
    assert len(condition) == 3 * 5 * 4
    k = condition[(condition["module"] == "self_attn.k_proj") & (condition["rank1"] == 8)]
    # N = 48 divides neither width; 8 of 64 and 4 of 32 are an eighth each.
    assert k.set_index("blocks")["holds"].to_dict() == {2: "yes", 8: "yes", 32: "yes", 48: ""} | (
        {32: "yes" if needed_blocks(64, 32, 32, 8, 4) <= 32 else "no"}
    )


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_rank_files_of_every_format(build, seeds) -> None:
    table = aggregate(rank_table(build, seeds))
    tables, figures = build.folder / "tables", build.folder / "figures"
    for suffix in ("md", "html", "tex"):
        text = (tables / f"figure3.{suffix}").read_text()
        assert STAND_IN in text
        assert "Layer 2 of 4" in text
        assert "not run: filtered" in text
    html = (tables / "figure3.html").read_text()
    assert "http" not in html.replace("http-equiv", "")
    assert "⌈r1 N/m1⌉" in html
    assert "⌈" not in (tables / "figure3.tex").read_text()
    csv = pd.read_csv(tables / "figure3.csv")
    assert set(csv["part"]) == {"ranks", "condition"}
    assert len(csv) == len(seeds) * (3 * 2 * 5 + 3 * 5 * 4)
    check_figure(figures, "figure3", table)
    assert len(pd.read_csv(figures / "figure3.csv")) == len(seeds) * 3 * 2 * 5


def check_figure(figures: Path, name: str, table) -> None:
    assert (figures / f"{name}.png").stat().st_size > 10_000
    svg = (figures / f"{name}.svg").read_text()
    assert STAND_IN in svg
    facts = read_json(figures / f"{name}.provenance.json")
    assert STAND_IN in facts["captions"][name]
    assert set(map(str, table.inputs)) == set(facts["inputs"])
    assert len(facts["rows"]) == len(table.rows)


def test_a_file_that_does_not_fit_is_refused(build) -> None:
    entry = ranked(build, "d0", "diablo")
    path = Path(entry["ranks"])
    plan = rank_plan(build, diablo_row(build, [entry]))
    good = read_json(path)
    for change, message in (
        ({"run": "other"}, "run is 'other', the plan says 'd0'"),
        ({"probe": good["probe"] | {"layer": 3}}, "layer is 3, the plan says 2"),
        ({"probe": good["probe"] | {"examples": 9}}, "examples is 9, the plan says 5"),
        ({"provenance": {}}, "has no provenance"),
        ({"modules": []}, "has no modules"),
    ):
        write_json(path, good | change)
        with pytest.raises(ValueError, match=f"figure3.json: {message}"):
            load_ranks(plan)
    path.unlink()
    with pytest.raises(ValueError, match=r"figure3.json: no such file; run `diablo ranks` for d0"):
        load_ranks(plan)


def test_nothing_run(build) -> None:
    aggregate(rank_plan(build, full_row(build)))
    aggregate(norm_plan(build, diablo_row(build, [])))
    for name in ("figure3", "figure4"):
        assert "not run: filtered" in (build.folder / "tables" / f"{name}.md").read_text()
        assert (build.folder / "figures" / f"{name}.png").is_file()


# --- gradient norms


def test_averages_are_means_over_the_matrices() -> None:
    one = line(1)
    found = averages(one)
    # RMS 1e-3 / 2 times 1, 2 and 3 in the three layers; the blocks' are 0.9, 1.0 and 1.1 times that.
    assert found["rms_full"] == pytest.approx(1e-3)
    assert found["rms_blocks"] == pytest.approx(0.5e-3 * (0.9 + 2 * 1.0 + 3 * 1.1) / 3)
    assert found["rms_ratio"] == pytest.approx(found["rms_blocks"] / found["rms_full"])
    entries = {key: m["full_entries"] for key, m in one["modules"].items()}
    wanted = [m["full"] / entries[key] for key, m in one["modules"].items()]
    assert found["per_entry_full"] == pytest.approx(sum(wanted) / len(wanted))
    # An eighth of the entries: this reading makes the blocks sqrt(8) times as large.
    assert found["per_entry_ratio"] == pytest.approx(math.sqrt(8), rel=0.1)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_norm_files_of_every_format(build, seeds) -> None:
    runs = [monitored(build, f"d{s}", [line(e, s) for e in range(3)], s) for s in seeds]
    plan = norm_plan(build, diablo_row(build, runs))
    table = aggregate(plan)
    tables, figures = build.folder / "tables", build.folder / "figures"
    for suffix in ("md", "html", "tex"):
        text = (tables / f"figure4.{suffix}").read_text()
        assert STAND_IN in text
        assert "over all 24 training examples, the same" in text
        assert all(label in text for label in EPOCHS.values())
    html = (tables / "figure4.html").read_text()
    assert ("±" in html) == (len(seeds) > 1)
    assert "0.900" in html
    csv = pd.read_csv(tables / "figure4.csv")
    assert len(csv) == len(seeds) * 3 * (1 + 9)
    means = csv[(csv["part"] == "mean") & (csv["seed"] == 0)].set_index("epoch")["rms_full"]
    assert means.to_list() == pytest.approx([2e-3, 1e-3, 2e-3 / 3])
    matrices = csv[csv["part"] == "matrix"]
    assert (matrices["rms_full"] ** 2 * matrices["full_entries"]).to_list() == pytest.approx(
        (matrices["full"] ** 2).to_list()
    )
    check_figure(figures, "figure4", table)


def test_an_epoch_that_was_not_reached_is_empty(build) -> None:
    entry = monitored(build, "d0", [line(0), line(1)])
    aggregate(norm_plan(build, diablo_row(build, [entry])))
    text = (build.folder / "tables" / "figure4.md").read_text()
    (row,) = [one for one in text.splitlines() if "full weights, RMS" in one]
    assert row.rstrip(" |").endswith("0.00100")


def test_gradients_that_do_not_fit_are_refused(build) -> None:
    for lines, message in (
        ([], "has not every epoch from 0 on"),
        ([line(1)], "has not every epoch from 0 on"),
        ([line(0), line(0)], "has not every epoch from 0 on"),
        ([line(0), line(1, layers=2)], "epoch 1 has other matrices than epoch 0"),
        ([line(0) | {"modules": {}}], "epoch 0 has other matrices"),
    ):
        plan = norm_plan(build, diablo_row(build, [monitored(build, "d0", lines)]))
        with pytest.raises(ValueError, match=f"gradients.jsonl: {message}"):
            load_gradient_norms(plan)
    (build.folder / "runs" / "d0" / "gradients.jsonl").unlink()
    with pytest.raises(ValueError, match=r"gradients.jsonl: no such file"):
        load_gradient_norms(plan)
    plan = norm_plan(build, diablo_row(build, []), columns={"epoch": "Epoch"})
    with pytest.raises(ValueError, match="column 'epoch' is no epoch"):
        load_gradient_norms(plan)


def test_matrices_of_the_case_are_as_described() -> None:
    assert matrix(64, 0)["effective"][0]["rank"] == 8
