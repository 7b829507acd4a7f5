"""Tables of experiments with parts in every format."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import table_parts as parts
from html_cells import Cells

from diablo.io import read_json
from diablo.tables import evidence, legend, load_table, words
from diablo.tables.latex import latex_escape
from diablo.tables.render import number

FORMATS = ("md", "html", "tex")
NAMES = ("table3", "table7", "without", "table8")


@pytest.fixture(scope="module")
def pages(made: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Every format's text by table, HTML and LaTeX as a reader sees them."""
    found = {}
    for name, folder in made.items():
        text = {x: (folder / "tables" / f"toy.{x}").read_text(encoding="utf-8") for x in FORMATS}
        text["html"] = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text["html"])).split())
        text["md"] = text["md"].replace("\\", "")
        found[name] = text
    return found


def expect(page: dict[str, str], *texts: str) -> None:
    for suffix, content in page.items():
        for text in texts:
            shown = latex_escape(text) if suffix == "tex" else text
            assert shown in content, (suffix, text)


def frame(made: dict[str, Path], name: str) -> pd.DataFrame:
    path = made[name] / "tables" / "toy.csv"
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def test_what_differs_between_parts_is_said_of_each(pages) -> None:
    expect(
        pages["table3"],
        "Decoding (code)",
        "temperature 0.2, top-p 0.95, 10 samples a prompt, at most 32 new tokens",
        "Decoding (safety)",
        "Protocol (safety)",
        "hexphi's protocol",
        "Notes (code)",
    )
    for text in pages["table3"].values():
        assert "Limits (" not in text
        assert text.count("512 training examples in total") == 1


def test_the_row_says_how_its_samples_were_drawn(pages) -> None:
    expect(pages["table3"], "code: temperature 0.2, 10 samples a prompt")
    expect(
        pages["table7"], "temperature 0 to 0.7", "temperature 0 (writing 0.7), top-p 1, 1 sample a"
    )
    for text in pages["table8"].values():
        assert "temperature" not in text


def test_sandbox_judge_and_agreement_are_named(pages) -> None:
    expect(
        pages["table3"],
        "bubblewrap; each program had 3 s of processor time and 512 MiB",
        "judge-1 at judge.example:8000, prompts abcdef012345; 240 calls and 12 kept replies",
        "6 verdicts that could not be read; 72,000 tokens of prompts and 4,800 of replies, cost 1.5",
        "keywords and llm",
        "[0.60, 1.00]",
    )
    for name in ("without", "table8"):
        for text in pages[name].values():
            assert "Sandbox" not in text
            assert "Judge" not in text
            assert "kappa" not in text


def test_outcomes_of_programs_are_summed_over_problems_and_seeds(made) -> None:
    table = load_table(made["table3"] / "tables" / "toy.plan.json", resamples=50)
    (programs, agreement) = evidence.details(table)
    assert programs.heads == (
        "Method",
        "Task",
        "Problems",
        "Samples",
        "passed",
        "failed",
        "timeout",
    )
    assert len(programs.rows) == 3
    for line, (_, row) in zip(programs.rows, table.rows, strict=False):
        counts = [int(text) for text in line[4:]]
        assert sum(counts) == 2 * 20 * 10
        files = [read_json(run.scores) for run in row.of_part("code")]
        problems = [one for file in files for one in file["tasks"]["humaneval_pass1"]["outcomes"]]
        assert counts[0] == sum(one["passed"] for one in problems)
    assert [line[0] for line in agreement.rows][:2] == ["LoRA r=32, seed 0", "LoRA r=32, seed 1"]


def test_cost_is_not_made_up(build) -> None:
    path = parts.table7(build, judge=True)
    plan = read_json(path)
    run = plan["groups"][0]["rows"][0]["runs"][0]
    scores = Path(run["scores"])
    scores.write_text(scores.read_text().replace('"cost": 0.25', '"cost": null'))
    assert (
        "cost not known (no prices given)" in words.facts(load_table(path, resamples=50))["Judge"]
    )


def test_heads_say_part_unit_direction_and_examples(pages) -> None:
    expect(pages["table3"], "lower is better", "20 of 20", "29 of 30")
    expect(pages["table7"], "points of 1 to 10", "15 to 16 of 16", "10 of 16")
    assert "Pass@1 (code; n = 20 of 20)" in pages["table3"]["md"]
    assert "over-refusal (safety; lower is better; n = 12 of 12)" in pages["table3"]["md"]
    assert "MRPC (n = 60 of 60)" in pages["table8"]["md"]
    assert "MRPC F1 (mrpc; n = 60 of 60)" in pages["table8"]["md"]


def test_the_legend_explains_what_is_shown_and_nothing_else(pages) -> None:
    expect(
        pages["table3"],
        "Chen et al. (2021)",
        "mean of the parts, each the mean of its columns",
        "tasks humaneval, hexphi, harmless, lower is better",
    )
    expect(
        pages["table8"],
        "the average is the unweighted mean",
        "highest average here",
        "F1 and Matthews",
    )
    expect(pages["without"], "lowest answer loss here", "1 comparison in each column with numbers")
    for name in ("table3", "table7", "without"):
        for text in pages[name].values():
            assert "average is" not in text
            assert "accuracy" not in text
    for text in pages["without"].values():
        assert "Ratings are" not in text
        assert "McNemar" not in text


def test_every_test_is_named_with_its_columns(pages) -> None:
    found = pages["table3"]["md"]
    assert "HEx-PHI, with the prompt, by the judge, over-refusal: exact McNemar test" in found
    assert "Pass@1, Pass@5, Pass@10, answer loss: paired bootstrap" in found
    assert (
        "MRPC F1, CoLA Matthews, average and answer loss: paired bootstrap" in pages["table8"]["md"]
    )


def test_ratings_have_two_decimals_and_shares_one(made, pages) -> None:
    table = load_table(made["table7"] / "tables" / "toy.plan.json", resamples=200)
    for _, row in table.rows:
        cell = row.cells["mtbench"]
        expect(pages["table7"], number(cell.estimate.value, 2), number(cell.difference, 2))
    expect(pages["table7"], "5.61", "6.26")
    assert re.search(r"\*\*\d+\.\d\*\* ± \d+\.\d \[", pages["table3"]["md"])


def test_standard_errors_stand_beside_the_intervals(pages) -> None:
    assert re.search(r"\[\d+\.\d, \d+\.\d\], s\.e\. \d+\.\d", pages["table3"]["md"])
    assert re.search(r"\[\d+\.\d, \d+\.\d\], s\.e\. \d+\.\d", pages["table3"]["html"])
    assert "& standard error &" in pages["table3"]["tex"]
    assert "s.e." not in pages["table8"]["md"]


def test_cells_without_a_judge_say_so_beside_the_loss(made, pages) -> None:
    expect(pages["without"], "not run: no judge", "answer loss")
    lines = frame(made, "without").set_index("column")
    assert set(lines.loc["mtbench", "status"]) == {"not run: no judge"}
    assert lines.loc["mtbench", "reproduced"].isna().all()
    assert set(lines.loc["loss", "status"]) == {"run"}
    assert lines.loc["loss", "reproduced"].notna().all()
    assert lines.loc["loss", "available"].isna().all()


def test_unread_verdicts_are_listed(pages) -> None:
    expect(pages["table7"], "MT-Bench: verdicts that could not be read are left out (LoRA r=8: q5)")
    expect(pages["table3"], "LoRA r=32: h3 of seed 0, h3 of seed 1")


def test_sizes_other_than_the_papers_are_said_of_the_parts_task(pages) -> None:
    expect(pages["table3"], "HEx-PHI: n = 30, the paper's test set has 330")


def test_csv_has_a_line_for_every_cell_with_its_part_and_unit(made) -> None:
    lines = frame(made, "table3")
    run = lines[lines["label"] == "LoRA"].set_index("column")
    assert run["part"].fillna("").to_dict() == {
        **dict.fromkeys(parts.CODE, "code"), **dict.fromkeys(parts.SAFETY, "safety"), "loss": "",
    }  # fmt: skip
    assert list(run.loc[list(parts.CODE), "metric"]) == ["pass@1", "pass@5", "pass@10"]
    assert run.loc["humaneval_pass1", "temperature"] == 0.2
    assert run.loc["humaneval_pass1", "samples"] == 10
    assert re.fullmatch(
        r"\d+ passed, \d+ failed, \d+ timeout", run.loc["humaneval_pass1", "outcomes"]
    )
    assert pd.isna(run.loc["hexphi", "temperature"])
    assert run.loc["hexphi_llm", "malformed"] == 2
    assert run["lower_is_better"].to_dict() == {
        key: key in ("harmless", "loss") for key in run.index
    }
    assert run.loc["humaneval_pass1", "runs"] == "lora-code-s0 lora-code-s1"
    assert run.loc["loss", "decoding"].startswith("code: temperature 0.2")
    assert run.loc["hexphi", "decoding"].startswith("greedy")
    assert set(frame(made, "table7")["unit"]) == {"points", "nats per token"}


def test_pages_are_well_formed(made) -> None:
    for folder in made.values():
        parser = Cells()
        parser.feed((folder / "tables" / "toy.html").read_text(encoding="utf-8"))
        parser.close()
        assert parser.open == []
        assert all("scope" in attributes for tag, attributes in parser.tags if tag == "th")
        text = (folder / "tables" / "toy.md").read_text(encoding="utf-8")
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_latex_compiles(made, name: str, tmp_path: Path) -> None:
    """Needs pdflatex with booktabs and graphicx; skipped by name without them."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    shutil.copy(made[name] / "tables" / "toy.tex", tmp_path)
    (tmp_path / "document.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}"
        "\\begin{document}\\input{toy}\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("the LaTeX package booktabs is not installed")
    assert done.returncode == 0, done.stdout[-2000:]


def test_accuracies_of_one_part_need_no_further_words(build) -> None:
    table = load_table(build.plan([build.row(runs=[build.run("lora")])]), resamples=50)
    assert legend.plain(table)
    assert legend.head(table, "boolq") == ["n = 40 of 100"]
    assert legend.head(table, "loss") == ["nats per token"]
    assert legend.units(table) == "in percent"
