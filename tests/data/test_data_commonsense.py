"""Reading, overlaps and mixing on small files of our own."""

from __future__ import annotations

import bz2
import gzip
import json
import zipfile
from pathlib import Path

import pytest

from diablo.data import commonsense, formats
from diablo.data.catalog import Dataset
from diablo.data.prepare import download_dataset
from diablo.io import read_json, read_jsonl

BOOLQ = "Please answer the following question with true or false, question: {}?\n\nAnswer format: true/false"
CHOICE = "Please choose the correct answer to the question: {}\n\nAnswer1: {} Answer2: {}\n\nAnswer format: answer1/answer2"


def dataset(*parts: tuple[str, str], **options) -> Dataset:
    sources = [
        {
            "kind": "github",
            "repo": "owner/name",
            "commit": "1" * 40,
            "path": f"{part}.json",
            "sha256": "unknown",
            "part": part,
            "format": form,
        }
        for part, form in parts
    ]
    return Dataset(
        title="t",
        stand_in=None,
        builder="commonsense",
        options=options,
        sources=sources,
        licence="l",
    )


def written(folder: Path, made: Dataset, **rows: list[tuple[str, str]]) -> dict[str, Path]:
    files = {}
    for source in made.sources:
        path = folder / source.location
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = rows[source.part.replace("/", "_")]
        path.write_text(json.dumps([{"instruction": i, "answer": a} for i, a in listed]))
        files[source.name] = path
    return files


def test_overlaps_are_removed_by_normalised_question_and_counted(tmp_path):
    made = dataset(
        *((p, "llm-adapters") for p in ("boolq/train", "boolq/test", "arc/train", "arc/test"))
    )
    files = written(
        tmp_path,
        made,
        boolq_train=[
            (BOOLQ.format("is  Water(wet)"), "true"),
            (BOOLQ.format("is fire cold"), "false"),
        ],
        boolq_test=[(BOOLQ.format("is water (wet)"), "true")],
        arc_train=[
            (CHOICE.format("Who?", "me", "you"), "answer1"),
            (CHOICE.format("Who?", "me", "she"), "answer1"),
            (CHOICE.format("What?", "a", "b"), "answer2"),
            (CHOICE.format("What?", "a", "b"), "answer2"),
        ],
        arc_test=[
            (CHOICE.format("who", "you", "me"), "answer2"),
            (CHOICE.format("What?", "a", "b"), "answer2"),
        ],
    )
    splits, facts = commonsense.build(made, files)
    assert [r["id"] for r in splits["test"]] == ["boolq/0", "arc/0", "arc/1"]
    assert {r["id"] for r in splits["train"]} == {"boolq/1", "arc/1"}
    assert facts["overlaps_removed"] == {
        "boolq": {"rows": 1, "questions": 1, "reordered": 0},
        "arc": {"rows": 3, "questions": 2, "reordered": 1},
    }


def test_training_rows_are_removed_for_the_test_sets_of_other_tasks_too(tmp_path):
    made = dataset(("easy/train", "llm-adapters"), ("hard/test", "llm-adapters"))
    row = (CHOICE.format("Who?", "me", "you"), "answer1")
    files = written(tmp_path, made, easy_train=[row], hard_test=[row])
    splits, _ = commonsense.build(made, files)
    assert splits["train"] == []


def test_training_mix_is_in_a_fixed_order_and_a_single_file_keeps_its_own(tmp_path):
    rows = [(BOOLQ.format(f"is {n} odd"), "true") for n in range(40)]
    single = dataset(("boolq/train", "llm-adapters"))
    splits, facts = commonsense.build(single, written(tmp_path, single, boolq_train=rows))
    assert [r["id"] for r in splits["train"]] == [f"boolq/{n}" for n in range(40)]
    assert facts == {}
    mixed = dataset(("a/train", "llm-adapters"), ("b/train", "llm-adapters"))
    files = written(tmp_path, mixed, a_train=rows, b_train=rows)
    first = [r["id"] for r in commonsense.build(mixed, files)[0]["train"]]
    assert first == [r["id"] for r in commonsense.build(mixed, files)[0]["train"]]
    assert 5 <= sum(name.startswith("a/") for name in first[:40]) <= 35


def test_wrong_test_size_is_refused(tmp_path):
    made = dataset(("boolq/test", "llm-adapters"), expect_test={"boolq": 2})
    files = written(tmp_path, made, boolq_test=[(BOOLQ.format("is it"), "true")])
    with pytest.raises(ValueError, match="boolq: 1 questions, expected 2"):
        commonsense.build(made, files)


def test_unknown_format_is_refused(tmp_path):
    made = dataset(("boolq/test", "llm-adapter"))
    with pytest.raises(ValueError, match="did you mean 'llm-adapters'"):
        commonsense.build(made, {made.sources[0].name: tmp_path})


def test_request_dump_gives_one_row_a_question_with_labels_from_zero(tmp_path):
    doc = {"goal": "Boil water", "sol1": "use fire", "sol2": "use ice ", "label": 0}
    lines = [{"doc_id": 7, "doc": doc}, {"doc_id": 7, "doc": doc}]
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    assert formats.read_piqa_requests(path, "train") == [
        {
            "instruction": "Please choose the correct solution to the question: Boil water\n\n"
            "Solution1: use fire\n\nSolution2: use ice \n\nAnswer format: solution1/solution2",
            "answer": "solution1",
        }
    ]
    lines[1]["doc"] = doc | {"label": 1}
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    with pytest.raises(ValueError, match="doc_id 7 has two different docs"):
        formats.read_piqa_requests(path, "train")


def test_winogrande_labels_start_at_one(tmp_path):
    doc = {
        "sentence": "Ann met Bea and _ smiled.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": "2",
    }
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"doc_id": 0, "doc": doc}).encode()))
    assert formats.read_winogrande_requests(path, "train") == [
        {
            "instruction": "Please choose the correct answer to fill in the blank to complete the "
            "given sentence: Ann met Bea and _ smiled.\n\nOption1: Ann Option2: Bea Answer format: "
            "option1/option2",
            "answer": "option2",
        }
    ]


def test_socialiqa_archive_reads_only_the_wanted_part(tmp_path):
    path = tmp_path / "archive.zip"
    row = {"context": "A b.", "question": "Why?", "answerA": "x", "answerB": "y", "answerC": "z"}
    with zipfile.ZipFile(path, "w") as archive:
        for part, label in (("train", "3"), ("dev", "1")):
            line = json.dumps(row | {"context": f"{part}."})
            archive.writestr(f"socialiqa-train-dev/{part}.jsonl", line + "\n")
            archive.writestr(f"socialiqa-train-dev/{part}-labels.lst", label + "\n")
    (made,) = formats.read_socialiqa_archive(path, "train")
    assert made["answer"] == "answer3"
    assert "train. Why?\n\nAnswer1: x Answer2: y Answer3: z\n\n" in made["instruction"]


def test_hellaswag_text_and_its_training_rows_have_one_form(tmp_path):
    text = tmp_path / "val.txt.bz2"
    text.write_bytes(bz2.compress(b"Sport: A man runs. he\n3\na.\nb.\nc.\nd.\n"))
    (made,) = formats.read_hellaswag_text(text, "test")
    assert made == {
        "instruction": "Please choose the correct ending to complete the given sentence: Sport: "
        "A man runs. he\n\nEnding1: a. Ending2: b. Ending3: c. Ending4: d.\n\n"
        "Answer format: ending1/ending2/ending3/ending4",
        "answer": "ending4",
    }
    text.write_bytes(bz2.compress(b"one line too few\n3\na.\nb.\nc.\n"))
    with pytest.raises(ValueError, match="expected 6 for each item"):
        formats.read_hellaswag_text(text, "test")


def test_hellaswag_held_out_rows_are_never_read(tmp_path):
    row = {"question": "[header] How [title] First. [step] Then", "answer": "B",
           "choices": {"A": "[title] w", "B": "x [substeps] y", "C": "c", "D": "d"}}  # fmt: skip
    path = tmp_path / "hellaswag.json"
    path.write_text(json.dumps({"dev": [row], "test": [row | {"question": "held out"}]}))
    (made,) = formats.read_hellaswag_abstain(path, "train")
    assert "How. First. Then\n\nEnding1: w Ending2: x y Ending3: c" in made["instruction"]
    assert made["answer"] == "ending2"
    with pytest.raises(ValueError, match="only its training rows"):
        formats.read_hellaswag_abstain(path, "test")


#: Rows of each training set before overlaps are removed, and of each test set.
TRAIN = {"boolq": 9427, "piqa": 16113, "social_i_qa": 33410, "hellaswag": 1000, "winogrande": 40398,
         "arc_easy": 2251, "arc_challenge": 1119, "openbookqa": 4957}  # fmt: skip
TEST = {"boolq": 3270, "piqa": 1838, "social_i_qa": 1954, "hellaswag": 10042, "winogrande": 1267,
        "arc_easy": 2376, "arc_challenge": 1172, "openbookqa": 500}  # fmt: skip


@pytest.fixture(scope="module")
def mini(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "mini"
    download_dataset("commonsense_mirror", folder, mirror=mirror, cache=folder.parent / "cache")
    return folder


@pytest.mark.slow
def test_mirror_gives_complete_sets_and_no_overlap_is_left(mini):
    facts = read_json(mini / "provenance.json")
    removed = facts["overlaps_removed"]
    assert {t: c["n"] for t, c in facts["counts"]["test"].items()} == TEST
    assert {t: c["n"] + removed[t]["rows"] for t, c in facts["counts"]["train"].items()} == TRAIN
    known = {"boolq": 1, "piqa": 2, "arc_easy": 2}
    in_order = {t: c["questions"] - c["reordered"] for t, c in removed.items()}
    assert in_order == dict.fromkeys(TRAIN, 0) | known
    assert {t: c["reordered"] for t, c in removed.items() if c["reordered"]} == {
        "arc_easy": 1,
        "openbookqa": 14,
    }
    held_out = {commonsense.question_key(r["instruction"]) for r in read_jsonl(mini / "test.jsonl")}
    train = read_jsonl(mini / "train.jsonl")
    assert not any(commonsense.question_key(r["instruction"]) in held_out for r in train)


@pytest.mark.slow
def test_mirror_labels_are_those_of_the_sources(mini, mirror):
    counts = read_json(mini / "provenance.json")["counts"]
    manifest = {entry["path"]: entry for entry in read_json(mirror / "MANIFEST.json")}
    endings = next(e["label_counts"] for p, e in manifest.items() if p.endswith("val_full.txt.bz2"))
    assert counts["test"]["hellaswag"]["answers"] == {
        f"ending{int(label) + 1}": n for label, n in sorted(endings.items())
    }
    assert counts["train"]["winogrande"]["answers"] == {"option1": 20199, "option2": 20199}
    assert counts["train"]["social_i_qa"]["answers"] == {
        "answer1": 11274,
        "answer2": 11176,
        "answer3": 10960,
    }
    assert counts["train"]["hellaswag"]["answers"] == {
        "ending1": 256,
        "ending2": 249,
        "ending3": 249,
        "ending4": 246,
    }


@pytest.mark.slow
def test_mirror_hellaswag_labels_point_at_the_right_endings(mini):
    test = [r for r in read_jsonl(mini / "test.jsonl") if r["task"] == "hellaswag"]
    expected = [
        "starts pulling up roofing on a roof.",
        "stands and lifts the weight over her head.",
    ]
    for record, ending in zip(test, expected, strict=False):
        number = record["answer"].removeprefix("ending")
        assert f"Ending{number}: {ending}" in record["instruction"]


@pytest.mark.slow
def test_socialiqa_form_equals_llm_adapters_own_file(mirror):
    """Their test file is the dev part of the archive: our wording must give the same characters."""
    archive = next(mirror.glob("github/kashrest/*/*/*.zip"))
    theirs = next(
        mirror.glob("github/AGI-Edgerunners/LLM-Adapters/*/dataset/social_i_qa/test.json")
    )
    made = formats.read_socialiqa_archive(archive, "test")
    assert made == formats.read_llm_adapters(theirs, "test")
