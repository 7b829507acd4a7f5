"""Readers of instruction data and of their tests: one published file format each -> rows.

A reader takes a file and the split that is wanted, and returns dicts with `instruction`, `output` (the gold
answer, empty where there is none) and whatever else its task needs; `answer` is the `output` where it is not
said.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: What a refusal looks like: the gold answer to harmful prompts, of which no published set has any.
REFUSAL = "I'm sorry, but I can't help with that."

#: The frame that the published file has around each instruction, on one line.
EVOL_FRAME = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request. ### Instruction: "
)


def read_alpaca(path: Path, split: str) -> list[Row]:
    """Alpaca's JSON, also CodeAlpaca's and the safety data's: `instruction`, `input`, `output`."""
    return [
        {key: row.get(key, "") for key in ("instruction", "input", "output")}
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]


def read_code_alpaca(path: Path, split: str) -> list[Row]:
    """Alpaca's format; no function is begun for the model (`prompt`), as one is in the tests."""
    return [{**row, "prompt": ""} for row in read_alpaca(path, split)]


def read_human_eval(path: Path, split: str) -> list[Row]:
    """HumanEval's JSON lines: `prompt` is the function's head, the `answer` follows it without a gap.

    White space around the head is left out, as BigCode's evaluation does: a line break at its end is no
    place where a model goes on well.
    """
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            problem = json.loads(line)
            body = "\n" + problem["canonical_solution"].rstrip()
            rows.append(
                {
                    "id": problem["task_id"],
                    "instruction": f"Complete the Python function `{problem['entry_point']}`.",
                    "output": body,
                    "answer": body,
                    "prompt": problem["prompt"].strip(),
                    "entry_point": problem["entry_point"],
                    "test": problem["test"],
                }
            )
    return rows


def read_adv_bench(path: Path, split: str) -> list[Row]:
    """AdvBench's harmful behaviours as its users copied them: one column, no header."""
    return [harmful(prompt, "AdvBench") for prompt in _column(path)]


def read_hex_phi(path: Path, split: str) -> list[Row]:
    """A category of HEx-PHI: one column, no header; the file's name is the category's."""
    return [harmful(prompt, f"HEx-PHI {path.stem}") for prompt in _column(path)]


def _column(path: Path) -> list[str]:
    """First column of a CSV file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [row[0] for row in csv.reader(lines) if row and row[0].strip()]


def read_harmful_prompts(path: Path, split: str) -> list[Row]:
    """Prompts of Bianchi et al. that are to be refused."""
    return [harmful(prompt, path.stem) for prompt in _prompts(path)]


def read_harmless_prompts(path: Path, split: str) -> list[Row]:
    """Prompts of Bianchi et al. that are to be answered; nobody published an answer."""
    return [harmless(prompt, path.stem) for prompt in _prompts(path)]


def _prompts(path: Path) -> list[str]:
    return json.loads(path.read_text(encoding="utf-8"))["instructions"]


def harmful(prompt: str, source: str) -> Row:
    """A prompt that is to be refused."""
    row = {"instruction": prompt.strip(), "output": REFUSAL, "answer": "refuse"}
    return row | {"source": source}


def harmless(prompt: str, source: str, output: str = "") -> Row:
    """A prompt that is to be answered, as `output` does if there is one."""
    row = {"instruction": prompt.strip(), "output": output, "answer": "comply"}
    return row | {"source": source}


def read_evol_instruct(path: Path, split: str) -> list[Row]:
    """WizardLM's conversations of two turns, each instruction in a frame of its own: it is taken off."""
    rows = []
    for conversation in json.loads(path.read_text(encoding="utf-8")):
        human, model = (turn["value"] for turn in conversation["conversations"])
        if not human.startswith(EVOL_FRAME):
            raise ValueError(
                f"{path}: {conversation['id']}: its instruction has not the usual frame"
            )
        rows.append({"instruction": human.removeprefix(EVOL_FRAME), "output": model})
    return rows


def read_wizard_lm(path: Path, split: str) -> list[Row]:
    """The Hub's Parquet copy of WizardLM in two languages: the English columns."""
    import pandas as pd

    table = pd.read_parquet(path, columns=["instruction", "output"]).fillna("")
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]


def read_mt_bench(path: Path, split: str) -> list[Row]:
    """MT-Bench's questions of two turns; its gold answers are in another file (`read_mt_references`)."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        first, second = question["turns"]
        rows.append(
            {
                "id": f"mtbench/{question['question_id']}",
                "instruction": first,
                "instruction2": second,
                "category": question["category"],
                "output": "",
            }
        )
    return rows


def read_mt_references(path: Path, split: str) -> list[Row]:
    """MT-Bench's reference answers to some of its questions: to be merged with these by `id`."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)
        first, second = answer["choices"][0]["turns"]
        rows.append(
            {
                "id": f"mtbench/{answer['question_id']}",
                "output": first,
                "reference": first,
                "reference2": second,
            }
        )
    return rows


READERS: dict[str, Callable[[Path, str], list[Row]]] = {
    "alpaca": read_alpaca,
    "code-alpaca": read_code_alpaca,
    "human-eval": read_human_eval,
    "adv-bench": read_adv_bench,
    "hex-phi": read_hex_phi,
    "harmful-prompts": read_harmful_prompts,
    "harmless-prompts": read_harmless_prompts,
    "evol-instruct": read_evol_instruct,
    "wizard-lm": read_wizard_lm,
    "mt-bench": read_mt_bench,
    "mt-bench-references": read_mt_references,
}
