"""Tables of experiments with parts as data: seeds, units, directions, comparisons, missing cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import table_entries as entries
import table_parts as parts
from table_builder import Builder

from diablo.io import read_json, write_json
from diablo.tables import load_table
from diablo.tables.comparison import Comparison
from diablo.tables.statistics import bootstrap_means, bootstrap_p, generator


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    """Plans of the four small tables."""
    folder = tmp_path_factory.mktemp("parts")
    return {
        "table3": parts.table3(Builder(folder / "3")),
        "table7": parts.table7(Builder(folder / "7"), judge=True),
        "without judge": parts.table7(Builder(folder / "7-without"), judge=False),
        "table8": parts.table8(Builder(folder / "8")),
    }


@pytest.fixture(scope="module")
def tables(paths):
    return {name: load_table(path, resamples=400) for name, path in paths.items()}


def entry_of(run, key: str) -> dict:
    return read_json(run.scores)["tasks"][key]


def rows_of(table):
    return [row for _, row in table.rows if row.runs]


def test_numbers_are_those_of_the_score_files(tables) -> None:
    """Mean over the seeds of the files' values: shares in percent, ratings in points."""
    for name in ("table3", "table7", "table8"):
        for row in rows_of(tables[name]):
            for key, measure in tables[name].measures.items():
                if key in ("avg", "loss"):
                    continue
                runs = row.of_part(measure.part)
                assert [run.part for run in runs] == [measure.part] * row.seeds
                values = [entry_of(run, key)["value"] for run in runs]
                found = row.cells[key].estimate
                factor = 1 if measure.unit == "points" else 100
                assert found.value == pytest.approx(factor * np.mean(values))
                assert found.seeds == row.seeds
                assert (found.seed_sd is None) == (row.seeds == 1)
                assert found.low <= found.high


def test_columns_come_in_order_with_readings_after_them(tables) -> None:
    assert list(tables["table3"].columns) == [*parts.CODE, "hexphi", *parts.SAFETY[1:], "loss"]
    assert list(tables["table7"].columns) == ["mtbench", "loss"]
    beside = ["mrpc_f1", "cola_matthews", "loss"]
    assert list(tables["table8"].columns) == [*parts.GLUE, "avg", *beside]


def test_standard_errors_of_pass_at_k_are_over_problems(tables) -> None:
    table = tables["table3"]
    for row in rows_of(table):
        for key in parts.CODE:
            runs = row.of_part("code")
            each = [[one["correct"] for one in entry_of(run, key)["outcomes"]] for run in runs]
            problems = 100 * np.mean(each, axis=0)
            expected = problems.std(ddof=1) / len(problems) ** 0.5
            assert row.cells[key].estimate.stderr == pytest.approx(expected)
            assert row.cells[key].shows_stderr
        assert not row.cells["hexphi"].shows_stderr


def test_the_average_is_over_parts_and_only_where_there_is_one(tables) -> None:
    for row in rows_of(tables["table8"]):
        cells = [row.cells[task] for task in parts.GLUE]
        mean = np.mean([cell.estimate.value for cell in cells])
        assert row.cells["avg"].estimate.value == pytest.approx(mean)
        assert row.cells["avg"].estimate.n == 300
    assert "avg" not in tables["table3"].columns
    assert "avg" not in tables["table7"].columns


def test_the_loss_is_the_mean_over_the_tasks_of_all_parts(tables) -> None:
    for row in rows_of(tables["table3"]):
        by_task = [
            entry["value"]
            for run in row.runs
            for entry in read_json(run.losses.path)["tasks"].values()
        ]
        assert len(by_task) == 3 * row.seeds
        assert row.cells["loss"].estimate.value == pytest.approx(np.mean(by_task))
        assert row.cells["loss"].estimate.n == 20 + 30 + 12
    assert tables["table3"].test_sizes["loss"] == 62


def test_tasks_that_nothing_scores_count_in_the_loss(build) -> None:
    """Held-out instructions are there for their loss; a task that is scored but not shown is not."""
    path = parts.table7(build, judge=True)
    for run in (row["runs"][0] for row in read_json(path)["groups"][0]["rows"]):
        losses, scores = read_json(run["losses"]), read_json(run["scores"])
        for task in ("held_out", "other"):
            losses["tasks"][task] = losses["tasks"]["mtbench"]
        scores["tasks"]["other_rating"] = {"task": "other"}
        write_json(run["losses"], losses)
        write_json(run["scores"], scores)
    for row in rows_of(load_table(path, resamples=50)):
        assert list(row.runs[0].losses.examples) == ["mtbench", "held_out"]
        assert row.cells["loss"].estimate.n == 20


def test_lower_is_better_turns_marks_and_comparisons(build) -> None:
    """Both rows refuse alike what is harmful; LoRA refuses more of what is harmless."""
    path = parts.table3(build, seeds=1)
    for row in read_json(path)["groups"][0]["rows"][:3]:
        run = row["runs"][1]
        scores = read_json(run["scores"])
        lora = row["method"] == "lora"
        scores["tasks"]["harmless"] = entries.refusal([int(lora)] * 11 + [0], "m")
        scores["tasks"]["hexphi"] = entries.refusal([int(lora)] * 29 + [1])
        write_json(run["scores"], scores)
    lora = load_table(path, resamples=100).groups[0].rows[0]
    assert lora.cells["hexphi"].mark == "best"
    assert lora.cells["hexphi"].comparison.verdict == "better"
    assert lora.cells["harmless"].mark == "second"
    assert lora.cells["harmless"].comparison.verdict == "worse"
    assert lora.cells["harmless"].comparison.difference > 0


def test_fractions_and_ratings_are_compared_by_the_paired_bootstrap(tables) -> None:
    for name, keys in (("table3", parts.CODE), ("table7", ("mtbench",))):
        table = tables[name]
        reference = table.groups[0].reference
        for row in rows_of(table):
            for key in () if row.is_reference else keys:
                found = row.cells[key].comparison
                part = table.measures[key].part
                runs = [reference.of_part(part), row.of_part(part)]
                theirs, ours = (
                    np.array([[e.get(i, np.nan) for i in sorted(runs[0][0].entries[key].ids)]
                              for e in (run.entries[key].values for run in each)]).sum(axis=0)
                    for each in runs
                )  # fmt: skip
                differences = (ours - theirs) * len(runs[0])
                differences = differences[~np.isnan(differences)]
                names = ["+".join(run.name for run in each) for each in runs]
                draws = bootstrap_means(differences, generator(0, "paired", *names, key), 400)
                assert found.p == pytest.approx(bootstrap_p(np.round(draws, 9)))
                factor = 100 if name == "table3" else 1
                mean = factor * differences.mean() / len(runs[0]) ** 2
                assert found.difference == pytest.approx(mean)
                assert found.low <= found.difference <= found.high


def test_statistics_of_sets_are_compared_on_the_same_examples(tables) -> None:
    lora = tables["table8"].groups[0].rows[0]
    for key in ("mrpc_f1", "cola_matthews"):
        found = lora.cells[key].comparison
        ours, theirs = (row.cells[key].estimate.value for row in rows_of(tables["table8"]))
        assert found.difference == pytest.approx(ours - theirs)
        assert found.low < found.difference < found.high
        assert found.verdict == "worse"
        # Paired: both rows fail the same hard half, so their difference varies less than each alone.
        alone = [row.cells[key].estimate.stderr for row in rows_of(tables["table8"])]
        assert (found.high - found.low) / 3.92 < (alone[0] ** 2 + alone[1] ** 2) ** 0.5


def test_refusals_have_the_sign_test(tables) -> None:
    for row in rows_of(tables["table3"])[:1]:
        found = row.cells["hexphi"].comparison
        assert isinstance(found, Comparison)
        assert found.low <= found.difference <= found.high
        assert found.detectable_holm >= found.detectable


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("table8", "average"), ("table7", "columns"), ("table3", "parts"), ("without judge", "loss")],
)
def test_the_reference_is_chosen_by_what_there_is(tables, name: str, chosen: str) -> None:
    group = tables[name].groups[0]
    assert group.chosen_by == chosen
    assert group.reference.plan["method"] == "diablo"
    assert [row.is_reference for row in group.rows].count(True) == 1


def test_among_diablo_rows_the_better_over_both_parts_is_the_reference(tables) -> None:
    group = tables["table3"].groups[0]
    means = {}
    for row in rows_of(tables["table3"])[1:]:
        code = np.mean([row.cells[key].estimate.value for key in parts.CODE])
        means[row.name] = (code + row.cells["hexphi"].estimate.value) / 2
    assert group.reference.name == max(means, key=means.__getitem__)


def test_cells_that_cannot_be_say_why_and_the_rest_is_there(tables) -> None:
    table = tables["without judge"]
    for row in rows_of(table):
        cell = row.cells["mtbench"]
        assert (cell.estimate, cell.missing) == (None, "not run: no judge")
        assert cell.comparison is None
        assert row.cells["loss"].estimate.n == 10
        assert row.cells["loss"].missing is None
        assert row.status == "run"
        assert row.runs[0].scores is None
    assert table.groups[0].rows[0].cells["loss"].comparison.family == 1
    assert "loss" not in table.test_sizes


def test_runs_without_scores_need_a_reason(build) -> None:
    with pytest.raises(ValueError, match=r"run lora has no scores, .*there is no mtbench"):
        load_table(parts.table7(build, judge=False, missing={}))


def test_verdicts_that_could_not_be_read_are_left_out_of_number_and_comparison(tables) -> None:
    lora, best = rows_of(tables["table7"])
    assert (lora.cells["mtbench"].estimate.n, best.cells["mtbench"].estimate.n) == (15, 16)
    ours, theirs = (
        {one["id"]: one["correct"] for one in entry_of(row.runs[0], "mtbench")["outcomes"]}
        for row in (lora, best)
    )
    mean = np.mean([ours[name] - theirs[name] for name in ours])
    assert lora.cells["mtbench"].comparison.difference == pytest.approx(mean)


def test_a_row_whose_verdicts_all_failed_has_no_number(build) -> None:
    path = parts.table7(build, judge=True)
    run = read_json(path)["groups"][0]["rows"][0]["runs"][0]
    scores = read_json(run["scores"])
    scores["tasks"]["mtbench"] = entries.ratings([None] * 16)
    write_json(run["scores"], scores)
    lora = load_table(path, resamples=50).groups[0].rows[0]
    assert lora.cells["mtbench"].missing == "no verdict could be read"
    assert lora.cells["mtbench"].comparison is None


def test_a_row_that_lacks_a_part_is_not_complete(build) -> None:
    path = parts.table8(build)
    plan = read_json(path)
    row = plan["groups"][0]["rows"][0]
    row["runs"] = [run for run in row["runs"] if run["part"] != "cola"]
    write_json(path, plan)
    lora, best = load_table(path, resamples=50).groups[0].rows
    assert lora.status == "run in part: not cola"
    assert lora.cells["cola"].missing == "not run"
    assert lora.cells["cola_matthews"].missing == "not run"
    for key in ("avg", "loss"):
        assert (lora.cells[key].estimate, lora.cells[key].missing) == (None, "not run in full")
    assert lora.cells["mrpc"].comparison is not None
    assert best.cells["avg"].estimate is not None


def test_parts_with_other_seeds_are_refused(build) -> None:
    path = parts.table3(build)
    plan = read_json(path)
    plan["groups"][0]["rows"][0]["runs"].pop()
    write_json(path, plan)
    with pytest.raises(ValueError, match=r"different seeds: \{'code': \[0, 1\], 'safety': \[0\]\}"):
        load_table(path, resamples=50)


def test_every_part_has_its_own_learning_rate(tables, paths) -> None:
    lora = rows_of(tables["table3"])[0]
    rates = {part: {run.learning_rate for run in lora.of_part(part)} for part in lora.parts}
    assert rates == {"code": {2e-5}, "safety": {1e-4}}
    run = read_json(paths["table3"])["groups"][0]["rows"][0]["runs"][0]
    assert run["lr"] == 2e-5


def test_another_rate_than_the_parts_is_refused(build) -> None:
    path = parts.table3(build, seeds=1)
    plan = read_json(path)
    plan["groups"][0]["rows"][0]["runs"][0]["lr"] = 1e-4
    write_json(path, plan)
    with pytest.raises(ValueError, match=r"learning_rate is 2e-05, the plan says 0\.0001"):
        load_table(path, resamples=50)


def test_other_gold_labels_are_refused(build) -> None:
    path = parts.table8(build)
    run = read_json(path)["groups"][0]["rows"][0]["runs"][0]
    scores = read_json(run["scores"])
    turned = [
        (entries.LABELS[gold == entries.LABELS[0]], read)
        for gold, read in entries.guesses("x", 0.5)
    ]
    scores["tasks"]["mrpc_f1"] = entries.f1(turned)
    write_json(run["scores"], scores)
    with pytest.raises(ValueError, match=r"scores/glue_mrpc\.json: mrpc_f1 'g0' has the answer"):
        load_table(path, resamples=50)
