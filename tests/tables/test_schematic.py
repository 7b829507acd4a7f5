"""Figure 1: drawn by code, without data."""

from __future__ import annotations

from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from diablo.io import read_json
from diablo.tables import schematic
from diablo.tables.frame import STYLE


def test_its_files_and_counts(tmp_path: Path) -> None:
    schematic.schematic(tmp_path)
    folder = tmp_path / "figures"
    assert (folder / "figure1.png").read_bytes()[:4] == b"\x89PNG"
    svg = (folder / "figure1.svg").read_text(encoding="utf-8")
    for text in ("Full fine-tuning", "A: 64 x 4", "B: 4 x 48", "8 blocks, 8 x 6", "no result"):
        assert text in svg
    assert (
        "drawing to scale" in read_json(folder / "figure1.provenance.json")["captions"]["figure1"]
    )
    frame = pd.read_csv(folder / "figure1.csv").set_index(["layer", "method"])["parameters"]
    assert frame["drawn", "full"] == 64 * 48
    assert frame["drawn", "lora"] == 4 * (64 + 48)
    assert frame["drawn", "diablo"] == 8 * 8 * 6
    # N = 64 of Llama-2-7B's up projection: 64 blocks of 64 x 172.
    assert frame["Llama-2-7B up_proj", "diablo"] == 64 * 64 * 172
    assert frame["Llama-2-7B up_proj", "lora"] == 32 * (4096 + 11008)


def test_nothing_reaches_over_the_edge() -> None:
    with matplotlib.style.context(STYLE):
        drawn = schematic._figure(schematic.shapes_drawn())
        FigureCanvasAgg(drawn).draw()
        box = drawn.get_tightbbox()
    width, height = drawn.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_what_is_drawn_divides() -> None:
    inputs, outputs, rank, blocks = schematic.DRAWN
    assert (inputs % blocks, outputs % blocks) == (0, 0)
    assert rank < min(inputs, outputs)
