"""The files that the verb `audit` writes, and that it needs neither torch nor a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from diablo.audit.table import PARTS, frame
from diablo.cli import main
from diablo.io import read_json


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    assert main(["audit", "--out", str(folder)]) == 0
    return folder / "tables"


def test_the_csv_has_every_finding(tables: Path, parts) -> None:
    written = pd.read_csv(tables / "audit.csv", keep_default_na=False)
    assert list(written["part"].unique()) == list(PARTS)
    for name, found in parts.items():
        mine = written[written["part"] == name].drop(columns="part").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, frame(found), check_dtype=False)
    assert (written[["id", "statement", "evidence", "verdict", "source"]] != "").all().all()


def test_the_page_has_every_part_and_all_that_disagrees(tables: Path, parts) -> None:
    texts = {form: (tables / f"audit.{form}").read_text() for form in ("md", "html", "tex")}
    for form, text in texts.items():
        assert "nan" not in text.lower().replace("finance", ""), form
        assert "D-37" in text, form
    for title, _ in PARTS.values():
        assert title.replace("#", "") in texts["md"].replace("#", "")
    assert texts["tex"].count(r"\begin{table}") == len(PARTS) + 1
    assert not {one for one in texts["tex"] if ord(one) > 255}
    for forbidden in ("<script", "http"):
        assert forbidden not in texts["html"]
    for found in (one for all_of in parts.values() for one in all_of):
        if found.verdict != "agrees":
            assert found.statement[:30].replace("_", r"\_") in texts["md"], found.id


def test_provenance_has_the_inputs_and_the_counts(tables: Path, parts) -> None:
    facts = read_json(tables / "audit.provenance.json")
    assert facts["verb"] == "audit"
    assert any(path.endswith("audit/register.yaml") for path in facts["inputs"])
    assert sum(facts["findings"]["averages"].values()) == len(parts["averages"])


@pytest.mark.slow
def test_the_audit_needs_no_torch_and_no_network(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('the network was asked')\n"
        "socket.socket.connect = refuse\n"
        "from diablo.cli import main\n"
        f"sys.exit(main(['audit', '--out', {str(tmp_path / 'out')!r}]))"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
    assert (tmp_path / "out" / "tables" / "audit.csv").is_file()
