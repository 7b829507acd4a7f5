"""The report of full, partial and missing results: what it shows, and that nothing is fetched."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from page_checks import check
from report_cases import FACTS, SHA

from diablo.cli import main
from diablo.io import write_json, write_text
from diablo.report import render_report


@pytest.fixture(scope="module")
def html(full: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "index.html"
    assert render_report(full, out) == out
    return out.read_text(encoding="utf-8")


def test_a_full_page_is_whole_and_fetches_nothing(html: str) -> None:
    page = check(html)
    assert len(page.every("img")) == 2
    assert len(html) < 2_000_000


def test_it_has_what_a_reader_looks_for(html: str) -> None:
    page = check(html)
    for text in ("LoRA <1 & 2>", "not run: not implemented yet", "Small-1M stands in for Big0"):
        assert text in page.text
    for text in (
        "It is <good>",
        "holds",
        "ffffffffffff with changes",
        SHA,
        "1.00 h",
        "1.50 h",
        "2.00 h",
    ):
        assert text in page.text
    names = {one["id"] for tag, one in page.tags if tag == "section"}
    assert {
        "summary",
        "toy",
        "claims",
        "audit",
        "serving",
        "theorems",
        "speed",
        "cost",
        "runs",
    } <= names


def test_what_was_not_made_says_how_to_make_it(html: str) -> None:
    page = check(html)
    assert "snakemake --cores 2 table1" in page.text
    assert "snakemake --cores 2 speed" in page.text


def test_numbers_lead_to_the_provenance_of_their_runs(html: str) -> None:
    page = check(html)
    links = [one["href"] for one in page.every("a") if "title" in one]
    # LoRA's run, and DiaBlo's two.
    assert len(links) == 3
    runs = {one["id"] for one in page.every("details") if one.get("class") == "run"}
    assert {link[1:] for link in links} < runs
    assert "run-one.paper.s7" in runs


def test_differences_have_a_word_beside_their_colour(html: str) -> None:
    words = [one["class"] for one in check(html).every("td") if "number" in one.get("class", "")]
    found = {word.split()[-1] for word in words}
    assert found & {"above", "below", "inside"}
    for word in found & {"above", "below", "inside"}:
        assert f"<small>{word}</small>" in html


def test_checks_of_what_is_served_are_listed(html: str) -> None:
    assert "largest share of differing answers" in html
    assert "snakemake --cores 2 audit" in html  # the paper's audit, which was not made here


def test_without_results_all_is_not_run(tmp_path: Path) -> None:
    page = check(render_report(tmp_path / "demo", tmp_path / "a" / "index.html").read_text())
    assert "Nothing was run" in page.text
    assert "not run" in page.text
    assert "stand-ins" not in page.text
    assert not page.every("img")


def test_commands_name_another_scale(tmp_path: Path) -> None:
    html = render_report(tmp_path / "mini", tmp_path / "index.html").read_text()
    assert "snakemake --cores 2 table1 --config scale=mini" in html


def test_a_copied_folder_has_its_plans_scale(tmp_path: Path) -> None:
    results = tmp_path / "copied"
    write_json(results / "tables" / "table1.plan.json", {"name": "table1", "scale": "mini"})
    page = check(render_report(results, tmp_path / "index.html").read_text())
    assert "DiaBlo, rebuilt at scale mini" in page.text


def test_a_table_whose_runs_are_gone(full: Path, tmp_path: Path) -> None:
    for path in (full / "tables").iterdir():
        write_text(tmp_path / "demo" / "tables" / path.name, path.read_text())
    page = check(render_report(tmp_path / "demo", tmp_path / "index.html").read_text())
    assert "its folder is not here" in page.text
    assert SHA not in page.text


def test_a_part_of_an_experiment_does_not_count_as_the_whole(full: Path, tmp_path: Path) -> None:
    text = (full / "tables" / "toy.html").read_text()
    write_text(tmp_path / "demo" / "tables" / "table4-quantizers.html", text)
    page = check(render_report(tmp_path / "demo", tmp_path / "index.html").read_text())
    assert "made in part: table4-quantizers" in page.text
    assert "snakemake --cores 2 table4" in page.text


def test_a_figure_alone_names_its_stand_ins(full: Path, tmp_path: Path) -> None:
    results = tmp_path / "demo"
    write_text(results / "figures" / "table8.svg", (full / "figures" / "toy.svg").read_text())
    facts = {**FACTS, "stand_ins": ["A stands in for B"], "captions": {"table8": "Bars. And more."}}
    write_json(results / "figures" / "table8.provenance.json", facts)
    write_json(results / "tables" / "table8.provenance.json", facts)
    page = check(render_report(results, tmp_path / "index.html").read_text())
    assert page.every("img")[0]["alt"] == "Chart. Bars."
    assert page.text.count("A stands in for B") >= 2


def test_the_archive_has_the_files_that_the_page_names(full: Path, tmp_path: Path) -> None:
    out = render_report(full, tmp_path / "index.html", as_zip=True)
    assert out.name == "index.zip"
    with zipfile.ZipFile(out) as archive:
        names = set(archive.namelist())
        page = check(archive.read("report/index.html").decode(), files=True)
    for image in page.every("img"):
        assert f"report/{image['src']}" in names
    for link in page.every("a"):
        assert link["href"].startswith("#") or f"report/{link['href']}" in names
    assert {"report/tables/toy.csv", "report/tables/claims.csv", "report/figures/toy.csv"} <= names
    assert "report/runs/one.paper.s7/adapter/provenance.json" in names
    assert "report/runs/one.paper.s7/spec.json" in names


def test_the_command_line(full: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "index.html"
    assert main(["report", "--results", str(full), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    config = tmp_path / "config.yaml"
    write_text(config, f"scale: demo\nresults: {full.parent}\n")
    assert main(["report", "--config", str(config), "--out", str(tmp_path / "b.html")]) == 0
    assert "Small-1M stands in for Big0" in (tmp_path / "b.html").read_text()
