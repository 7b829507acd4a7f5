"""workflow/claims.yaml against the experiments: what the paper's own numbers say."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from diablo.claims.addresses import load_addresses
from diablo.claims.model import Claims, load_claims
from diablo.claims.reproduced import Reproduced
from diablo.claims.run import Verdict, claims, evaluate
from diablo.cli import main
from diablo.io import read_json
from diablo.validation import validate

#: Claims that the printed numbers contradict, with what they are about.
FAILING = {
    "table4-averages": "47.3, its columns have mean 47",
    "retained-substantially": "gsm8k 62.98 = +0.13",
    "retained-graceful": "67.30 to 63.11",
    "glue-consistently": "mnli 85.4 \N{MINUS SIGN} LoRA r=8 mnli 85.7",
    "variance-first-only": "4.97",
    "blocks-steadily": "84.28 \N{MINUS SIGN} DiaBlo N=64 84.44",
}
#: Ties, and margins that the printed digits leave open.
WITHIN = {
    "intro-quantized-stability",
    "commonsense-consistently",
    "table1-averages",
    "arithmetic-each",
    "code-llama3",
    "bf16-llama3-margin",
}


@pytest.fixture(scope="module")
def nothing_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    declared = load_claims()
    numbers = Reproduced(tmp_path_factory.mktemp("empty") / "tables")
    return {one.claim.id: one for one in evaluate(declared, load_addresses(declared), numbers)}


def test_there_are_enough_claims_with_a_section_and_words_of_their_own() -> None:
    declared = load_claims()
    assert len(declared.claims) >= 40
    for claim in declared.claims:
        assert claim.section
        assert claim.claim.endswith(".")
    assert len({one.claim for one in declared.claims}) > len(declared.claims) - 8


def test_ids_are_unique() -> None:
    claim = {"id": "a", "section": "1", "claim": "x", "not_here": "-"}
    with pytest.raises(ValueError, match="'a' is given twice"):
        validate(Claims, {"claims": [claim, claim]}, "claims")


def test_a_claim_needs_something_to_be_judged_by() -> None:
    claim = {"id": "a", "section": "1", "claim": "x"}
    with pytest.raises(ValueError, match="give `says`"):
        validate(Claims, {"claims": [claim]}, "claims")


def test_every_address_is_found(nothing_run: dict[str, Verdict]) -> None:
    """`evaluate` refuses any other; here all claims came through."""
    assert len(nothing_run) == len(load_claims().claims)


def test_what_the_paper_prints_contradicts_these_claims_alone(nothing_run) -> None:
    failing = {key: one for key, one in nothing_run.items() if one.reported == "fails (as printed)"}
    assert set(failing) == set(FAILING)
    for key, words in FAILING.items():
        assert words in failing[key].reported_text


def test_ties_and_rounding_are_named(nothing_run) -> None:
    within = {key for key, one in nothing_run.items() if one.reported == "within rounding"}
    assert within == WITHIN
    assert nothing_run["bf16-llama3-margin"].reported_text.startswith("DiaBlo N=64 88.3")
    assert "43.2 \N{MINUS SIGN} LoRI" in nothing_run["code-llama3"].reported_text


def test_known_facts_hold_as_printed(nothing_run) -> None:
    best = nothing_run["commonsense-llama2"]
    assert best.reported == "holds (as printed)"
    assert "DiaBlo N=128 83.5 \N{MINUS SIGN} SMT(Best) 83.4 = +0.1" in best.reported_text
    for key in ("arithmetic-margins", "mtbench-best", "variance-decreases", "layers-order"):
        assert nothing_run[key].reported == "holds (as printed)", key


def test_without_results_nothing_is_reproduced_but_counts_and_benchmarks(nothing_run) -> None:
    for key, one in nothing_run.items():
        if one.reproduced in ("holds", "fails", "inconclusive"):
            assert "counted" in one.evidence or "NVIDIA" in one.evidence, key
            assert not one.stand_ins
        else:
            assert one.reproduced in ("not run", "not declared yet", "not tested"), key
            assert one.reproduced_text, key
    counts = Counter(one.reproduced for one in nothing_run.values())
    assert counts["not run"] >= 40
    assert nothing_run["commonsense-llama2"].reproduced_text == "no table1.csv"
    assert nothing_run["smt-llama2"].reproduced == "not run"


def test_experiments_of_other_branches_are_not_declared_yet(nothing_run) -> None:
    from diablo.planning import experiment_names

    for name, key in {"figure5": "learning-rates", "figure6": "modules-lora"}.items():
        if name not in experiment_names():
            assert nothing_run[key].reproduced == "not declared yet"
    for name, key in {"table5": "retained-best", "figure7": "layers-order"}.items():
        expected = "not run" if name in experiment_names() else "not declared yet"
        assert nothing_run[key].reproduced == expected


def test_counts_contradict_printed_numbers_of_parameters(nothing_run) -> None:
    for key in ("table1-parameters", "table3-parameters", "glue-budget", "quantized-parameters"):
        assert nothing_run[key].reproduced == "fails", key
    assert nothing_run["commonsense-llama2-parameters"].reproduced == "holds"
    assert nothing_run["common-factors"].reproduced == "fails"


def test_the_verb_writes_every_format(tmp_path: Path, capsys) -> None:
    assert main(["claims", "--out", str(tmp_path / "demo")]) == 0
    assert "fails (as printed)" in capsys.readouterr().out
    tables = tmp_path / "demo" / "tables"
    lines = list(csv.DictReader((tables / "claims.csv").open(encoding="utf-8")))
    assert [one["id"] for one in lines] == [claim.id for claim in load_claims().claims]
    for form in ("md", "html", "tex"):
        text = (tables / f"claims.{form}").read_text(encoding="utf-8")
        assert "within rounding" in text
        assert "nan" not in text.lower().split()
    html = (tables / "claims.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "http" not in html
    facts = read_json(tables / "claims.provenance.json")
    assert facts["verb"] == "claims"
    assert facts["tables"] == []


def test_a_claim_about_nothing_is_refused_by_its_id(tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(
        "claims:\n  - {id: wrong, section: '1', claim: x, says: {at_most: {of: table1/llama2-7b/loar/avg, value: 1}}}\n"
    )
    with pytest.raises(ValueError, match=r"^wrong: .*unknown row 'loar'"):
        claims(tmp_path / "tables", path)
    assert not (tmp_path / "tables").exists()


@pytest.mark.slow
def test_claims_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "diablo", "claims", "--out", str(tmp_path / "demo")]
    subprocess.run(command, check=True, env={"PYTHONPATH": f"{tmp_path}:{root}"})


@pytest.mark.slow
def test_statements_of_the_theorems_are_found(tmp_path: Path) -> None:
    """On a small sweep: every statement that a claim names is in the table, once."""
    from diablo.analysis.theorems.run import theorems
    from diablo.analysis.theorems.sweep import Grid, LeastSquares, Map

    small = Grid(
        least_squares=(
            LeastSquares(12, 12, 2),
            LeastSquares(14, 14, 3),
            LeastSquares(12, 12, 3, target_rank=1),
        ),
        rows=16,
        maps=tuple(Map(8, 8, blocks) for blocks in (2, 4, 8)),
        width=6,
        network_rows=12,
        network_ranks=(3, 3),
        seeds=2,
        map_seeds=2,
        network_seeds=1,
    )
    theorems(tmp_path, small)
    verdicts = {one.claim.id: one for one in claims(tmp_path / "tables")}
    for key in ("theorem-1", "theorem-1-parameters", "theorem-2"):
        assert verdicts[key].reproduced == "holds", key
    always = verdicts["theorem-1-always"]
    assert always.reproduced == "fails"
    assert "of 3 comparisons 1 holds, 2 fail" in always.reproduced_text
