"""Hyper-parameters, copied rows, the register, and what is refused in the audit's YAML files."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from diablo.audit.facts import FOLDER, load_facts
from diablo.audit.findings import Finding, verdict_of
from diablo.audit.hyperparameters import compare_hyperparameters
from diablo.audit.origins import check_origins
from diablo.audit.register import fill_register

#: What the audit computes by itself: the least that it must.
COMPUTED = ("D-01", "D-07", "D-08", "D-09", "D-10", "D-11", "D-18", "D-24", "D-25")


def test_the_experiments_have_the_papers_hyperparameters(parts) -> None:
    tables = [f for f in parts["hyperparameters"] if f.id.startswith("hyperparameters/table")]
    values = [found for found in tables if not found.id.endswith(("/name", "/warm-up"))]
    assert [found.id for found in values if found.verdict == "disagrees"] == []
    compared = {found.id.split("/")[1] for found in values if found.verdict == "agrees"}
    assert {f"table{number}" for number in range(11, 20)} <= compared
    ratio = next(
        f for f in values if f.id.startswith("hyperparameters/table17/") and "ratio" in f.id
    )
    assert "186 of 1860 steps" in ratio.evidence


def changed(paper, name: str, **settings):
    """The paper with other defaults in one experiment's first group."""
    experiment = paper.experiments[name]
    group = experiment.groups[0]
    defaults = group.defaults.model_copy(update=settings)
    groups = [group.model_copy(update={"defaults": defaults}), *experiment.groups[1:]]
    other = experiment.model_copy(update={"groups": groups})
    return replace(paper, experiments={**paper.experiments, name: other})


@pytest.mark.parametrize(
    ("name", "settings", "key", "words"),
    [
        ("table1", {"weight_decay": 0.1}, "weight_decay", "paper 0.0, YAML 0.1"),
        ("table2", {"modules": "qkvogud"}, "modules", "paper qkvud, YAML qkvogud"),
        ("table4", {"warmup_steps": 100}, "warmup_ratio", "YAML 100 of 1860 steps"),
        ("table6", {"epochs": 2.0}, "epochs", "paper 1.0, YAML 2.0"),
    ],
)
def test_a_setting_that_differs_is_found(paper, facts, name, settings, key, words) -> None:
    found = compare_hyperparameters(changed(paper, name, **settings), facts)
    odd = [one for one in found if one.verdict == "disagrees" and one.id.endswith(f"/{key}")]
    odd = [one for one in odd if one.id.startswith("hyperparameters/")]
    assert odd
    assert all(words in one.evidence for one in odd)


def test_modules_are_a_set_of_letters(paper, facts) -> None:
    found = compare_hyperparameters(changed(paper, "table1", modules="duvkq"), facts)
    modules = [
        one
        for one in found
        if one.id.startswith("hyperparameters/table12/") and "modules" in one.id
    ]
    assert {one.verdict for one in modules} == {"agrees"}


@pytest.mark.parametrize(
    ("entry", "keys"),
    [
        ("D-02", {"lr"}),
        ("D-03", {"lr", "epochs", "batch_size", "schedule"}),
        ("D-04", {"model", "lr", "epochs", "batch_size", "warmup_steps", "max_length", "modules"}),
        ("D-14", {"schedule", "warmup_steps"}),
        ("D-26", {"batch_size"}),
    ],
)
def test_what_published_code_sets_otherwise(parts, entry, keys) -> None:
    found = [one for one in parts["hyperparameters"] if entry in one.entries]
    assert {one.id.rsplit("/", 1)[1] for one in found if one.verdict == "disagrees"} == keys


def test_the_13b_dora_row_has_the_numbers_of_half_its_rank(findings) -> None:
    found = findings["cited/table1/llama-13b/dora-r32"]
    assert found.verdict == "disagrees"
    assert found.entries == ("D-01",)
    assert "avg 81.5" in found.evidence
    assert "all 9 are those of r = 16" in found.evidence
    others = [one for id, one in findings.items() if id.startswith("cited/") and one is not found]
    assert len(others) == 8
    assert {one.verdict for one in others} == {"agrees"}


def test_copied_rows_without_a_mark(parts) -> None:
    unmarked = [one.id for one in parts["origins"] if "D-23" in one.entries]
    assert unmarked == [
        "origins/table1/llama-13b/lora-r32",
        "origins/table1/llama-13b/dora-r32",
        "origins/table2/llama2-7b/full",
        "origins/table8/t5-base/full",
    ]


def test_figure_2_mixes_ranks_and_numbers_of_blocks(findings) -> None:
    assert findings["figure2/a-commonsense/ranks"].verdict == "disagrees"
    assert "DoRA r = 16" in findings["figure2/a-commonsense/ranks"].evidence
    assert findings["figure2/a-arithmetic/ranks"].verdict == "agrees"
    assert "a, arithmetic: N = 32" in findings["figure2/diablo/blocks"].evidence
    bars = [found.verdict for id, found in findings.items() if id.endswith("/bars")]
    assert bars == ["agrees"] * 4


def test_a_bar_that_is_no_average_is_found(paper, facts) -> None:
    panels = list(facts.printed.figure2.panels)
    panels[0] = panels[0].model_copy(update={"bars": {"LoRA": 77.6, "DoRA": 80.0}})
    figure = facts.printed.figure2.model_copy(update={"panels": panels})
    other = replace(facts, printed=facts.printed.model_copy(update={"figure2": figure}))
    (found,) = [
        one for one in check_origins(paper, other) if one.id == "figure2/a-commonsense/bars"
    ]
    assert (found.verdict, found.evidence) == ("disagrees", "not DoRA")


def test_the_register_is_complete(parts, facts) -> None:
    entries = {entry.id: entry for entry in facts.register.entries}
    assert list(entries) == [f"D-{number:02}" for number in range(1, len(entries) + 1)]
    assert len(entries) >= 32
    assert {entries[name].kind for name in COMPUTED} == {"computed"}
    verdicts = {found.entries[0]: found.verdict for found in parts["register"]}
    assert {verdicts[name] for name in COMPUTED} == {"disagrees"}
    assert all(entry.sources for entry in entries.values())


def test_ids_are_distinct(parts) -> None:
    ids = [found.id for found_in in parts.values() for found in found_in]
    assert len(set(ids)) == len(ids)


def finding(entry: str) -> Finding:
    return Finding("x/y", "statement", "1 = 1", "agrees", "here", (entry,))


def test_a_register_that_does_not_fit_the_findings_is_refused(parts, facts) -> None:
    known = [one for name, found in parts.items() if name != "register" for one in found]
    with pytest.raises(ValueError, match="'D-77'"):
        fill_register(facts, [*known, finding("D-77")])
    with pytest.raises(ValueError, match=r"D-05 is recorded, but x/y computes it"):
        fill_register(facts, [*known, finding("D-05")])
    with pytest.raises(ValueError, match="D-18 is computed, but nothing"):
        fill_register(facts, [one for one in known if "D-18" not in one.entries])


def test_no_findings_are_no_agreement() -> None:
    with pytest.raises(ValueError, match="no findings"):
        verdict_of([])


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("hyperparameters", "weight_decay: 0,", "weight_decoy: 0,", "did you mean 'weight_decay'"),
        ("hyperparameters", "max_length: 256", "max_length: 2", "max_length = 2"),
        ("hyperparameters", "lr: 2.0e-4}", "lr: fast}", "lr = 'fast'"),
        ("register", "kind: recorded", "kind: rumoured", "rumoured"),
        ("register", "id: D-02", "id: D-01", "D-01 given twice"),
        ("register", "id: D-02", "id: D2", "D2"),
        ("register", "    kind: computed\n", "    kind: recorded\n", "D-01: verdict = None"),
        ("printed", "decimals: 2", "digits: 2", "decimals"),
        ("released", "lr: 2.5e-4", "lr: -1", "lr = -1"),
        ("sizes", "batches: [4, 8, 16, 32, 64]", "batches: [four]", "four"),
        ("cited", "rank: 32", "rank: 0", "rank = 0"),
        ("cited", "rows:", "rows: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_data_names_file_and_key(tmp_path: Path, file, old, new, says) -> None:
    shutil.copytree(FOLDER, tmp_path / "audit")
    path = tmp_path / "audit" / f"{file}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        load_facts(tmp_path / "audit")
    assert says in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "audit")
    (tmp_path / "audit" / "sizes.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"sizes\.yaml"):
        load_facts(tmp_path / "audit")
