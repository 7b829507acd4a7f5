"""The comparisons as every format shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from html_cells import Cells

from diablo.tables import aggregate
from diablo.tables.latex import latex_escape


@pytest.fixture
def compared(build) -> Path:
    """Folder of a table with a row that is better, one that is worse and one that is neither."""
    outcomes = {"full": 38, "zero": 1, "lora": 21, "best": 22}
    rows = []
    for name, hits in outcomes.items():
        method = {"full": "full", "zero": "zero-shot", "lora": "lora", "best": "diablo"}[name]
        correct = [1] * hits + [0] * (40 - hits)
        nll = [4.0 + i / 40 for i in range(40)]
        run = build.run(
            name,
            method,
            outcomes={"boolq": correct, "piqa": correct},
            nll={"boolq": nll, "piqa": nll},
        )
        num_blocks = 64 if name == "best" else None
        rows.append(build.row(name, method, runs=[run], num_blocks=num_blocks))
    aggregate(build.plan(rows), resamples=500)
    return build.folder / "tables"


def test_signs_stand_beside_the_numbers(compared: Path) -> None:
    read = {x: (compared / f"toy.{x}").read_text(encoding="utf-8") for x in ("md", "html", "tex")}
    for number_here, sign_here in (("95.0", "▲"), ("2.5", "▼"), ("52.5", "≈")):
        assert re.search(rf"{number_here}(</u>)? {sign_here} \[", read["md"])
        pattern = rf"{number_here}(</u>)? <span[^>]*>{sign_here}</span><small>"
        assert re.search(pattern, read["html"])
        assert re.search(rf"{number_here}\}}?~{re.escape(latex_escape(sign_here))} &", read["tex"])
    for suffix, text in read.items():
        shown = latex_escape("≈ not") if suffix == "tex" else "≈ not"
        assert shown in text
        assert "Compared with best N=64" in text
        assert "3 comparisons in each column" in text
        assert "by teacher forcing" in text
        assert "separates methods where accuracy cannot" in text
        assert "exact McNemar" in text


def test_signs_have_words_in_html(compared: Path) -> None:
    parser = Cells()
    parser.feed((compared / "toy.html").read_text(encoding="utf-8"))
    signs = [attributes for tag, attributes in parser.tags if attributes.get("class") == "sign"]
    assert len(signs) == 3 * 4
    for attributes in signs:
        assert attributes["role"] == "img"
        assert attributes["title"] == attributes["aria-label"]
        assert re.fullmatch(
            r"(significantly better than|significantly worse than|not distinguishable from) "
            r"best N=64 \(corrected p (= \d\.\d{3}|< 0\.001)\)",
            attributes["title"],
        )


def test_comparisons_in_the_csv(compared: Path) -> None:
    frame = pd.read_csv(compared / "toy.csv", keep_default_na=False, na_values=[""])
    assert set(frame["reference"]) == {"best N=64"}
    average = frame[frame["column"] == "avg"].set_index("label")
    assert average["significant"].to_dict() | {"best": ""} == {
        "full": "better",
        "zero": "worse",
        "lora": "no",
        "best": "",
    }
    assert average["is_reference"].to_dict() == dict.fromkeys(average.index, False) | {"best": True}
    assert average.loc["lora", "difference_to_reference"] == pytest.approx(-2.5)
    others = frame[~frame["is_reference"]]
    assert (others["comparisons"] == 3).all()
    assert ((others["p"] > 0) & (others["p"] <= others["p_holm"])).all()
    assert frame.loc[frame["is_reference"], "p"].isna().all()
    # Discordant are 16 examples, all for one side: a p-value of 2 / 2^16 is not printed as 0.
    task = frame[(frame["column"] == "boolq") & (frame["label"] == "full")]
    assert task["p"].item() == pytest.approx(2 / 2**16, rel=1e-4)
