"""Instruction data: readers on small files of our own, what the options do, and the mirror's sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from diablo.data import instructions
from diablo.data.catalog import Dataset, load_catalog
from diablo.data.instruction_formats import (
    EVOL_FRAME,
    REFUSAL,
    read_adv_bench,
    read_evol_instruct,
    read_harmless_prompts,
    read_hex_phi,
    read_human_eval,
    read_mt_bench,
    read_mt_references,
    read_wizard_lm,
)
from diablo.data.overlap import check_overlap, key
from diablo.data.prepare import download_dataset
from diablo.io import read_json, read_jsonl

COMMIT = "1" * 40


def write(path: Path, value) -> Path:
    path.write_text(json.dumps(value))
    return path


def dataset(folder: Path, parts: dict[str, tuple[str, object]], **options):
    """A data set of JSON files: part -> (format, what the file holds)."""
    sources, files = [], {}
    for number, (part, (form, value)) in enumerate(parts.items()):
        name = f"{number}.json"
        sources.append(
            {
                "kind": "github",
                "repo": "owner/name",
                "commit": COMMIT,
                "path": name,
                "sha256": "unknown",
                "part": part,
                "format": form,
            }
        )
        files[f"github/owner/name/{COMMIT}/{name}"] = write(folder / name, value)
    made = Dataset(
        title="t",
        stand_in=None,
        builder="instructions",
        sources=sources,
        licence="l",
        options=options,
    )
    return made, files


def alpaca(*outputs: str, instruction: str = "Say {}.") -> list[dict]:
    return [
        {"instruction": instruction.format(number), "input": "", "output": output}
        for number, output in enumerate(outputs)
    ]


def test_human_eval_heads_and_bodies_make_a_program(tmp_path):
    problem = {
        "task_id": "HumanEval/0",
        "prompt": '\n\ndef add(a, b):\n    """ Add. """\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    }
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(json.dumps(problem).encode() + b"\n"))
    (row,) = read_human_eval(path, "test")
    assert row["prompt"] == 'def add(a, b):\n    """ Add. """'
    assert row["output"] == row["answer"] == "\n    return a + b"
    space: dict = {}
    exec(row["prompt"] + row["answer"] + "\n" + row["test"], space)
    space["check"](space["add"])
    assert (row["id"], row["entry_point"]) == ("HumanEval/0", "add")


def test_harmful_prompts_are_to_be_refused_and_harmless_ones_answered(tmp_path):
    path = tmp_path / "category_3.csv"
    path.write_text('Do this\n"Say ""no"", then\nthat"\n\n')
    for reader, source in ((read_adv_bench, "AdvBench"), (read_hex_phi, "HEx-PHI category_3")):
        rows = reader(path, "test")
        assert [row["instruction"] for row in rows] == ["Do this", 'Say "no", then\nthat']
        assert {row["source"] for row in rows} == {source}
        assert {(row["answer"], row["output"]) for row in rows} == {("refuse", REFUSAL)}
    path = write(tmp_path / "I-Alpaca.json", {"instructions": [" Hi? "], "inputs": []})
    assert read_harmless_prompts(path, "test") == [
        {"instruction": "Hi?", "output": "", "answer": "comply", "source": "I-Alpaca"}
    ]


def test_evol_instruct_loses_its_frame(tmp_path):
    turns = [{"value": f"{EVOL_FRAME}Count.\n1 2"}, {"value": "3"}]
    path = write(tmp_path / "x", [{"id": "a", "conversations": turns}])
    assert read_evol_instruct(path, "train") == [{"instruction": "Count.\n1 2", "output": "3"}]
    turns[0]["value"] = "Count."
    write(path, [{"id": "b", "conversations": turns}])
    with pytest.raises(ValueError, match="b: its instruction has not the usual frame"):
        read_evol_instruct(path, "train")


def test_wizard_lm_s_english_columns(tmp_path):
    import pandas as pd

    path = tmp_path / "x.parquet"
    table = {"instruction_zh": ["一"], "output": ["1"], "instruction": ["One"], "output_zh": ["一"]}
    pd.DataFrame(table).to_parquet(path)
    assert read_wizard_lm(path, "train") == [{"instruction": "One", "output": "1"}]


def test_references_are_merged_with_their_questions(tmp_path):
    questions = [
        {"question_id": 1, "category": "math", "turns": ["a", "b"]},
        {"question_id": 2, "category": "writing", "turns": ["c", "d"]},
    ]
    answers = [{"question_id": 1, "choices": [{"turns": ["A", "B"]}]}]
    for name, rows in (("q", questions), ("r", answers)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = read_mt_bench(tmp_path / "q", "test") + read_mt_references(tmp_path / "r", "test")
    first, second = instructions.as_records("mtbench", rows)
    assert first == {
        "id": "mtbench/1",
        "task": "mtbench",
        "instruction": "a",
        "instruction2": "b",
        "category": "math",
        "output": "A",
        "answer": "A",
        "reference": "A",
        "reference2": "B",
    }
    assert (second["output"], second["answer"], "reference" in second) == ("", "", False)
    with pytest.raises(ValueError, match="mtbench 'mtbench/1': has an answer, but no instruction"):
        instructions.as_records("mtbench", read_mt_references(tmp_path / "r", "test"))


def test_empty_outputs_are_dropped_counted_and_ids_say_the_row(tmp_path):
    made, files = dataset(tmp_path, {"a/train": ("alpaca", alpaca("x", " \n", "y"))})
    splits, facts = instructions.build(made, files)
    assert [record["id"] for record in splits["train"]] == ["a/0", "a/2"]
    assert facts == {"empty_removed": {"a": 1}}
    assert splits["train"][1]["answer"] == "y"


def test_an_input_is_a_part_of_the_question():
    one = {"instruction": "Add.", "input": "1 2"}
    assert key(one) != key({**one, "input": "1 3"})
    assert key(one) == key({"instruction": "add 1, 2"})


def test_training_rows_of_a_test_set_are_removed(tmp_path):
    harmless = {"instructions": ["Say 1!"]}
    parts = {"a/train": ("alpaca", alpaca("x", "y")), "b/test": ("harmless-prompts", harmless)}
    splits, facts = instructions.build(*dataset(tmp_path, parts))
    assert [record["id"] for record in splits["train"]] == ["a/0"]
    assert facts["overlaps_removed"] == {"a": {"rows": 1, "questions": 1}}


def test_phrases_are_dropped_in_any_case_and_rows_sliced_after_that(tmp_path):
    rows = alpaca("one", "I'm Sorry.", "two", "As an AI, no", "three", "four")
    parts = {"w/train": ("alpaca", rows), "held_out/test": ("alpaca", rows)}
    options = {"without": ["sorry", "as an ai"], "rows": {"w": [0, 2], "held_out": [2, 3]}}
    splits, facts = instructions.build(*dataset(tmp_path, parts, **options))
    assert [record["output"] for record in splits["train"]] == ["one", "two"]
    assert [record["output"] for record in splits["test"]] == ["three"]
    assert facts["phrases_removed"] == {"w": 2, "held_out": 2}
    options["rows"]["held_out"] = [4, 9]
    with pytest.raises(ValueError, match="option rows: held_out has no rows 4 to 9"):
        instructions.build(*dataset(tmp_path, parts, **options))


def test_long_rows_are_dropped_by_the_tokens_of_prompt_and_output(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    made, files = dataset(
        tmp_path,
        {"w/train": ("alpaca", alpaca("a b c", "a b c d"))},
        # The frame has 20 words ("###" is one), the instruction two.
        shorter_than={"tokens": 26, "tokenizer": "llama2-7b", "suite": "mtbench"},
    )
    splits, facts = instructions.build(made, files | {"tokenizer": tmp_path})
    assert [record["output"] for record in splits["train"]] == ["a b c"]
    assert facts == {"long_removed": {"w": 1}}


def test_held_out_rows_leave_training_and_depend_on_their_ids_alone(tmp_path):
    rows = alpaca(*"abcdefghij")
    splits, _ = instructions.build(*dataset(tmp_path, {"w/train": ("alpaca", rows)}, held_out=3))
    assert (len(splits["train"]), len(splits["test"])) == (7, 3)
    assert {record["task"] for record in splits["test"]} == {"held_out"}
    ids = {split: {r["id"] for r in records} for split, records in splits.items()}
    assert not ids["train"] & ids["test"]
    fewer, _ = instructions.build(*dataset(tmp_path, {"w/train": ("alpaca", rows)}, held_out=2))
    assert {record["id"] for record in fewer["test"]} < ids["test"]
    with pytest.raises(ValueError, match="held_out: 10 of 10 rows leaves none"):
        instructions.build(*dataset(tmp_path, {"w/train": ("alpaca", rows)}, held_out=10))


def test_proportion_keeps_so_many_for_each_other_row(tmp_path):
    parts = {
        "alpaca/train": ("alpaca", alpaca(*"abcdefghijklmnopqrst")),
        "safety/train": ("alpaca", alpaca(*"abcdef", instruction="Hurt {}.")),
    }
    splits, _ = instructions.build(*dataset(tmp_path, parts, proportion={"safety": 0.1}))
    tasks = [record["task"] for record in splits["train"]]
    assert (tasks.count("alpaca"), tasks.count("safety")) == (20, 2)
    with pytest.raises(ValueError, match="10 records of task safety are needed for 20 others"):
        instructions.build(*dataset(tmp_path, parts, proportion={"safety": 0.5}))


def test_unknown_option_is_refused(tmp_path):
    parts = {"w/train": ("alpaca", alpaca("a"))}
    with pytest.raises(ValueError, match="unknown option 'holdout'; did you mean 'held_out'"):
        instructions.build(*dataset(tmp_path, parts, holdout=3))


def build(name: str, mirror: Path | None, folder: Path) -> Path:
    download_dataset(name, folder / name, mirror=mirror, cache=folder / "cache")
    check_overlap(folder / name, folder / "overlap.json")
    return folder / name


def counts(folder: Path) -> dict:
    facts = read_json(folder / "provenance.json")
    return {s: {t: c["n"] for t, c in v.items()} for s, v in facts["counts"].items()}


def test_human_eval_ships_in_its_package(tmp_path):
    folder = build("humaneval_164", None, tmp_path)
    assert counts(folder) == {"test": {"humaneval": 164}}
    for record in read_jsonl(folder / "test.jsonl"):
        space: dict = {}
        exec(record["prompt"] + record["answer"], space)
        assert callable(space[record["entry_point"]]), record["id"]
        assert record["prompt"] == record["prompt"].strip()


def test_code_of_the_mirror(mirror, tmp_path):
    folder = build("codealpaca_mirror", mirror, tmp_path)
    assert counts(folder) == {"train": {"codealpaca": 2015}, "test": {"humaneval": 164}}
    assert read_json(folder / "provenance.json")["empty_removed"] == {"codealpaca": 2}
    with_input = [r for r in read_jsonl(folder / "train.jsonl") if r["input"]]
    assert 1000 <= len(with_input) <= 1006


def test_safety_of_the_mirror(mirror, tmp_path):
    folder = build("safety_mirror", mirror, tmp_path)
    # 9,229 rows of Alpaca but 4 empty and 6 of I-Alpaca; a tenth as many safety examples.
    assert counts(folder) == {
        "train": {"alpaca": 9219, "safety": 922},
        "test": {"hexphi": 520 + 178 + 40 + 100 + 100, "harmless": 50 + 100},
    }
    removed = read_json(folder / "provenance.json")["overlaps_removed"]
    assert {task: count["questions"] for task, count in removed.items()} == {
        "alpaca": 6,
        "safety": 0,
    }
    first = [record["task"] for record in read_jsonl(folder / "train.jsonl")[:1000]]
    assert 60 < first.count("safety") < 130


def test_chat_of_the_mirror(mirror, tmp_path):
    folder = build("chat_mirror", mirror, tmp_path)
    assert counts(folder) == {
        "train": {"evol_instruct": 900},
        "test": {"mtbench": 80, "held_out": 100},
    }
    questions = [r for r in read_jsonl(folder / "test.jsonl") if r["task"] == "mtbench"]
    with_reference = [r["category"] for r in questions if "reference" in r]
    assert sorted(set(with_reference)) == ["coding", "math", "reasoning"]
    assert len(with_reference) == 30
    assert len({r["category"] for r in questions}) == 8
    for record in read_jsonl(folder / "train.jsonl"):
        assert "### Instruction" not in record["instruction"][:200]


def test_the_paper_s_sets_are_declared_with_their_filters():
    catalog = load_catalog()
    assert catalog.dataset("wizardlm_52k").options["rows"]["wizardlm"] == [0, 52000]
    train, test = (catalog.dataset(name) for name in ("wizardlm_52k", "mt_bench"))
    for option in ("without", "shorter_than", "rows"):
        assert train.options[option] == test.options[option]
    assert train.sources[0].location == test.sources[-1].location
    gated = catalog.dataset("hexphi_330").sources
    assert [s.gated for s in gated if s.part == "hexphi/test"] == [True] * 10
