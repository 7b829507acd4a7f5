"""WikiText's lines become articles."""

from __future__ import annotations

import pandas as pd

from diablo.data.text import as_records, read_wikitext


def test_articles_keep_every_line_and_start_at_their_headings(tmp_path) -> None:
    lines = ["", " = One = \n", "", " First text . \n", " = = Part = = \n", " More . \n", "", " = Two words = \n", " Second . \n"]  # fmt: skip
    pd.DataFrame({"text": lines}).to_parquet(tmp_path / "lines.parquet")
    rows = read_wikitext(tmp_path / "lines.parquet", "train")
    assert [row["text"].splitlines()[0].strip() for row in rows] == ["= One =", "= Two words ="]
    kept = [line.strip() for row in rows for line in row["text"].splitlines() if line.strip()]
    assert kept == [line.strip() for line in lines if line.strip()]
    records = as_records("wikitext2", rows)
    assert [record["id"] for record in records] == ["wikitext2/0", "wikitext2/1"]
    assert {record["output"] for record in records} == {""}
