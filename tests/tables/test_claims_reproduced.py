"""Claims on tables and runs: paired over the same examples, and never without what they were made on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from table_builder import COLUMNS, Builder

from diablo.claims.addresses import Addresses, load_addresses
from diablo.claims.judge import Finding, judge
from diablo.claims.margins import tree
from diablo.claims.model import Claims, Predicate
from diablo.claims.reading import Reading
from diablo.claims.reproduced import Reproduced
from diablo.claims.run import Verdict, evaluate
from diablo.experiments import Experiment
from diablo.io import write_text
from diablo.tables import render
from diablo.tables.claims import WRITERS, Page
from diablo.tables.collect import load_table
from diablo.validation import validate

DIABLO, LORA, DORA = (f"toy/big0/{name}/avg" for name in ("diablo", "lora", "dora"))
N = 100


def hits(share: float, shift: int = 0) -> dict[str, list[int]]:
    """As many right answers in both columns, at places that are moved by `shift`."""
    right = round(share * N)
    outcomes = [int((i - shift) % N < right) for i in range(N)]
    return dict.fromkeys(COLUMNS, outcomes)


def addresses(*labels: str) -> Addresses:
    rows = [
        {"label": label, "method": label.lower(), "reported": {"avg": 75.0}} for label in labels
    ]
    value = {
        **{"name": "toy", "title": "Toy", "train": "t", "suite": "s", "columns": COLUMNS},
        **{"average": "AVG", "groups": [{"model": "big-0", "label": "Big0", "rows": rows}]},
    }
    nothing = {"claims": [{"id": "a", "section": "1", "claim": "", "not_here": "-"}]}
    return load_addresses(
        validate(Claims, nothing, ""), [validate(Experiment, value, "toy")], Path("-")
    )


def table(build: Builder, runs: dict[str, list[dict[str, Any]]], **plan: Any) -> Reproduced:
    """Writes toy.csv from these runs and reads claims' numbers from it."""
    rows = [build.row(label, label.lower(), runs=its) for label, its in runs.items()]
    path = build.plan(rows, **plan)
    write_text(path.with_name("toy.csv"), render.to_csv(load_table(path, resamples=200)))
    return Reproduced(path.parent, resamples=1000)


def judged(numbers: Reproduced, labels: tuple[str, ...], predicate: dict[str, Any]) -> Finding:
    return judge(tree(validate(Predicate, predicate, "claim"), addresses(*labels)), numbers)


def three(build: Builder, **plan: Any) -> Reproduced:
    """DiaBlo a little above LoRA on the same examples, and as good as DoRA, which is right elsewhere."""
    runs = {
        "DiaBlo": [build.run("d", "diablo", outcomes=hits(0.60))],
        "LoRA": [build.run("l", "lora", outcomes=hits(0.55))],
        "DoRA": [build.run("o", "dora", outcomes=hits(0.60, shift=30))],
    }
    return table(build, runs, **plan)


LABELS = ("DiaBlo", "LoRA", "DoRA")


def test_a_small_difference_on_the_same_examples_holds(build: Builder) -> None:
    """Five points of 60: far inside the two intervals, but every example agrees."""
    found = judged(three(build), LABELS, {"greater": {"of": DIABLO, "than": [LORA]}})
    assert found.verdict == "holds"
    reading = found.decisive.reading
    assert isinstance(reading, Reading)
    assert reading.value == pytest.approx(5.0)
    assert reading.evidence == f"paired bootstrap; over {2 * N} test examples, one seed"
    low, high = reading.bounds() or (0, 0)
    assert 1 < low < 5 < high < 9
    assert "stands in" in reading.stand_ins
    assert (
        judged(three(build), LABELS, {"greater": {"of": LORA, "than": [DIABLO]}}).verdict == "fails"
    )


def test_equal_means_on_other_examples_are_inconclusive(build: Builder) -> None:
    found = judged(three(build), LABELS, {"greater": {"of": DIABLO, "than": [DORA]}})
    assert found.verdict == "open"


def test_a_margin_inside_the_interval_is_inconclusive(build: Builder) -> None:
    by = {"greater": {"of": DIABLO, "than": [LORA], "by": 4.5}}
    assert judged(three(build), LABELS, by).verdict == "open"


def test_sums_of_four_cells_are_paired_too(build: Builder) -> None:
    drop = {"smaller_drop": {"of": [DIABLO, LORA], "than": [[DIABLO, LORA]]}}
    found = judged(three(build), LABELS, drop)
    assert found.verdict == "open"
    assert found.decisive.reading.bounds() == (0, 0)


def test_without_the_runs_the_table_alone_is_used(build: Builder) -> None:
    numbers = three(build)
    for path in build.folder.glob("runs/*/scores/*.json"):
        path.unlink()
    of_the_table = judged(numbers, LABELS, {"greater": {"of": LORA, "than": [DIABLO]}})
    assert of_the_table.verdict == "fails"
    assert "paired bootstrap of the table" in of_the_table.decisive.reading.evidence
    alone = judged(numbers, LABELS, {"greater": {"of": DORA, "than": [LORA]}})
    assert alone.verdict == "open"
    assert "unpaired" in alone.decisive.reading.evidence


def test_a_table_older_than_its_runs_is_refused(build: Builder) -> None:
    numbers = three(build)
    build.run("l", "lora", outcomes=hits(0.3))
    with pytest.raises(ValueError, match="older than its runs"):
        judged(numbers, LABELS, {"greater": {"of": DIABLO, "than": [LORA]}})


def test_a_row_of_another_name_is_refused(build: Builder) -> None:
    other = ("DiaBlo", "PiSSA", "DoRA")
    with pytest.raises(ValueError, match=r"row .*is 'LoRA', the experiment says 'PiSSA'"):
        judged(three(build), other, {"greater": {"of": DIABLO, "than": ["toy/big0/pissa/avg"]}})


def test_stand_ins_cannot_test_a_number_of_the_papers(build: Builder) -> None:
    equals = {"equals": {"of": DIABLO, "value": 60, "tolerance": 8}}
    found = judged(three(build), LABELS, equals)
    assert found.verdict == "missing"
    assert "only stand-ins" in found.decisive.reading.reason
    assert judged(three(build, stand_ins=[]), LABELS, equals).verdict == "holds"


def test_rows_that_were_not_run_say_why(build: Builder) -> None:
    runs = {"DiaBlo": [build.run("d", "diablo", outcomes=hits(0.6))], "LoRA": []}
    found = judged(table(build, runs), LABELS[:2], {"greater": {"of": DIABLO, "than": [LORA]}})
    assert found.verdict == "missing"
    assert found.decisive.reading.reason == "not run: filtered"


def test_seeds_are_told(build: Builder) -> None:
    runs = {
        "DiaBlo": [build.run(f"d{s}", "diablo", seed=s, outcomes=hits(0.6)) for s in (0, 1)],
        "LoRA": [build.run(f"l{s}", "lora", seed=s, outcomes=hits(0.4)) for s in (0, 1)],
    }
    found = judged(table(build, runs), LABELS[:2], {"greater": {"of": DIABLO, "than": [LORA]}})
    assert found.verdict == "holds"
    assert found.decisive.reading.evidence.endswith("2 seeds")


def page(build: Builder) -> Page:
    claim = {
        **{"id": "better", "section": "4", "claim": "Better than LoRA | on 50 % <of> tasks."},
        "says": {"greater": {"of": DIABLO, "than": [LORA]}},
    }
    declared = validate(Claims, {"claims": [claim]}, "claims")
    verdicts: list[Verdict] = evaluate(declared, addresses(*LABELS), three(build))
    return Page(verdicts, "demo")


def test_every_format_names_the_stand_ins(build: Builder) -> None:
    made = page(build)
    (one,) = made.verdicts
    assert (one.reported, one.reproduced) == ("within rounding", "holds")
    assert made.verdict(one) == "holds, on stand-ins (1)"
    for suffix, write in WRITERS.items():
        text = write(made)
        assert "Small-1M stands in for Big0" in text, suffix
        assert "not test the paper" in text, suffix
    assert r"LoRA \| on 50 %" in WRITERS[".md"](made)
    assert "&lt;of&gt;" in WRITERS[".html"](made)
    assert r"50 \%" in WRITERS[".tex"](made)


def test_variances_need_seeds(tmp_path: Path) -> None:
    """A table without intervals: one seed decides nothing, several give a t interval."""
    head = "protocol,group,row,label,column,reproduced,seed_sd,seeds,stand_ins,status\n"
    for seeds, spread, verdict in ((1, "", "open"), (3, "0.1", "holds"), (3, "2", "open")):
        lines = [
            f"paper,Big0,{i},{label},avg,{value},{spread},{seeds},,run\n"
            for i, (label, value) in enumerate({"DiaBlo": 3.0, "LoRA": 1.0}.items(), start=1)
        ]
        write_text(tmp_path / "toy.csv", head + "".join(lines))
        numbers = Reproduced(tmp_path)
        found = judged(numbers, LABELS[:2], {"greater": {"of": DIABLO, "than": [LORA]}})
        assert found.verdict == verdict


def test_theorems_are_read_from_their_table(tmp_path: Path) -> None:
    numbers = Reproduced(tmp_path)
    predicate = {"statements": ["Theorem 1", "LoRA of"]}
    assert judged(numbers, LABELS, predicate).verdict == "missing"
    head = "part,statement,found,limit,holds,gap\n"
    lines = "statements,Theorem 1: yes,all,all,True,\nstatements,LoRA of no rank,1,all,False,\nnetwork,,,,,1\n"
    write_text(tmp_path / "theorems.csv", head + lines)
    found = judged(numbers, LABELS, predicate)
    assert found.verdict == "fails"
    assert found.decisive.text == "LoRA of no rank: 1"
    with pytest.raises(ValueError, match="'Theorem 3' is in 0 statements; valid: Theorem 1: yes"):
        judged(numbers, LABELS, {"statements": ["Theorem 3"]})
