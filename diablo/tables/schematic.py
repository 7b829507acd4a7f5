"""Figure 1: what full fine-tuning, LoRA and DiaBlo train of one weight, drawn to scale. No data, no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from diablo.data.catalog import load_catalog
from diablo.figures import SCHEMATIC
from diablo.provenance import Provenance
from diablo.settings import MODULES
from diablo.shapes import Shapes, diablo_parameters, lora_parameters
from diablo.tables.frame import BASELINE, EDGE, SOFT, STYLE, WIDTH, Frame, write_figure

HEADING = f"Figure 1: {SCHEMATIC['title']}"
#: The weight that is drawn: m1 inputs, m2 outputs, LoRA's rank and DiaBlo's number of blocks.
DRAWN = (64, 48, 4, 8)
#: The paper's usual settings for the layers beside it, of this model.
MODEL, RANK, BLOCKS = "llama2-7b", 32, 64
CAPTION = (
    "What is trained (hatched) of Y = X W by full fine-tuning, LoRA and DiaBlo. A drawing to scale, not a result: a weight "
    "of {m1} inputs and {m2} outputs, LoRA with r = {rank}, DiaBlo with N = {blocks} diagonal blocks."
)
FROZEN = "#eceff2"
TRAINED: dict[str, Any] = {"facecolor": BASELINE, "hatch": "////"}
MARGIN = 0.35  # inches
#: In units of one input or output: between methods, between a method's tensors, over and under them.
BETWEEN, APART, ABOVE, BELOW = 30, 10, 16, 16


def schematic(out: str | Path) -> pd.DataFrame:
    """Draw the figure; return the shapes and parameter counts that stand beside it.

    Args:
        out: folder that gets `figures/figure1.png`, `.svg`, `.csv` and `.provenance.json`.
    """
    stem = Path(out) / "figures" / "figure1"
    provenance = Provenance("schematic")
    m1, m2, rank, blocks = DRAWN
    frame = shapes_drawn()
    caption = CAPTION.format(m1=m1, m2=m2, rank=rank, blocks=blocks)
    with matplotlib.style.context(STYLE):
        write_figure(_figure(frame), frame, stem, HEADING, caption)
    provenance.add(captions={stem.name: caption})
    provenance.write(stem.with_name(f"{stem.name}.provenance.json"))
    print(f"{HEADING}: {stem}.png")
    return frame


def shapes_drawn() -> pd.DataFrame:
    """A line for each method's tensors of the weight that is drawn, and of real layers.

    Columns: layer, inputs, outputs, method, setting, tensors (their shapes), parameters, percent (of the weight's).
    """
    shapes = load_catalog().models[MODEL].shapes.model_dump(exclude={"heads", "vocab"})
    one = Shapes(**{**shapes, "layers": 1})
    m1, m2, rank, blocks = DRAWN
    records = _records("drawn", m1, m2, rank, blocks)
    title = load_catalog().models[MODEL].title
    for module in MODULES.values():
        ((inputs, outputs),) = one.widths([module])
        records += _records(f"{title} {module}", inputs, outputs, RANK, BLOCKS)
    return pd.DataFrame.from_records(records)


def _records(layer: str, m1: int, m2: int, rank: int, blocks: int) -> list[dict[str, Any]]:
    width = [(m1, m2)]
    d1, d2 = -(-m1 // blocks), -(-m2 // blocks)
    methods = {
        "full": ("", f"{m1} x {m2}", m1 * m2),
        "lora": (f"r={rank}", f"{m1} x {rank}, {rank} x {m2}", lora_parameters(width, rank)),
        "diablo": (f"N={blocks}", f"{blocks} x {d1} x {d2}", diablo_parameters(width, blocks)),
    }
    return [
        {
            "layer": layer,
            "inputs": m1,
            "outputs": m2,
            "method": method,
            "setting": setting,
            "tensors": tensors,
            "parameters": count,
            "percent": round(100 * count / (m1 * m2), 3),
        }
        for method, (setting, tensors, count) in methods.items()
    ]


def _figure(frame: pd.DataFrame) -> Figure:
    """Three drawings of one scale in one plane; inputs run down, outputs to the right."""
    m1, m2, rank, blocks = DRAWN
    whole = Frame(HEADING, [_foot(frame)], ticks=0.05)
    starts = (0, m2 + BETWEEN, 3 * m2 + rank + 2 * APART + 2 * BETWEEN)
    inches = (WIDTH - 2 * MARGIN) / (starts[2] + m2)
    figure = whole.canvas(inches * (m1 + ABOVE + BELOW))
    ax = figure.subplots()
    ax.set_xlim(-0.5, starts[2] + m2 + 0.5)
    ax.set_ylim(m1 + BELOW, -ABOVE)
    ax.set_axis_off()
    drawn = frame[frame["layer"] == "drawn"].set_index("method")
    titles = {
        "full": ("Full fine-tuning", "Y = X (W + ΔW)"),
        "lora": (f"LoRA, r = {rank}", "Y = X W + (α / r) X A B"),
        "diablo": (f"DiaBlo, N = {blocks}", "Y = X W + X D"),
    }
    for x, (method, (title, formula)) in zip(starts, titles.items(), strict=True):
        line = drawn.loc[method]
        counted = f"{line['parameters']:,} trained, {line['percent']:.3g} % of W"
        ax.text(x, -10, title, fontsize=10, fontweight="bold")
        ax.text(x, -4, formula)
        ax.text(x, m1 + BELOW - 1, counted, color=EDGE)
    full, lora, diablo = starts
    _box(ax, full, 0, m2, m1, **TRAINED)
    _say(ax, full + m2 / 2, m1, f"W + ΔW: {m1} x {m2}")
    _box(ax, lora, 0, m2, m1, facecolor=FROZEN)
    _say(ax, lora + m2 / 2, m1, f"W: {m1} x {m2}")
    factors = lora + m2 + APART
    ax.text(factors - APART / 2, m1 / 2, "+", ha="center", va="center", fontsize=14)
    _box(ax, factors, 0, rank, m1, **TRAINED)
    _say(ax, factors + rank / 2, m1, f"A: {m1} x {rank}")
    _box(ax, factors + rank + APART, 0, m2, rank, **TRAINED)
    _say(ax, factors + rank + APART + m2 / 2, rank, f"B: {rank} x {m2}")
    _box(ax, diablo, 0, m2, m1, facecolor=FROZEN)
    d1, d2 = m1 // blocks, m2 // blocks
    for block in range(blocks):
        _box(ax, diablo + block * d2, block * d1, d2, d1, **TRAINED)
    _say(ax, diablo + m2 / 2, m1, f"W: {m1} x {m2};  D: {blocks} blocks, {d1} x {d2}")
    entries = [
        Patch(label="trained", edgecolor=SOFT, **TRAINED),
        Patch(label="frozen", facecolor=FROZEN, edgecolor=SOFT),
    ]
    whole.finish(figure, entries, left=MARGIN, right=MARGIN)
    return figure


def _foot(frame: pd.DataFrame) -> str:
    """The same of a real layer."""
    layer = frame["layer"][frame["layer"] != "drawn"].iloc[0]
    real = frame[frame["layer"] == layer].set_index("method")
    counts = [
        f"{name} {real.loc[key, 'setting']} {real.loc[key, 'parameters']:,} ({real.loc[key, 'percent']:g} %)"
        for key, name in (("lora", "LoRA"), ("diablo", "DiaBlo"))
    ]
    m1, m2 = real["inputs"].iloc[0], real["outputs"].iloc[0]
    return (
        f"Drawn to scale: inputs run down, outputs to the right; no result. Trained parameters of {layer} "
        f"({m1} x {m2}): {', '.join(counts)}. All its layers are in the CSV file."
    )


def _box(ax: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    ax.add_patch(Rectangle((x, y), width, height, edgecolor=SOFT, linewidth=0.8, **look))


def _say(ax: Axes, x: float, y: float, text: str) -> None:
    """A tensor's name and shape under its lower edge."""
    place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
    ax.annotate(text, (x, y), (0, -4), fontsize=8.5, **place)
