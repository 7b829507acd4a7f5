"""Variances of gradient norms: against numpy on synthetic logs, through every format and figure."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from html_cells import Cells

from diablo.io import read_json
from diablo.tables import aggregate
from diablo.tables.gradient_formats import here, remark, significant
from diablo.tables.gradients import load_gradients

EPOCHS = {"epoch1": "Epoch 1", "epoch2": "Epoch 2", "epoch3": "Epoch 3"}
STEPS = 7  # in an epoch: no multiple of `every`
STAND_IN = "Small-1M stands in for Big0"


def norms(seed: int, steps: int = 3 * STEPS) -> np.ndarray:
    """(steps, 2) norms of two groups of parameters."""
    return np.random.default_rng(seed).uniform(0.5, 9.0, (steps, 2)).round(3)


def write_log(
    path: Path,
    names: tuple[str, ...],
    values: np.ndarray,
    per_epoch: int = STEPS,
    skipped: tuple[int, ...] = (),
) -> None:
    """A run's log as StepLog writes it; the mean over matrices is an eighth of the square."""
    lines: list[dict[str, Any]] = []
    for step, row in enumerate(values.tolist(), start=1):
        line: dict[str, Any] = {"step": step, "epoch": round(step / per_epoch, 6), "lr": 1e-4}
        if step in skipped:
            line |= {"grad_norm": None, "skipped": True}
        else:
            found = dict(zip(names, row, strict=False))
            means = {name: value**2 / 8 for name, value in found.items()}
            line |= {"grad_norm": math.hypot(*found.values())}
            line |= {"grad_norms": found, "mean_grad_norms": means}
        lines.append(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def logged(build, name: str, method: str, names: tuple[str, ...], values: np.ndarray, **changes):
    """An entry of a row's `runs` with its log."""
    seed = changes.pop("seed", 0)
    entry = build.run(name, method, seed=seed) | {"scores": None, "losses": None}
    write_log(Path(entry["log"]), names, values, **changes)
    return entry


def gradient_plan(build, *rows: dict[str, Any], every: int = 2, **changes: Any) -> Path:
    settings = {"kind": "gradient-variance", "every": every, "columns": EPOCHS, "average": None}
    return build.plan(list(rows), **settings | changes)


def row_of(build, group: str, runs: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A row of the plan with numbers as the paper has them."""
    label = {"lora_A": "LoRA-A", "lora_B": "LoRA-B", "diablo_blocks": "DiaBlo"}[group]
    method = "diablo" if group == "diablo_blocks" else "lora"
    reported = {"epoch1": 6.13, "epoch2": 4.97, "epoch3": 4.48}
    return build.row(label, method, group=group, runs=runs, **{"reported": reported, **changes})


def lora_only(build, values: np.ndarray, every: int = 2, **changes: Any):
    """The cells of a table of one row, LoRA-B, that shows the second column of `values`."""
    entry = logged(build, "lora", "lora", ("lora_A", "lora_B"), values, **changes)
    table = load_gradients(gradient_plan(build, row_of(build, "lora_B", [entry]), every=every))
    return table.groups[0].rows[0].cells


@pytest.mark.parametrize("every", [1, 2, 3])
def test_variances_over_the_sampled_steps_of_each_epoch(build, every: int) -> None:
    values = norms(0)
    cells = lora_only(build, values, every)
    for index, key in enumerate(EPOCHS):
        # Steps count from 1 through all epochs: epoch 2 begins with step 8.
        steps = [s for s in range(index * STEPS + 1, (index + 1) * STEPS + 1) if s % every == 0]
        taken = [values[step - 1, 1] for step in steps]
        mean = sum(taken) / len(taken)
        expected = sum((value - mean) ** 2 for value in taken) / len(taken)
        (one,) = cells[key].seeds
        assert one.value == pytest.approx(expected)
        assert (one.steps, one.skipped) == (len(steps), 0)
        assert one.norm == pytest.approx(mean)
        assert one.of_means == pytest.approx(np.var([value**2 / 8 for value in taken]))
        whole = values[index * STEPS : (index + 1) * STEPS, 1]
        assert one.all_steps == STEPS
        assert one.of_all_steps == pytest.approx(np.var(whole))
        if every == 1:
            assert one.offsets is None
            continue
        numbers = np.arange(index * STEPS + 1, (index + 1) * STEPS + 1)
        ways = [np.var(whole[numbers % every == offset]) for offset in range(every)]
        assert one.offsets == pytest.approx((min(ways), max(ways)))


def test_an_epochs_last_step_belongs_to_it(build) -> None:
    values = np.ones((2 * STEPS, 2))
    values[STEPS - 1] = 5.0  # the last of epoch 1
    values[STEPS] = 3.0  # the first of epoch 2
    cells = lora_only(build, values, every=1)
    assert cells["epoch1"].value == pytest.approx(np.var([1.0] * 6 + [5.0]))
    assert cells["epoch2"].value == pytest.approx(np.var([1.0] * 6 + [3.0]))


def test_rounded_epochs_do_not_move_steps(build) -> None:
    """An epoch of 10643 steps, whose number the log has with six decimals."""
    per_epoch = 10643
    values = np.ones((2 * per_epoch, 2))
    cells = lora_only(build, values, every=100, per_epoch=per_epoch)
    assert [cells[key].seeds[0].all_steps for key in EPOCHS] == [per_epoch, per_epoch, 0]
    assert [cells[key].seeds[0].steps for key in EPOCHS] == [106, 106, 0]


def test_skipped_steps_are_left_out_and_counted(build) -> None:
    values = norms(1)
    cell = lora_only(build, values, every=2, skipped=(3, 4))["epoch1"]
    assert cell.value == pytest.approx(np.var([values[1, 1], values[5, 1]]))
    (one,) = cell.seeds
    assert (one.steps, one.skipped, one.all_steps) == (2, 1, 5)
    assert "1 skipped by the fp16 scaler" in cell.note
    assert "2 steps" in remark(cell)


def test_one_sampled_step_gives_no_variance(build) -> None:
    cell = lora_only(build, norms(1), every=5)["epoch1"]
    assert cell.value is None
    assert here(cell) == ""
    assert cell.seeds[0].of_all_steps is not None
    assert "too few steps: 1 of 7 sampled" in remark(cell)


def test_epochs_that_were_not_or_only_partly_trained_say_so(build) -> None:
    cells = lora_only(build, norms(1)[: STEPS + 4], every=1)
    assert cells["epoch1"].note == ""
    assert cells["epoch2"].value is not None
    assert "ended after 57% of this epoch" in cells["epoch2"].note
    assert cells["epoch3"].value is None
    assert "not trained: the run ended after 1.57" in cells["epoch3"].note


def two_seeds(build) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """A plan with two seeds of LoRA, one of DiaBlo and a row that was not run; the norms by row."""
    lora = [norms(0), norms(1)]
    runs = [
        logged(build, f"lora-s{s}", "lora", ("lora_A", "lora_B"), lora[s], seed=s) for s in (0, 1)
    ]
    diablo = norms(2)
    blocks = logged(build, "diablo", "diablo", ("diablo_blocks",), diablo)
    again = row_of(build, "lora_B", runs, same_as="Big0 / LoRA-A")
    rows = [
        row_of(build, "lora_A", runs, notes=["rank 4 here"]),
        again,
        row_of(build, "diablo_blocks", [blocks], reported={}, num_blocks=64,
               setting_used={"num_blocks": 48, "rank": None, "lr": 1e-4}),
        row_of(build, "lora_A", [], reason="filtered"),
    ]  # fmt: skip
    wanted = {"1": [v[:, 0] for v in lora], "2": [v[:, 1] for v in lora], "3": [diablo[:, 0]]}
    return gradient_plan(build, *rows), wanted


@pytest.fixture
def outputs_of_two_seeds(build) -> tuple[Path, dict[str, list[np.ndarray]]]:
    plan, wanted = two_seeds(build)
    aggregate(plan)
    return plan.parent.parent, wanted


def test_csv_has_means_and_spread_over_seeds(outputs_of_two_seeds) -> None:
    folder, wanted = outputs_of_two_seeds
    lines = list(csv.DictReader((folder / "tables" / "toy.csv").open(encoding="utf-8")))
    assert len(lines) == 4 * 3
    sampled = slice(STEPS, 2 * STEPS, 2)  # steps 8, 10, 12, 14
    for line in (line for line in lines if line["column"] == "epoch2" and line["row"] in wanted):
        each = [np.var(values[sampled]) for values in wanted[line["row"]]]
        assert float(line["reproduced"]) == pytest.approx(np.mean(each), rel=1e-5)
        assert line["seeds"] == str(len(each))
        assert line["steps"] == " ".join(["4"] * len(each))
        whole = [np.var(values[STEPS : 2 * STEPS]) for values in wanted[line["row"]]]
        assert float(line["every_step"]) == pytest.approx(np.mean(whole), rel=1e-5)
        if len(each) > 1:
            assert float(line["seed_sd"]) == pytest.approx(np.std(each, ddof=1), rel=1e-5)
            assert float(line["reported"]) == 4.97
            assert float(line["difference"]) == pytest.approx(np.mean(each) - 4.97, rel=1e-4)
        else:
            assert line["seed_sd"] == line["reported"] == line["difference"] == ""
    assert {line["parameters"] for line in lines} == {"lora_A", "lora_B", "diablo_blocks"}
    assert all(line["stand_ins"] == STAND_IN for line in lines)
    assert {line["reproduced"] for line in lines if line["row"] == "4"} == {""}


@pytest.mark.parametrize("suffix", ["md", "html", "tex"])
def test_formats_say_what_the_numbers_are(outputs_of_two_seeds, suffix: str) -> None:
    folder, _ = outputs_of_two_seeds
    text = (folder / "tables" / f"toy.{suffix}").read_text(encoding="utf-8")
    table = load_gradients(folder / "tables" / "toy.plan.json")
    for row in table.groups[0].rows[:3]:
        for cell in row.cells.values():
            assert here(cell).replace("±", r"$\pm$" if suffix == "tex" else "±") in text
    for part in ("6.13", "is a multiple of 2", "not run: filtered", "2 seeds"):
        assert part in text
    assert "same run as Big0 / LoRA-A" in text
    assert text.index(STAND_IN) < text.index("6.13")
    assert "Decoding" not in text
    assert "48" in text


def test_html_is_closed_and_accessible(outputs_of_two_seeds) -> None:
    folder, _ = outputs_of_two_seeds
    parser = Cells()
    parser.feed((folder / "tables" / "toy.html").read_text(encoding="utf-8"))
    assert parser.open == []
    assert all("scope" in attributes for tag, attributes in parser.tags if tag == "th")
    assert not {tag for tag, _ in parser.tags} & {"script", "link", "img", "iframe"}


def test_latex_is_well_formed(outputs_of_two_seeds) -> None:
    folder, _ = outputs_of_two_seeds
    text = (folder / "tables" / "toy.tex").read_text(encoding="utf-8")
    assert text.count("{") == text.count("}")
    for line in text.splitlines():
        if " & " in line:
            assert line.endswith(r"\\")


def test_markdown_tables_are_rectangular(outputs_of_two_seeds) -> None:
    folder, _ = outputs_of_two_seeds
    blocks = (folder / "tables" / "toy.md").read_text(encoding="utf-8").split("\n\n")
    tables = [block.strip().splitlines() for block in blocks if block.strip().startswith("|")]
    assert len(tables) == 2
    for lines in tables:
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    # LoRA's two rows have two seeds, DiaBlo's has one, each with three epochs.
    assert len(tables[1]) == 2 + (2 + 2 + 1) * 3


def test_provenance_has_the_logs(outputs_of_two_seeds) -> None:
    folder, _ = outputs_of_two_seeds
    provenance = read_json(folder / "tables" / "toy.provenance.json")
    hashed = " ".join(provenance["inputs"])
    for part in ("lora-s1/log.jsonl", "diablo/adapter/provenance.json", "toy.plan.json"):
        assert part in hashed
    assert provenance["every"] == 2
    assert "resamples" not in provenance
    captions = read_json(folder / "figures" / "toy.provenance.json")["captions"]
    assert set(captions) == {"toy", "toy-variance"}
    assert all(STAND_IN in caption for caption in captions.values())


def test_figures_and_their_data(outputs_of_two_seeds) -> None:
    folder, wanted = outputs_of_two_seeds
    written = {path.name for path in (folder / "figures").iterdir()}
    stems = {
        f"{stem}.{suffix}" for stem in ("toy", "toy-variance") for suffix in ("png", "svg", "csv")
    }
    assert written == {*stems, "toy.provenance.json"}
    frame = pd.read_csv(folder / "figures" / "toy.csv")
    for number, values in wanted.items():
        for seed, expected in enumerate(values):
            part = frame[(frame["row"] == int(number)) & (frame["seed"] == seed)]
            assert part["norm"].tolist() == pytest.approx(expected.tolist())
            assert part["epoch"].tolist() == [1] * STEPS + [2] * STEPS + [3] * STEPS
            assert part["step"][part["measured"]].tolist() == list(range(2, 3 * STEPS + 1, 2))
    variances = pd.read_csv(folder / "figures" / "toy-variance.csv")
    pd.testing.assert_frame_equal(variances, pd.read_csv(folder / "tables" / "toy.csv"))
    svg = (folder / "figures" / "toy.svg").read_text(encoding="utf-8")
    for part in (STAND_IN, "epoch 3", "LoRA-A", "DiaBlo", "range over seeds"):
        assert part in svg


def test_nothing_reaches_over_the_edge(build) -> None:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from diablo.tables import gradient_figure

    table = load_gradients(two_seeds(build)[0])
    with matplotlib.style.context(gradient_figure.STYLE):
        for drawn in (gradient_figure._norms(table), gradient_figure._variances(table)):
            FigureCanvasAgg(drawn).draw()
            box = drawn.get_tightbbox()
            width, height = drawn.get_size_inches()
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height


def test_same_input_gives_the_same_bytes(build) -> None:
    plan, _ = two_seeds(build)
    root = plan.parent.parent
    names = ["tables/toy.html", "figures/toy.svg", "figures/toy.png", "figures/toy-variance.svg"]
    aggregate(plan)
    first = [(root / name).read_bytes() for name in names]
    aggregate(plan)
    assert [(root / name).read_bytes() for name in names] == first


def test_nothing_was_run(build) -> None:
    rows = [row_of(build, group, []) for group in ("lora_A", "diablo_blocks")]
    plan = gradient_plan(build, *rows, stand_ins=[])
    aggregate(plan)
    root = plan.parent.parent
    assert "not run: filtered" in (root / "tables" / "toy.html").read_text(encoding="utf-8")
    for stem in ("toy", "toy-variance"):
        svg = (root / "figures" / f"{stem}.svg").read_text(encoding="utf-8")
        assert "not run: filtered" in svg
        assert (root / "figures" / f"{stem}.csv").is_file()


def broken(build, change) -> Path:
    entry = logged(build, "lora", "lora", ("lora_A", "lora_B"), norms(0))
    change(Path(entry["log"]))
    return gradient_plan(build, row_of(build, "lora_B", [entry]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "no such log"),
        (lambda path: path.write_text(""), "not every step"),
        (
            lambda path: path.write_text("".join(path.read_text().splitlines(True)[1:])),
            "not every step",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("lora_B", "lora_magnitude")),
            "step 1 has no gradient norm of group 'lora_B' .it has: lora_A, lora_magnitude",
        ),
    ],
)
def test_broken_logs_are_named_and_nothing_is_written(build, change, message: str) -> None:
    plan = broken(build, change)
    with pytest.raises(ValueError, match=message) as caught:
        aggregate(plan)
    assert "lora/log.jsonl" in str(caught.value)
    assert [path.name for path in plan.parent.iterdir()] == ["toy.plan.json"]


def test_columns_must_be_epochs(build) -> None:
    plan = gradient_plan(build, row_of(build, "lora_A", []), columns={"boolq": "BoolQ"})
    with pytest.raises(ValueError, match="column 'boolq' is no epoch"):
        load_gradients(plan)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0"), (22.341, "22.3"), (0.052345, "0.0523"), (1234.6, "1235"),
     (0.0000123456, "1.23e-5"), (0.75, "0.750")],
)  # fmt: skip
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert significant(value) == text
