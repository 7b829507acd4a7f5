"""The figures: files, data and words."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import pandas as pd
import pytest

from diablo.io import read_json
from diablo.tables import aggregate

FIGURES = ("toy", "toy-tasks")


def svg_text(path: Path) -> str:
    root = ElementTree.parse(path).getroot()
    return " ".join(t for e in root.iter("{http://www.w3.org/2000/svg}text") for t in e.itertext())


def png_texts(path: Path) -> dict[str, str]:
    """Text chunks (tEXt, iTXt) of a PNG file."""
    data, at, found = path.read_bytes(), 8, {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"tEXt":
            key, _, value = body.partition(b"\0")
            found[key.decode()] = value.decode("latin-1")
        if kind == b"iTXt":
            key, _, rest = body.partition(b"\0")
            text = rest[2:].split(b"\0", 2)[2]
            found[key.decode()] = (zlib.decompress(text) if rest[0] else text).decode()
        at += length + 12
    return found


def test_files_are_there(outputs: Path) -> None:
    for name in FIGURES:
        for suffix in ("png", "svg", "csv"):
            assert (outputs / "figures" / f"{name}.{suffix}").stat().st_size > 1000
        assert (outputs / "figures" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", FIGURES)
def test_svg_has_text_and_names_stand_ins(outputs: Path, name: str) -> None:
    text = svg_text(outputs / "figures" / f"{name}.svg")
    assert "Small-1M stands in for Big0" in text
    assert "LoRA r=32" in text
    assert "reported" in text


def test_svg_says_what_was_not_run(outputs: Path) -> None:
    text = svg_text(outputs / "figures" / "toy.svg")
    assert "not run: not implemented yet" in text
    assert "paper: Big0  |  here (Small-1M, stand-in)" in text
    assert "same run as above" in text


def test_task_panels_leave_out_repeated_rows(outputs: Path) -> None:
    text = svg_text(outputs / "figures" / "toy-tasks.svg")
    assert "same run" not in text
    assert "BoolQ (n = 40 of 100)" in text
    assert "reported, Big0" in text


def test_data_beside_the_figure_is_the_tables(outputs: Path) -> None:
    whole = pd.read_csv(outputs / "tables" / "toy.csv")
    average = pd.read_csv(outputs / "figures" / "toy.csv")
    tasks = pd.read_csv(outputs / "figures" / "toy-tasks.csv")
    assert set(average["column"]) == {"avg", "loss"}
    assert set(tasks["column"]) == {"boolq", "piqa"}
    both = pd.concat([average, tasks]).sort_values(["group", "row", "column"])
    expected = whole.sort_values(["group", "row", "column"])
    pd.testing.assert_frame_equal(both.reset_index(drop=True), expected.reset_index(drop=True))


def test_captions_are_kept_with_the_figures(outputs: Path) -> None:
    provenance = read_json(outputs / "figures" / "toy.provenance.json")
    assert set(provenance["captions"]) == set(FIGURES)
    for name, caption in provenance["captions"].items():
        assert "Small-1M stands in for Big0" in caption
        assert "1 of 5 rows were not run" in caption
        described = png_texts(outputs / "figures" / f"{name}.png")["Description"]
        assert described == caption


def test_without_average_only_tasks_are_drawn(build) -> None:
    plan = build.plan([build.row(runs=[build.run("lora")])], average=None)
    aggregate(plan, resamples=200)
    names = {path.name for path in (plan.parent.parent / "figures").glob("*.svg")}
    assert names == {"toy-tasks.svg"}


def test_long_names_and_reasons_stay_inside(build) -> None:
    """Nothing that is drawn reaches over the edge of the figure."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from diablo.tables import figure, load_table

    rows = [
        build.row("A method with quite a long name", rank=128, reason="a long reason " * 8),
        build.row(
            "DiaBlo",
            "diablo",
            num_blocks=1024,
            setting_used={"num_blocks": 128, "rank": None, "lr": 1e-4},
            runs=[build.run(f"s{i}", "diablo", seed=i) for i in (0, 1)],
        ),
        build.row(
            "LoRA",
            rank=128,
            setting_used={"num_blocks": None, "rank": 64, "lr": 1e-4},
            runs=[build.run(f"l{i}", seed=i) for i in (0, 1)],
        ),
    ]
    table = load_table(build.plan(rows), resamples=200)
    with matplotlib.style.context(figure.STYLE):
        for drawn in (figure._averages(table), figure._tasks(table, ["boolq", "piqa"])):
            FigureCanvasAgg(drawn).draw()
            box = drawn.get_tightbbox()
            width, height = drawn.get_size_inches()
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
