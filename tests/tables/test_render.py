"""Every format of a table, read back."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from html_cells import Cells
from hypothesis import given
from hypothesis import strategies as st

from diablo.io import read_json
from diablo.tables import aggregate, load_table
from diablo.tables.estimates import Estimate
from diablo.tables.latex import latex_escape
from diablo.tables.render import beside, interval, number, sign, signed, spread
from diablo.tables.table import Cell

STAND_IN = "Small-1M stands in for Big0"
ODD_LABEL = "SMT_{best} 50% & <more> #1 ~^\\ $x$ a|b"


@pytest.fixture
def html(outputs: Path) -> Cells:
    parser = Cells()
    parser.feed((outputs / "tables" / "toy.html").read_text(encoding="utf-8"))
    parser.close()
    assert parser.open == []
    return parser


def test_every_format_and_provenance_are_written(outputs: Path) -> None:
    for suffix in (".csv", ".md", ".html", ".tex", ".provenance.json"):
        assert (outputs / "tables" / f"toy{suffix}").stat().st_size > 0
    provenance = read_json(outputs / "tables" / "toy.provenance.json")
    hashed = " ".join(provenance["inputs"])
    for part in ("toy.plan.json", "lora/scores/toy.json", "lora/adapter/provenance.json"):
        assert part in hashed
    assert provenance["stand_ins"] == [STAND_IN]
    assert provenance["rows"][1] == {"row": "Big0 / LoRA r=32", "status": "run", "runs": ["lora"]}


def test_nothing_is_written_when_provenance_is_missing(full_plan: Path) -> None:
    runs = full_plan.parent.parent / "runs"
    (runs / "lora" / "adapter" / "provenance.json").unlink()
    with pytest.raises(ValueError, match="have no provenance"):
        aggregate(full_plan)
    assert [path.name for path in full_plan.parent.iterdir()] == ["toy.plan.json"]


@pytest.mark.parametrize("suffix", ["csv", "md", "html", "tex"])
def test_stand_ins_are_named_before_the_first_number(outputs: Path, suffix: str) -> None:
    text = (outputs / "tables" / f"toy.{suffix}").read_text(encoding="utf-8")
    assert text.index(STAND_IN) < text.index("70.0")


@pytest.mark.parametrize("suffix", ["csv", "md", "html", "tex"])
def test_rows_say_why_they_were_not_run_or_whose_run_they_show(outputs: Path, suffix: str) -> None:
    text = (outputs / "tables" / f"toy.{suffix}").read_text(encoding="utf-8")
    assert "not run: not implemented yet" in text
    assert "same run as Big0 / LoRA r=32" in text


def test_same_input_gives_the_same_bytes(full_plan: Path) -> None:
    names = ["tables/toy.html", "tables/toy.csv", "figures/toy.svg", "figures/toy.png"]
    root = full_plan.parent.parent
    aggregate(full_plan, resamples=500)
    first = [(root / name).read_bytes() for name in names]
    aggregate(full_plan, resamples=500)
    assert [(root / name).read_bytes() for name in names] == first


def test_csv_reads_back_as_the_table(outputs: Path) -> None:
    frame = pd.read_csv(outputs / "tables" / "toy.csv", keep_default_na=False, na_values=[""])
    table = load_table(outputs / "tables" / "toy.plan.json", resamples=500)
    expected = [(g, row, key) for g, row in table.rows for key in table.columns]
    assert len(frame) == len(expected)
    for (group, row, key), line in zip(expected, frame.to_dict("records"), strict=True):
        cell = row.cells[key]
        assert (line["group"], line["row"], line["column"]) == (group.label, row.number, key)
        assert line["label"] == row.plan["label"]
        assert line["status"] == row.status
        assert line["stand_ins"] == STAND_IN
        assert line["used_model"] == "small"
        assert line["unit"] == ("nats per token" if key == "loss" else "%")
        if key == "loss":
            assert pd.isna(line["reported"])
        else:
            assert line["reported"] == cell.reported
        if cell.estimate is None:
            assert pd.isna(line["reproduced"])
            assert pd.isna(line["n"])
        else:
            assert line["reproduced"] == pytest.approx(cell.estimate.value, abs=1e-6)
            assert line["low"] == pytest.approx(cell.estimate.low, abs=1e-6)
            assert pd.isna(line["difference"]) == (cell.difference is None)
            assert cell.difference is None or line["difference"] == pytest.approx(
                cell.difference, abs=1e-6
            )
            assert (line["n"], line["available"]) == (cell.estimate.n, table.test_sizes[key])
            assert pd.isna(line["seed_sd"]) == (cell.estimate.seeds == 1)


def test_html_has_every_number(html: Cells, outputs: Path) -> None:
    table = load_table(outputs / "tables" / "toy.plan.json", resamples=500)
    texts = [[" ".join(cell.split()) for cell in row] for row in html.rows]
    for _, row in table.rows:
        if row.runs:
            shown = [
                f"{number(c.estimate.value, c.digits)}{spread(c)} {sign(c)}".strip() + interval(c)
                for c in row.cells.values()
            ]
            assert any(line[-4:] == shown for line in texts)
            assert any(
                line[-4:] == [signed(c.difference) + beside(c) for c in row.cells.values()]
                for line in texts
            )
    assert any(ODD_LABEL in line[0] for line in texts if line)


def test_html_makes_no_request_and_runs_no_script(html: Cells, outputs: Path) -> None:
    assert not {tag for tag, _ in html.tags} & {"script", "link", "img", "iframe", "object"}
    assert not [a for _, a in html.tags if {"src", "href", "srcset"} & set(a)]
    text = (outputs / "tables" / "toy.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_html_is_accessible(html: Cells) -> None:
    tags = dict(html.tags)
    assert tags["html"]["lang"] == "en"
    assert "caption" in tags
    assert all("scope" in attributes for tag, attributes in html.tags if tag == "th")
    regions = [a for _, a in html.tags if a.get("role") == "region"]
    assert regions
    assert all(a["tabindex"] == "0" for a in regions)
    viewport = [a for tag, a in html.tags if tag == "meta" and a.get("name") == "viewport"]
    assert viewport


def test_best_is_bold_and_second_underlined(outputs: Path) -> None:
    table = load_table(outputs / "tables" / "toy.plan.json", resamples=500)
    lora, diablo = table.groups[0].rows[1], table.groups[0].rows[3]
    cells = [lora.cells["avg"], diablo.cells["avg"]]
    best, second = sorted(cells, key=lambda cell: -cell.estimate.value)
    b, s = number(best.estimate.value), number(second.estimate.value)
    read = {
        x: (outputs / "tables" / f"toy.{x}").read_text(encoding="utf-8")
        for x in ("md", "html", "tex")
    }
    assert f"**{b}**" in read["md"]
    assert f"<u>{s}</u>" in read["md"]
    assert f"<strong>{b}</strong>" in read["html"]
    assert f"<u>{s}</u>" in read["html"]
    assert rf"\textbf{{{b}}}" in read["tex"]
    assert rf"\underline{{{s}}}" in read["tex"]


def test_markdown_tables_are_rectangular(outputs: Path) -> None:
    text = (outputs / "tables" / "toy.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    widths = [
        {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()} for block in blocks
    ]
    # Two groups, and the first one's comparisons; the second has nothing to compare with.
    assert widths == [{8}, {8}, {6}]


def test_seeds_are_printed(outputs: Path) -> None:
    table = load_table(outputs / "tables" / "toy.plan.json", resamples=500)
    estimate = table.groups[0].rows[3].cells["avg"].estimate
    shown = f"{number(estimate.value)}@ ± {number(estimate.seed_sd)}"
    for suffix, end in {"md": "**", "html": "</strong>", "tex": "}"}.items():
        text = (outputs / "tables" / f"toy.{suffix}").read_text(encoding="utf-8")
        text = text.replace("$\\pm$", "±")
        assert shown.replace("@", end) in text or shown.replace("@", "</u>") in text
        assert "3 seeds" in text
        assert "mean ± sample standard deviation" in text


def test_latex_braces_are_balanced(outputs: Path) -> None:
    text = (outputs / "tables" / "toy.tex").read_text(encoding="utf-8")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for line in text.splitlines():
        if " & " in line and not line.startswith("%"):
            assert line.rstrip().endswith(r"\\")


def test_latex_compiles(outputs: Path, tmp_path: Path) -> None:
    """Needs pdflatex with booktabs and graphicx; skipped by name without them."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    shutil.copy(outputs / "tables" / "toy.tex", tmp_path)
    document = tmp_path / "document.tex"
    document.write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}"
        "\\begin{document}\\input{toy}\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("the LaTeX package booktabs is not installed")
    assert done.returncode == 0, done.stdout[-2000:]


def test_table_of_one_row(build) -> None:
    plan = build.plan([build.row("DiaBlo", "diablo", runs=[build.run("one", "diablo")])])
    aggregate(plan, resamples=200)
    text = (plan.parent / "toy.md").read_text(encoding="utf-8")
    assert "**" not in text.replace("> **", "").replace(".**", "")
    assert "<u>" not in text


def test_table_where_nothing_was_run(build) -> None:
    plan = build.plan([build.row("DiaBlo", "diablo")], average=None, stand_ins=[])
    aggregate(plan, resamples=200)
    text = (plan.parent / "toy.html").read_text(encoding="utf-8")
    assert "not run: filtered" in text
    assert "Runs behind" not in text
    assert "Stand-ins" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.04, "0.0"), (-0.04, "0.0"), (-1.26, "−1.3"), (83.45, "83.5"), (2.0, "2.0")],
)
def test_numbers_as_printed(value: float | None, text: str) -> None:
    assert number(value) == text.replace("83.5", f"{83.45:.1f}")


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (1.25, "+1.2"), (0.04, "0.0"), (-0.04, "0.0"), (-3.0, "−3.0")]
)
def test_differences_as_printed(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("reported", "word"),
    [(40.0, "inside"), (60.0, "inside"), (60.1, "below"), (39.9, "above"), (None, "")],
)
def test_which_side_of_the_papers_number(reported: float | None, word: str) -> None:
    estimate = Estimate(50.0, 40.0, 60.0, stderr=None, seed_sd=None, seeds=1, n=10)
    assert beside(Cell(reported, estimate)) == word
    assert beside(Cell(reported, None)) == ""


def test_latex_special_characters() -> None:
    assert latex_escape("50% & #1_{a} ~^\\ $x$") == (
        r"50\% \& \#1\_\{a\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$x\$"
    )
    assert latex_escape("−3 → “é” ő 中") == "$-$3 $\\rightarrow$ ``é'' o ?"


@given(st.text())
def test_latex_never_lets_a_special_character_through(text: str) -> None:
    escaped = latex_escape(text)
    bare = re.sub(
        r"\\text[a-z]+\{\}|\\ldots\{\}|\$\\?[a-z-]+\$|\\[{}$&#%_]|\{[\[\]]\}", "", escaped
    )
    assert not set(bare) & set("\\{}$&#%_^")
