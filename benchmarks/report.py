"""Section 4.5 of the paper as a table: what a step costs, as measured here and as recorded.

    python -m benchmarks.report --measured results/demo/speed --out results/demo/tables/speed

Every number names the device it was measured on. The paper's own numbers (minutes of an epoch on an
A100) stand in a table of their own: neither model nor rank nor N of that comparison is stated.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diablo.io import read_json, write_text
from diablo.provenance import SUFFIX, Provenance

from .timing import RESULTS

#: Section 4.5: minutes of an epoch of Commonsense-170k, batch 8 and 4 accumulation steps, one A100.
REPORTED = {"LoRA": 170, "DiaBlo": 170, "DoRA": 480}
NOTE = (
    "Reported (section 4.5, A100 80GB, 170k commonsense examples, model, N and r not stated): "
    + ", ".join(f"{name} {minutes} minutes an epoch" for name, minutes in REPORTED.items())
    + ". Measured: random weights in the named model's shape, one optimiser step, all tokens labelled unless "
    "the setting says how many of a row are; "
    "`x frozen` is relative to forward and input-gradient backward pass of the frozen model in the same "
    "run; GiB is the form's peak memory."
)
COLUMNS = {
    "device": "device",
    "setting": "setting",
    "form": "form",
    "median_ms": "ms",
    "min_ms": "min",
    "max_ms": "max",
    "x_frozen": "x frozen",
    "peak_gib": "GiB",
    "of_matrix_rate": "of matrix rate",
}
#: Decimals as printed; the CSV has all of them.
DIGITS = {"ms": 1, "min": 1, "max": 1, "x frozen": 3, "GiB": 2, "of matrix rate": 3}


def main(arguments: Sequence[str] | None = None) -> None:
    """Gather the recorded and the measured results; write csv, md, html, tex and provenance."""
    parser = argparse.ArgumentParser(prog="benchmarks.report", description=__doc__)
    parser.add_argument("--measured", type=Path, required=True, help="folder of this rebuild")
    parser.add_argument("--recorded", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    options = parser.parse_args(arguments)
    measured, recorded = (
        sorted(folder.glob("*.json")) for folder in (options.measured, options.recorded)
    )
    if not measured:
        raise SystemExit(f"{options.measured}: no measurements; run benchmarks.train_step first")
    # What was measured just now comes first, and in place of what was recorded for the device.
    names = {path.name for path in measured}
    files = measured + [path for path in recorded if path.name not in names]
    provenance = Provenance("speed", files)
    table = rows(read_json(path) for path in files)
    shown = table.rename(columns=COLUMNS)[list(COLUMNS.values())]
    shown["ms"] = shown["ms"].astype(object).fillna(table["failed"])
    text = shown.astype(object).where(shown.notna(), "")
    for name, digits in DIGITS.items():
        text[name] = [v if isinstance(v, str) else f"{v:.{digits}f}" for v in text[name]]
    write_text(options.out.with_suffix(".csv"), table.to_csv(index=False))
    write_text(options.out.with_suffix(".md"), f"# Speed\n\n{_markdown(text)}\n\n{NOTE}\n")
    write_text(options.out.with_suffix(".html"), _page(text))
    write_text(options.out.with_suffix(".tex"), text.to_latex(index=False, escape=True))
    provenance.write(options.out.with_suffix(SUFFIX))
    print(f"{len(table)} rows in {options.out}.csv")


def rows(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row for each form of each setting of each device."""
    found = []
    for record in records:
        for setting, result in record.get("train_step", {}).items():
            device = result["measured_with"]["device"]
            for form, row in result["forms"].items():
                found.append({"device": device, "setting": setting, "form": form, **row})
    return pd.DataFrame(found).reindex(columns=[*COLUMNS, "trainable", "n", "failed"])


def _markdown(table: pd.DataFrame) -> str:
    lines = [
        list(table.columns),
        ["---"] * len(table.columns),
        *table.astype(str).to_numpy().tolist(),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _page(table: pd.DataFrame) -> str:
    body = table.to_html(index=False, border=0, classes="speed")
    style = (
        ":root{color-scheme:light dark}body{font:14px system-ui;margin:1.5rem}table{border-collapse:"
        "collapse}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #8886}"
        "td{white-space:nowrap}"
        "td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Speed</title>'
        f"<style>{style}</style><h1>Speed of one training step</h1>{body}"
        f"<p>{html.escape(NOTE)}</p></html>\n"
    )


if __name__ == "__main__":
    main()
