"""Made-up files in the published formats: what `diablo.data`'s readers of the paper scale read.

A writer takes the file to write, the part that it is (task and split) and the numbers of its rows.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diablo.data.glue import LABELS
from diablo.rehearsal import rows

Numbers = Sequence[int]
Writer = Callable[[Path, str, Numbers], None]


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _json_lines(path: Path, values: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def _parquet(path: Path, values: list[dict[str, Any]]) -> None:
    import pandas as pd

    pd.DataFrame(values).to_parquet(path)


def llm_adapters(path: Path, part: str, numbers: Numbers) -> None:
    """A test set of one task, or Commonsense-170k."""
    task = part.split("/")[0]
    make = partial(rows.commonsense, task) if task in rows.COMMONSENSE else rows.commonsense_mix
    _json(path, [make(n) for n in numbers])


def llm_adapters_math(path: Path, part: str, numbers: Numbers) -> None:
    """Answers are numbers as text with a decimal point, AQuA's letters."""
    found = []
    for n in numbers:
        row = rows.arithmetic(n)
        text, answer = row["question"], f"{row['answer']}.0"
        if part.startswith("aqua"):
            text, answer = f"{text} Answer Choices: (A) {n} (B) {row['answer']}", "B"
        output = f"{row['steps']}\nThe answer is: {answer}"
        found.append({"instruction": text, "input": "", "output": output, "answer": answer})
    _json(path, found)


def metamathqa(path: Path, part: str, numbers: Numbers) -> None:
    found = []
    for n in numbers:
        row = rows.arithmetic(n)
        response = f"{row['steps']}\n#### {row['answer']}\nThe answer is: {row['answer']}"
        question = row["question"]
        about = {"type": "GSM_Rephrased", "query": question, "original_question": question}
        found.append({**about, "response": response})
    _json(path, found)


def gsm8k(path: Path, part: str, numbers: Numbers) -> None:
    """With the marks for a calculator."""
    found = []
    for n in numbers:
        row = rows.arithmetic(n)
        steps = row["steps"].replace("= ", f"= <<{row['answer']}={row['answer']}>>")
        found.append({"question": row["question"], "answer": f"{steps}\n#### {row['answer']}"})
    _json_lines(path, found)


def math_archive(path: Path, part: str, numbers: Numbers) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for n in numbers:
            row = rows.arithmetic(n)
            problem = {
                "problem": row["question"],
                "level": "Level 1",
                "type": "Algebra",
                "solution": rf"{row['steps']} The answer is $\boxed{{{row['answer']}}}$.",
            }
            archive.writestr(f"MATH/{part.split('/')[1]}/algebra/{n}.json", json.dumps(problem))


def wikitext(path: Path, part: str, numbers: Numbers) -> None:
    """An article a number: its heading, and some lines."""
    found = []
    for n in numbers:
        lines = [f" = Box {n} = \n", "", " == Contents == \n"]
        lines += [f" There is lamp {line} in box {n} , and it is red . \n" for line in range(20)]
        found += [{"text": line} for line in lines]
    _parquet(path, found)


def alpaca(path: Path, part: str, numbers: Numbers) -> None:
    _json(path, [rows.instruction(n) for n in numbers])


def code_alpaca(path: Path, part: str, numbers: Numbers) -> None:
    _json(path, [rows.program(n) for n in numbers])


def hex_phi(path: Path, part: str, numbers: Numbers) -> None:
    """One column without a header. The prompts are harmless."""
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(
            [f"Open box {n} of {path.stem}, which is locked."] for n in numbers
        )


def harmless_prompts(path: Path, part: str, numbers: Numbers) -> None:
    _json(path, {"instructions": [f"Describe box {n} of {path.stem}." for n in numbers]})


def wizard_lm(path: Path, part: str, numbers: Numbers) -> None:
    _parquet(path, [rows.chat(n) for n in numbers])


def mt_bench(path: Path, part: str, numbers: Numbers) -> None:
    _json_lines(path, [rows.question(n) for n in numbers])


def mt_references(path: Path, part: str, numbers: Numbers) -> None:
    """Of mathematics, reasoning and coding alone."""
    found = []
    for question in map(rows.question, numbers):
        if question["category"] in ("math", "reasoning", "coding"):
            turns = ["It is red.", "Its colour is red."]
            choices = [{"index": 0, "turns": turns}]
            found.append({"question_id": question["question_id"], "choices": choices})
    _json_lines(path, found)


def glue(task: str, path: Path, part: str, numbers: Numbers) -> None:
    _parquet(path, [rows.pair(task, n) | {"idx": n} for n in numbers])


#: By the format's name in the catalogue; every format of a file that the paper scale downloads.
WRITERS: dict[str, Writer] = {
    "llm-adapters": llm_adapters,
    "llm-adapters-math": llm_adapters_math,
    "metamathqa": metamathqa,
    "gsm8k": gsm8k,
    "math-archive": math_archive,
    "wikitext": wikitext,
    "alpaca": alpaca,
    "code-alpaca": code_alpaca,
    "hex-phi": hex_phi,
    "harmless-prompts": harmless_prompts,
    "wizard-lm": wizard_lm,
    "mt-bench": mt_bench,
    "mt-bench-references": mt_references,
    **{f"glue-{task}": partial(glue, task) for task in LABELS},
}
