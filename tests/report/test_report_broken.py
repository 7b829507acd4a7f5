"""Broken files: the message names the file, and no page is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_cases import BENCHMARK

from diablo.cli import main
from diablo.io import write_text
from diablo.report import render_report
from diablo.report.fragment import read_fragment

BROKEN = {
    "runs/a/adapter/provenance.json": "{",
    "runs/b/spec.json": "[]",
    "runs/c/scores/toy.json": "nonsense",
    "runs/d/serving/toy.json": "{}",
    "tables/table1.plan.json": "{",
    "tables/table2.plan.json": "[]",
    "tables/table1.provenance.json": "{",
    "tables/table2.provenance.json": "[]",
    "figures/table1.provenance.json": "{",
    "tables/table1.html": "<main><p>open</main>",
    "tables/claims.csv": "a,b\n1\n",
    "tables/audit.csv": "",
    "../benchmarks/demo/runs/a/finetune.tsv": "h:m:s\tmax_rss\n0:00:01\t2\n",
    "../benchmarks/demo/runs/b/finetune.tsv": "",
    "../benchmarks/demo/runs/c/finetune.tsv": BENCHMARK.replace("7200", "seven"),
    "../models/small/provenance.json": "{",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(name: str, tmp_path: Path, capsys) -> None:
    results, out = tmp_path / "demo", tmp_path / "index.html"
    results.mkdir()
    path = (results / name).resolve()
    write_text(path, BROKEN[name])
    assert main(["report", "--results", str(results), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert "Traceback" not in error
    assert not out.exists()


def test_checkpoints_and_half_written_files_are_not_read(tmp_path: Path) -> None:
    write_text(tmp_path / "demo" / ".work" / "run" / "provenance.json", "{")
    write_text(tmp_path / "demo" / "runs" / "a" / ".adapter.x" / "provenance.json", "{")
    render_report(tmp_path / "demo", tmp_path / "index.html")


@pytest.mark.parametrize(
    "inside",
    [
        "<script>1</script>",
        "<iframe></iframe>",
        "<link>",
        '<img src="http://host/a.png">',
        '<p onclick="x()">a</p>',
        '<p style="background: url(http://host/a)">a</p>',
        '<a href="javascript:x()">a</a>',
        "</p>",
        "<p>",
        "<b><i></b></i>",
    ],
)
def test_pages_that_fetch_run_or_are_malformed_are_refused(inside: str, tmp_path: Path) -> None:
    page = tmp_path / "table1.html"
    page.write_text(f"<main><h1>T</h1>{inside}</main>")
    with pytest.raises(ValueError, match=r"table1\.html: cannot be a part"):
        read_fragment(page, {})


def test_a_fragment_keeps_its_text_and_gets_ids_of_its_own(tmp_path: Path) -> None:
    page = tmp_path / "t.html"
    page.write_text(
        "<!doctype html><html><head><title>x</title><style>a{}</style></head><body><main>"
        '<h1>A &amp; B</h1><h2 id="a">C</h2><p title="&lt;">1 &lt; 2 &#8722;<br></p>'
        '<div aria-labelledby="a b" id="b"><a href="#a">up</a></div></main></body></html>'
    )
    fragment = read_fragment(page, {})
    assert fragment.heading == "A & B"
    assert fragment.html == (
        '<h4 id="t-a">C</h4><p title="&lt;">1 &lt; 2 &#8722;<br></p>'
        '<div aria-labelledby="t-a t-b" id="t-b"><a href="#t-a">up</a></div>'
    )


def test_a_page_without_main_is_taken_whole_and_its_table_scrolls(tmp_path: Path) -> None:
    page = tmp_path / "speed.html"
    page.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>S</title><style>a{}</style>'
        "<h1>Speed</h1><table><thead><tr><th>a</th></tr></thead></table><p>b</p></html>"
    )
    fragment = read_fragment(page, {})
    assert fragment.heading == "Speed"
    assert fragment.html == (
        '<div class="scroll" role="region" aria-label="speed" tabindex="0"><table><thead><tr>'
        '<th scope="col">a</th></tr></thead></table></div><p>b</p>'
    )
