"""The table of quantisers: what each does to a model's weights and text, before anything is trained."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from diablo.io import read_json, sha256_file, write_text
from diablo.provenance import Provenance
from diablo.tables.latex import latex_escape
from diablo.tables.render import markdown_escape, templates

#: Column of the CSV -> (head in print, decimals; None for text).
COLUMNS: dict[str, tuple[str, int | None]] = {
    "quantizer": ("Quantiser", None),
    "bits": ("Bits", 0),
    "group": ("Group", None),
    "form": ("Form", None),
    "error": ("Layer error, %", 2),
    "error_max": ("worst layer, %", 2),
    "rounding_error": ("rounding's error, %", 2),
    "layers_below_rounding": ("layers below rounding, %", 1),
    "perplexity": ("Perplexity", 2),
    "perplexity_change": ("change, %", 1),
    "minutes": ("Minutes", 1),
    "status": ("Status", None),
}
READING = (
    "Layer error is the mean over the decoder's linear layers of ||XW - XQ|| / ||XW|| (Frobenius) on the "
    "calibration inputs; rounding's error is that of round-to-nearest on the same grid, and the next column "
    "counts the layers where the quantiser's error is less. Perplexity is of the quantised base model "
    "without fine-tuning. LoftQ's numbers are of the base with the adapter that training starts from."
)


def aggregate_quantizers(plan_path: str | Path) -> pd.DataFrame:
    """Write `<tables>/<name>-quantizers.csv`, `.md`, `.html`, `.tex` and their provenance.

    Args:
        plan_path: the resolved experiment; its `quantizers` name the `quantization.json` files.

    Raises:
        ValueError: if such a file or its provenance is missing or of another setting; names the file.
    """
    provenance = Provenance("aggregate", [plan_path])
    plan = read_json(plan_path)
    entries = plan["quantizers"]
    qualities = [read_quality(entry) if entry["path"] else None for entry in entries]
    records = [record(entry, found) for entry, found in zip(entries, qualities, strict=True)]
    frame = pd.DataFrame.from_records(records)
    stem = Path(plan_path).parent / f"{plan['name']}-quantizers"
    sentences = [*texts(qualities), READING]
    for suffix, write in WRITERS.items():
        write_text(stem.with_name(stem.name + suffix), write(frame, plan, sentences))
    paths = [entry["path"] for entry in entries if entry["path"]]
    provenance.add(inputs={path: sha256_file(path) for path in paths}, stand_ins=plan["stand_ins"])
    provenance.write(stem.with_name(f"{stem.name}.provenance.json"))
    print(f"{plan['name']}: {len(paths)} of {len(entries)} quantisers have numbers; {stem}.html")
    return frame


def read_quality(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One `quantization.json`, checked against the plan's entry.

    Raises:
        ValueError: if it or its provenance is missing, or it says another setting than the plan.
    """
    path = Path(entry["path"])
    for file in (path, path.with_name("provenance.json")):
        if not file.is_file():
            raise ValueError(f"{file}: missing; run `diablo quantize` for {entry['name']}")
    found = read_json(path)
    if found["spec"]["name"] != entry["name"]:
        raise ValueError(
            f"{path}: is of {found['spec']['name']!r}, the plan says {entry['name']!r}"
        )
    if not found["layers"]:
        raise ValueError(f"{path}: has no layers; run `diablo quantize` again")
    return found


def record(entry: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """One line: the setting, and the numbers or why there are none."""
    quantize = entry["quantize"]
    line: dict[str, Any] = {
        "model": entry["title"],
        "quantizer": quantize["quantizer"].upper().replace("MAGR", "MagR + GPTQ").replace("LOFTQ", "LoftQ"),
        "bits": quantize["bits"],
        "group": str(quantize["group_size"] or "channel"),
        "form": quantize["form"],
        "setting": entry["label"],
        "name": entry["name"] or "",
        **dict.fromkeys(
            ("error", "error_max", "rounding_error", "layers_below_rounding", "perplexity",
             "perplexity_float", "perplexity_change", "minutes", "layers")
        ),
        "status": "run",
    }  # fmt: skip
    if found is None:
        return line | {"status": f"not run: {entry['reason']}"}
    layers = list(found["layers"].values())
    perplexity = found["perplexity"]
    below = [layer["error"] < layer["rtn_error"] for layer in layers]
    return line | {
        "error": 100 * statistics.fmean(layer["error"] for layer in layers),
        "error_max": 100 * max(layer["error"] for layer in layers),
        "rounding_error": 100 * statistics.fmean(layer["rtn_error"] for layer in layers),
        "layers_below_rounding": None
        if quantize["quantizer"] == "rtn"
        else 100 * statistics.fmean(below),
        "perplexity": perplexity["quantised"],
        "perplexity_float": perplexity["float"],
        "perplexity_change": 100 * (perplexity["quantised"] / perplexity["float"] - 1),
        "minutes": found["seconds"] / 60,
        "layers": len(layers),
    }


def texts(qualities: list[dict[str, Any] | None]) -> list[str]:
    """What the perplexities are of: text, tokens, and the value of the model as published."""
    found = [
        f"Perplexity on {one['perplexity']['text']} ({one['perplexity']['tokens']:,} tokens); the model "
        f"before quantisation has {one['perplexity']['float']:.2f}, to which the changes are relative."
        for one in qualities
        if one
    ]
    return list(dict.fromkeys(found))


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that people read, as text; empty where there is no number."""
    shown = {
        head: [
            str(value) if digits is None else "" if pd.isna(value) else f"{value:.{digits}f}"
            for value in frame[key]
        ]
        for key, (head, digits) in COLUMNS.items()
    }
    return pd.DataFrame(shown)


def heading(plan: Mapping[str, Any]) -> str:
    """The title of the page."""
    return f"Quantisers of {plan['name']} at scale {plan['scale']}"


def stand_ins(plan: Mapping[str, Any]) -> str:
    """What the numbers come from; empty where nothing stands in."""
    return f"Stand-ins: {'; '.join(plan['stand_ins'])}." if plan["stand_ins"] else ""


def to_csv(frame: pd.DataFrame, plan: Mapping[str, Any], sentences: list[str]) -> str:
    """All numbers of all lines; the stand-ins stand on every line."""
    return frame.assign(stand_ins="; ".join(plan["stand_ins"])).to_csv(
        index=False, lineterminator="\n"
    )


def to_markdown(frame: pd.DataFrame, plan: Mapping[str, Any], sentences: list[str]) -> str:
    table = printed(frame)
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    lines[2:] = [[markdown_escape(text) for text in line] for line in lines[2:]]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"# {heading(plan)}", stand_ins(plan), rows, *sentences]) + "\n"


def to_html(frame: pd.DataFrame, plan: Mapping[str, Any], sentences: list[str]) -> str:
    """A self-contained page: no script, no request."""
    template = templates(autoescape=True).get_template("quantizers.html.jinja")
    numeric = [digits is not None for _, digits in COLUMNS.values()]
    return template.render(
        table=printed(frame),
        numeric=numeric,
        heading=heading(plan),
        banner=stand_ins(plan),
        sentences=sentences,
    )


def to_latex(frame: pd.DataFrame, plan: Mapping[str, Any], sentences: list[str]) -> str:
    table = printed(frame).map(latex_escape)
    table.columns = pd.Index([latex_escape(head) for head in table.columns])
    caption = latex_escape(f"{heading(plan)}. {stand_ins(plan)} {' '.join(sentences)}")
    return table.to_latex(index=False, escape=False, caption=caption, position="t")


WRITERS: dict[str, Callable[[pd.DataFrame, Mapping[str, Any], list[str]], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
    ".tex": to_latex,
}
