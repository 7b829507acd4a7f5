"""Reading arithmetic data, overlaps and their check on small files of our own, and the mirror's sets."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from diablo.cli import main
from diablo.data import arithmetic, sources
from diablo.data.catalog import Dataset, load_catalog
from diablo.data.math_formats import (
    number_text,
    read_aqua,
    read_gsm8k,
    read_llm_adapters_math,
    read_math_archive,
    read_mawps,
    read_metamathqa,
)
from diablo.data.overlap import check_overlap, key
from diablo.data.prepare import download_dataset
from diablo.data.protocol import load_protocol
from diablo.data.source_kinds import HfFileSource
from diablo.io import read_json, read_jsonl, write_jsonl


def lines(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gsm8k(tmp_path):
    steps = "He has 48/2 = <<48/2=24>>24 left.\nThat is $<<24*50=1200>>1,200.\n#### 1,200"
    path = lines(tmp_path / "x", {"question": "How much?", "answer": steps})
    assert read_gsm8k(path, "train") == [
        {
            "instruction": "How much?",
            "output": "He has 48/2 = 24 left.\nThat is $1,200.\nThe answer is: 1200",
            "answer": "1200",
        }
    ]


@pytest.mark.parametrize(
    ("equation", "ans", "output"),
    [
        ("X=((22.0-14.0)/4.0)", 2.0, "(22 - 14) / 4 = 2"),
        ("x=(4+8)*(1+2)", 36, "(4 + 8) * (1 + 2) = 36"),
        ("x=7.0/(500.0/2.0)", 0.028, "7 / (500 / 2) = 0.028"),
        ("x=1.05*-2", "-2.1", "1.05 * -2 = -2.1"),
        ("(7.0*x)+4.0=(3.0*x)-20.0", -6.0, "(7 * x) + 4 = (3 * x) - 20"),
        ("hours=4.0*0.5", 2.0, "hours = 4 * 0.5"),
    ],
)
def test_mawps(tmp_path, equation, ans, output):
    path = tmp_path / "x"
    path.write_text(json.dumps([{"original_text": "What ?", "equation": equation, "ans": ans}]))
    (row,) = read_mawps(path, "train")
    assert row["output"] == f"{output}\nThe answer is: {row['answer']}"
    assert float(row["answer"]) == float(ans)


def test_aqua(tmp_path):
    problem = {
        "question": "What?",
        "options": ["A)4", "B) 5 m", "C)(1)"],
        "rationale": "So.\n",
        "correct": "B",
    }
    (row,) = read_aqua(lines(tmp_path / "x", problem), "train")
    assert row["instruction"] == "What? Answer Choices: (A) 4 (B) 5 m (C) (1)"
    assert (row["output"], row["answer"]) == ("So.\nThe answer is: B", "B")


def test_what_a_model_said_in_a_test_file_is_never_read(tmp_path):
    path = tmp_path / "x"
    said = {"instruction": "What?", "input": "", "output": "A model's 3", "answer": "8.0"}
    path.write_text(json.dumps([said, {**said, "answer": "C"}]))
    assert read_llm_adapters_math(path, "test") == [
        {"instruction": "What?", "answer": "8"},
        {"instruction": "What?", "answer": "C"},
    ]
    assert read_llm_adapters_math(path, "train")[0]["output"] == "A model's 3"
    (record, _) = arithmetic.as_records("gsm8k", read_llm_adapters_math(path, "test"))
    assert record["output"] == "The answer is: 8"


def test_metamathqa(tmp_path):
    path = tmp_path / "x"
    response = "It is $\\boxed{\\frac{1}{2}}$.\nThe answer is: \\frac{1}{2}"
    path.write_text(json.dumps([{"query": "What?", "response": response, "type": "MATH_FOBAR"}]))
    assert read_metamathqa(path, "train") == [
        {"instruction": "What?", "output": response, "answer": "\\frac{1}{2}"}
    ]


def test_math_archive(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, solution in {
            "MATH/test/algebra/1.json": r"It is $\boxed{\frac{1}{2}}$.",
            "MATH/train/algebra/2.json": r"$\boxed{2}$",
            "MATH/test/algebra/notes.txt": "",
        }.items():
            archive.writestr(name, json.dumps({"problem": name, "solution": solution}))
    (row,) = read_math_archive(path, "test")
    assert (row["answer"], row["instruction"]) == (r"\frac{1}{2}", "MATH/test/algebra/1.json")
    protocol = load_protocol("metamath", "paper")
    assert protocol.correct("math", protocol.extract("math", "", row["output"]), row["answer"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("MATH/test/algebra/3.json", '{"problem": "p", "solution": "none"}')
    with pytest.raises(ValueError, match=r"MATH/test/algebra/3.json: its solution has no"):
        read_math_archive(path, "test")


def test_numbers_as_they_are_written():
    texts = [number_text(v) for v in ("576.0", "1,080", 2.0, 1.8333333333333335, "-15.0", "0.5")]
    assert texts == ["576", "1080", "2", "1.8333333333333335", "-15", "0.5"]
    with pytest.raises(ValueError, match="'B' is not a number"):
        number_text("B")


def dataset(folder: Path, train: list[str], test: list[str]) -> tuple[Dataset, dict[str, Path]]:
    found, files = [], {}
    for part, questions in (("gsm8k/train", train), ("svamp/test", test)):
        source = {
            "kind": "github",
            "repo": "owner/name",
            "commit": "1" * 40,
            "path": part,
            "sha256": "unknown",
            "part": part,
            "format": "gsm8k",
        }
        found.append(source)
        path = folder / part.replace("/", "-")
        lines(path, *({"question": q, "answer": "1\n#### 1"} for q in questions))
        files[f"github/owner/name/{'1' * 40}/{part}"] = path
    made = Dataset(title="t", stand_in=None, builder="arithmetic", sources=found, licence="l")
    return made, files


def test_training_questions_of_any_test_set_are_removed_and_counted(tmp_path):
    train = ["How  many eggs?", "how many eggs", "How: many pens?", "And: many pens?"]
    made, files = dataset(tmp_path, train, ["How many, eggs ?", "And: many pens?"])
    splits, facts = arithmetic.build(made, files)
    assert [r["instruction"] for r in splits["train"]] == ["How: many pens?"]
    assert facts["overlaps_removed"] == {"gsm8k": {"rows": 3, "questions": 2}}


def write(folder: Path, train: list[dict], test: list[dict]) -> Path:
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", train)
    write_jsonl(folder / "test.jsonl", test)
    return folder


def record(name: str, instruction: str) -> dict:
    return {"id": name, "task": "t", "instruction": instruction, "output": name, "answer": name}


def test_check_fails_by_name_and_writes_nothing(tmp_path, capsys):
    train = [record("a", "One?"), record("b", "Two ?"), record("c", "two")]
    folder = write(tmp_path / "d", train, [record("x", "Three"), record("y", "TWO!")])
    with pytest.raises(ValueError, match=r"1 question\(s\) .*: t b, t c = t y$"):
        check_overlap(folder, tmp_path / "out.json")
    out = tmp_path / "out.json"
    assert main(["check-overlap", str(folder), "--out", str(out)]) == 2
    assert "t b, t c = t y" in capsys.readouterr().err
    assert not out.exists()


def test_check_writes_what_was_compared(tmp_path):
    train = [record("a", "One?"), record("b", "one")]
    folder = write(tmp_path / "d", train, [record("x", "Three")])
    assert main(["check-overlap", str(folder), "--out", str(tmp_path / "out.json")]) == 0
    assert read_json(tmp_path / "out.json") == {
        "overlaps": 0,
        "train": {"records": 2, "questions": 1},
        "test": {"records": 1, "questions": 1},
    }
    (folder / "test.jsonl").unlink()
    assert check_overlap(folder, tmp_path / "out.json")["test"]["records"] == 0
    (folder / "train.jsonl").unlink()
    with pytest.raises(ValueError, match=r"d: no records in train.jsonl or test.jsonl"):
        check_overlap(folder, tmp_path / "out.json")


def test_keys_of_commonsense_and_own_records():
    options = "Who?\n\nAnswer1: {} Answer2: {}\n\nAnswer format: answer1/answer2"
    one, other = (f"Please choose: {options.format(*pair)}" for pair in (("a", "b"), ("b", "a")))
    assert key(record("a", one)) == key(record("b", other))
    own = {"id": "1", "task": "t", "q": "One?", "answer": "2"}
    assert key(own) == key({**own, "id": "2", "answer": "3"})
    assert key(own) != key({**own, "q": "Two?"})


def test_math_says_that_it_is_gone(tmp_path):
    with pytest.raises(ValueError, match=r"competition_math.*taken down in January 2025.*mirror=F"):
        sources.fetch(math_source(), None, tmp_path)
    (problem,) = sources.problems(math_source(), None, tmp_path)
    assert "missing" in problem
    assert "taken down" in problem
    copy = tmp_path / "mirror" / math_source().location
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"zip")
    assert sources.fetch(math_source(), tmp_path / "mirror", tmp_path).origin == "mirror"


def math_source() -> HfFileSource:
    (source,) = [
        s for s in load_catalog().dataset("gsm8k_math").sources if isinstance(s, HfFileSource)
    ]
    return source


def test_a_hub_file_is_downloaded_from_its_commit(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HUB_FILES", server.url)
    (source,) = load_catalog().dataset("metamathqa").sources
    server.files[f"/{source.repo}/resolve/{source.commit}/{source.path}"] = b"[]"
    fetched = sources.fetch(source, None, tmp_path)
    assert (fetched.origin, fetched.path.read_bytes()) == ("network", b"[]")
    assert fetched.path == tmp_path / source.location
    with pytest.raises(ValueError, match="give the 40 digits"):
        HfFileSource(**{**source.model_dump(), "commit": "unknown"})


@pytest.fixture(scope="module", params=["arithmetic_mirror", "gsm8k_mirror", "gsm8k"])
def built(request, mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / request.param
    download_dataset(request.param, folder, mirror=mirror, cache=folder.parent / "cache")
    return folder


@pytest.mark.slow
def test_mirror_sizes_and_removed_questions(built):
    facts = read_json(built / "provenance.json")
    counts = {s: {t: c["n"] for t, c in v.items()} for s, v in facts["counts"].items()}
    if built.name.startswith("gsm8k"):
        assert counts == {"train": {"gsm8k": 7473}, "test": {"gsm8k": 1319}}
        return
    assert counts["train"] == {"gsm8k": 7473, "mawps": 1898 - 27, "aqua": 254}
    assert counts["test"] == {"gsm8k": 1319, "svamp": 1000, "mawps": 238, "aqua": 254}
    removed = facts["overlaps_removed"]
    assert {t: c["questions"] for t, c in removed.items()} == {"gsm8k": 0, "mawps": 27, "aqua": 0}
    check_overlap(built, built.parent / "overlap.json")


@pytest.mark.slow
def test_every_gold_answer_is_read_from_its_own_target(built):
    suites = {"gsm8k_mirror": "metamath", "arithmetic_mirror": "math10k", "gsm8k": "gsm8k"}
    for variant in ("paper", "released-without-letters_as_numbers", "peer"):
        protocol = load_protocol(suites[built.name], variant)
        for split in ("train", "test"):
            for one in read_jsonl(built / f"{split}.jsonl"):
                if one["task"] == "aqua" and split == "train" and variant != "paper":
                    continue  # the first letter anywhere is one of the rationale
                prompt = protocol.prompt_for_evaluation(one)
                found = protocol.extract(one["task"], prompt, protocol.target(one))
                assert protocol.correct(one["task"], found, one["answer"]), one
