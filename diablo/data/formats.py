"""Readers: one published file format each -> records in LLM-Adapters' instruction form.

A reader takes a file and the split that is wanted, and returns dicts with `instruction` and
`answer`. The wording and the white space are those of LLM-Adapters' own files (SocialIQA's dev
part, put through `social_i_qa` below, equals their test file character for character).
"""

from __future__ import annotations

import bz2
import gzip
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, str]


def piqa(goal: str, solutions: list[str], label: int) -> Row:
    """A PIQA question; `label` starts at 0."""
    options = "\n\n".join(f"Solution{i}: {text}" for i, text in enumerate(solutions, start=1))
    return {
        "instruction": f"Please choose the correct solution to the question: {goal}\n\n{options}"
        "\n\nAnswer format: solution1/solution2",
        "answer": f"solution{label + 1}",
    }


def social_i_qa(context: str, question: str, answers: list[str], label: int) -> Row:
    """A SocialIQA question; `label` starts at 0."""
    options = " ".join(f"Answer{i}: {text}" for i, text in enumerate(answers, start=1))
    return {
        "instruction": f"Please choose the correct answer to the question: {context} {question}"
        f"\n\n{options}\n\nAnswer format: answer1/answer2/answer3",
        "answer": f"answer{label + 1}",
    }


def winogrande(sentence: str, options: list[str], label: int) -> Row:
    """A WinoGrande sentence; `label` starts at 0. The answer format stays on the options' line."""
    listed = " ".join(f"Option{i}: {text}" for i, text in enumerate(options, start=1))
    return {
        "instruction": "Please choose the correct answer to fill in the blank to complete the "
        f"given sentence: {sentence}\n\n{listed} Answer format: option1/option2",
        "answer": f"option{label + 1}",
    }


def hellaswag(context: str, endings: list[str], label: int) -> Row:
    """A HellaSwag context (`activity label: text`) and its four endings; `label` starts at 0."""
    listed = " ".join(f"Ending{i}: {text}" for i, text in enumerate(endings, start=1))
    return {
        "instruction": "Please choose the correct ending to complete the given sentence: "
        f"{context}\n\n{listed}\n\nAnswer format: ending1/ending2/ending3/ending4",
        "answer": f"ending{label + 1}",
    }


def read_llm_adapters(path: Path, split: str) -> list[Row]:
    """LLM-Adapters' JSON: already in the form that is wanted."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [{"instruction": row["instruction"], "answer": row["answer"]} for row in rows]


def read_piqa_requests(path: Path, split: str) -> list[Row]:
    """OLMo's PIQA evaluation requests: labels start at 0."""
    documents = _request_documents(path)
    return [piqa(d["goal"], [d["sol1"], d["sol2"]], d["label"]) for d in documents]


def read_winogrande_requests(path: Path, split: str) -> list[Row]:
    """OLMo's WinoGrande evaluation requests: answers are '1' or '2'."""
    documents = _request_documents(path)
    return [
        winogrande(d["sentence"], [d["option1"], d["option2"]], int(d["answer"]) - 1)
        for d in documents
    ]


def _request_documents(path: Path) -> list[dict[str, Any]]:
    """One `doc` for each `doc_id`: the dump has a line for every answer option."""
    documents: dict[int, dict[str, Any]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            document = documents.setdefault(request["doc_id"], request["doc"])
            if document != request["doc"]:
                raise ValueError(f"{path}: doc_id {request['doc_id']} has two different docs")
    return list(documents.values())


def read_socialiqa_archive(path: Path, split: str) -> list[Row]:
    """SocialIQA's own archive; labels are '1' to '3' in a file beside the questions.

    Its dev part is the test set of the suite, so it is never read as training data.
    """
    member = {"train": "train", "test": "dev"}[split]
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(f"socialiqa-train-dev/{member}.jsonl").decode().splitlines()
        labels = archive.read(f"socialiqa-train-dev/{member}-labels.lst").decode().split()
    rows = []
    for line, label in zip(lines, labels, strict=True):
        q = json.loads(line)
        answers = [q["answerA"], q["answerB"], q["answerC"]]
        rows.append(social_i_qa(q["context"], q["question"], answers, int(label) - 1))
    return rows


def read_hellaswag_text(path: Path, split: str) -> list[Row]:
    """klosax's text of the validation split: 6 lines an item, label from 0, bracket tags removed."""
    lines = bz2.decompress(path.read_bytes()).decode("utf-8").split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) % 6:
        raise ValueError(f"{path}: {len(lines)} lines, expected 6 for each item")
    items = [lines[i : i + 6] for i in range(0, len(lines), 6)]
    return [hellaswag(context, endings, int(label)) for context, label, *endings in items]


def read_hellaswag_abstain(path: Path, split: str) -> list[Row]:
    """AbstainQA's HellaSwag sample: key `dev` is a sample of the train split.

    Key `test` is part of the suite's test set, so it is never read. The rows have no activity
    label; bracket tags are removed as they are in the test text.
    """
    if split != "train":
        raise ValueError(f"{path}: only its training rows may be used, not {split!r}")
    rows = []
    for q in json.loads(path.read_text(encoding="utf-8"))["dev"]:
        endings = [without_tags(q["choices"][letter]) for letter in "ABCD"]
        rows.append(hellaswag(without_tags(q["question"]), endings, "ABCD".index(q["answer"])))
    return rows


def without_tags(text: str) -> str:
    """Remove WikiHow's bracket tags: '[header] A [title] B. [step] C' -> 'A. B. C'."""
    text = re.sub(r"\.?\s+\[title\]\s*", ". ", text)
    text = re.sub(r"\[(?:header|title|step|substeps)\]", " ", text)
    return " ".join(text.split())


READERS: dict[str, Callable[[Path, str], list[Row]]] = {
    "llm-adapters": read_llm_adapters,
    "piqa-requests": read_piqa_requests,
    "winogrande-requests": read_winogrande_requests,
    "socialiqa-archive": read_socialiqa_archive,
    "hellaswag-text": read_hellaswag_text,
    "hellaswag-abstain": read_hellaswag_abstain,
}
