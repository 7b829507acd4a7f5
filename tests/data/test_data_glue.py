"""GLUE's five tasks: readers on small files of our own, the split by group, and the mirror's sets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from diablo.data import glue
from diablo.data.catalog import Dataset, load_catalog
from diablo.data.glue import INSTRUCTIONS, LABELS, READERS
from diablo.data.overlap import check_overlap
from diablo.data.prepare import download_dataset
from diablo.data.protocol import load_protocol
from diablo.io import read_json, read_jsonl

TASKS = list(LABELS)


def texts(rows: list[dict]) -> list[list[str]]:
    return [row["texts"] for row in rows]


def test_mrpc_has_a_byte_order_mark_and_bare_quotes(tmp_path):
    path = tmp_path / "x.tsv"
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    path.write_text(head + '1\t2\t3\tHe said " no .\tNo , he said .\n0\t4\t5\t" One\tTwo "\r\n')
    rows = READERS["mrpc-tsv"](path, "train")
    assert texts(rows) == [['He said " no .', "No , he said ."], ['" One', 'Two "']]
    assert [row["label"] for row in rows] == ["equivalent", "different"]


def test_cola_has_no_header_and_sst2_has_one(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("gj04\t1\t\tWe go.\ncj99\t0\t*\tGo we the.")
    rows = READERS["cola-tsv"](path, "train")
    assert texts(rows) == [["We go."], ["Go we the."]]
    assert [row["label"] for row in rows] == ["acceptable", "unacceptable"]
    path.write_text("sentence\tlabel\na fine film \t1\ndull \t0\n")
    rows = READERS["sst2-tsv"](path, "train")
    assert texts(rows) == [["a fine film"], ["dull"]]
    assert [row["label"] for row in rows] == ["positive", "negative"]


def test_qnli_and_mnli_have_labels_in_words(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('index\tquestion\tsentence\tlabel\n0\tWho?\tHe "is.\tnot_entailment\n')
    (row,) = READERS["qnli-tsv"](path, "train")
    assert (row["texts"], row["label"]) == (["Who?", 'He "is.'], "not_entailment")
    path.write_text(json.dumps({"premise": "A ", "hypothesis": " B", "label": "neutral"}) + "\n")
    (row,) = READERS["mnli-jsonl"](path, "train")
    assert (row["texts"], row["label"]) == (["A", "B"], "neutral")


@pytest.mark.parametrize("task", TASKS)
def test_parquet_files_of_the_hub_have_labels_as_numbers(tmp_path, task):
    import pandas as pd

    size = len(LABELS[task])
    columns = {name: [f"{name} {n} " for n in range(size)] for name in glue.COLUMNS[task]}
    path = tmp_path / "x.parquet"
    pd.DataFrame({"idx": range(size), "label": range(size), **columns}).to_parquet(path)
    rows = READERS[f"glue-{task}"](path, "train")
    assert [row["label"] for row in rows] == list(LABELS[task])
    assert rows[1]["texts"] == [f"{name} 1" for name in glue.COLUMNS[task]]


def test_bad_rows_are_named(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("gj04\t1\t\tWe go.\ngj04\t1\n")
    with pytest.raises(ValueError, match=r"x.tsv:2: 2 columns, 4 or more"):
        READERS["cola-tsv"](path, "train")
    path.write_text("gj04\t-1\t\tWe go.\n")
    with pytest.raises(ValueError, match=r"cola, row 0: unknown label '-1'"):
        READERS["cola-tsv"](path, "train")


def test_records_are_text_to_text_as_lora_ga_has_them():
    rows = [{"number": 7, "texts": ["A cat.", "A dog."], "label": "different"}]
    assert glue.as_records("mrpc", rows) == [
        {
            "id": "mrpc/7",
            "task": "mrpc",
            "instruction": "classify the semantic similarity of the text: A cat.\nA dog.",
            "output": "different",
            "answer": "different",
        }
    ]
    prompt = load_protocol("glue", "paper").prompt_for_evaluation(glue.as_records("mrpc", rows)[0])
    assert prompt.endswith("A cat.\nA dog.\nresult: ")


def dataset(folder: Path, rows: list[dict], **options) -> tuple[Dataset, dict[str, Path]]:
    path = folder / "mnli.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "kind": "github",
        "repo": "owner/name",
        "commit": "1" * 40,
        "path": "mnli.jsonl",
        "sha256": "unknown",
        "part": "mnli/train",
        "format": "mnli-jsonl",
    }
    made = Dataset(
        title="t", stand_in="s", builder="glue", sources=[source], licence="l", options=options
    )
    return made, {f"github/owner/name/{'1' * 40}/mnli.jsonl": path}


def test_one_file_is_split_by_its_first_sentence(tmp_path):
    rows = [
        {"premise": f"P {n // 3}", "hypothesis": f"H {n}", "label": LABELS["mnli"][n % 3]}
        for n in range(900)
    ]
    splits, _ = glue.build(*dataset(tmp_path, rows, evaluate=0.2))
    assert len(splits["train"]) + len(splits["test"]) == 900
    assert 120 < len(splits["test"]) < 240
    premises = {s: {r["instruction"].split("\n")[0] for r in found} for s, found in splits.items()}
    assert not premises["train"] & premises["test"]
    # What is added at the end moves nothing.
    more, _ = glue.build(*dataset(tmp_path, [*rows, rows[0] | {"premise": "new"}], evaluate=0.2))
    assert {r["id"] for r in splits["test"]} <= {r["id"] for r in more["test"]}
    with pytest.raises(ValueError, match="unknown option 'share'"):
        glue.build(*dataset(tmp_path, rows, share=0.2))


#: Training and test rows, and training rows removed because the test set has their words.
SIZES = {
    "mrpc": (3667, 408, 0),
    "cola": (8533, 1043, 18),
    "sst2": (67344, 872, 5),
    "qnli": (4389, 1074, 0),
    "mnli": (7868, 1947, 0),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_sets_of_the_mirror(mirror, tmp_path, task):
    folder, name = tmp_path / task, f"glue_{task}_mirror"
    download_dataset(name, folder, mirror=mirror, cache=tmp_path / "cache")
    facts = read_json(folder / "provenance.json")
    sizes = tuple(facts["counts"][split][task]["n"] for split in ("train", "test"))
    assert (*sizes, facts["overlaps_removed"][task]["rows"]) == SIZES[task]
    check_overlap(folder, tmp_path / "overlap.json")
    protocol = load_protocol("glue", "paper")
    for split in ("train", "test"):
        records = read_jsonl(folder / f"{split}.jsonl")
        assert set(Counter(r["answer"] for r in records)) == set(LABELS[task])
        for record in records[:200]:
            assert record["instruction"].startswith(INSTRUCTIONS[task])
            found = protocol.extract(task, "", protocol.target(record))
            assert protocol.correct(task, found, record["answer"])


def test_the_paper_s_sets_are_pinned():
    for task in TASKS:
        declared = load_catalog().dataset(f"glue_{task}")
        assert declared.options["expect_test"] == {
            task: load_protocol("glue", "paper").test_sizes[task]
        }
        assert {source.commit for source in declared.sources} == {
            "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
        }
        assert [source.part for source in declared.sources] == [f"{task}/train", f"{task}/test"]
