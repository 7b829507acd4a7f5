"""Readers of arithmetic reasoning: one published file format each -> question, worked answer, answer.

A reader takes a file and the split that is wanted, and returns dicts with `instruction`, `answer` and,
where the file has one, a worked `output` that ends in "The answer is: " and the answer.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from diablo.data.latex import boxed
from diablo.data.reading import as_number

Row = dict[str, str]


def worked(steps: str, answer: str) -> str:
    """A worked answer: the steps, then the answer behind the phrase on a line of its own."""
    return f"{steps.strip()}\nThe answer is: {answer}"


def number_text(value: str | float) -> str:
    """A number as it is written: whole ones without a decimal point, none with commas."""
    text = str(value).replace(",", "").strip()
    found = as_number(text)
    if found is None:
        raise ValueError(f"answer {value!r} is not a number")
    return str(int(found)) if found == int(found) else text


def read_gsm8k(path: Path, split: str) -> list[Row]:
    """GSM8K's own JSON lines: `<<48/2=24>>` are marks for a calculator, `#### n` is the answer."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        problem = json.loads(line)
        steps, _, answer = problem["answer"].rpartition("####")
        answer = number_text(answer)
        output = worked(re.sub(r"<<.*?>>", "", steps), answer)
        rows.append({"instruction": problem["question"], "output": output, "answer": answer})
    return rows


def read_mawps(path: Path, split: str) -> list[Row]:
    """MAWPS' JSON: the equation is the worked answer, solved for x where it is."""
    rows = []
    for problem in json.loads(path.read_text(encoding="utf-8")):
        answer = number_text(problem["ans"])
        equation = re.sub(r"(\d)\.0\b", r"\1", problem["equation"])
        solved = re.fullmatch(r"\s*[xX]\s*=\s*([^A-Za-z]+)", equation)
        steps = f"{_without_brackets(solved.group(1).strip())} = {answer}" if solved else equation
        rows.append(
            {
                "instruction": problem["original_text"],
                "output": worked(_spaced(steps), answer),
                "answer": answer,
            }
        )
    return rows


def _without_brackets(text: str) -> str:
    """`(3+4)` as `3+4`; `(3+4)*(1+2)` as it is."""
    if not text.startswith("("):
        return text
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 else text
    return text


def _spaced(text: str) -> str:
    """Spaces around the operators between two operands."""
    return re.sub(r"(?<=[\w.)])\s*([-+*/=])\s*", r" \1 ", text)


def read_aqua(path: Path, split: str) -> list[Row]:
    """AQuA-RAT's JSON lines, in the wording of LLM-Adapters' test file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        problem = json.loads(line)
        options = [option.split(")", 1) for option in problem["options"]]
        listed = " ".join(f"({letter}) {text.strip()}" for letter, text in options)
        rows.append(
            {
                "instruction": f"{problem['question'].strip()} Answer Choices: {listed}",
                "output": worked(problem["rationale"], problem["correct"]),
                "answer": problem["correct"],
            }
        )
    return rows


def read_llm_adapters_math(path: Path, split: str) -> list[Row]:
    """LLM-Adapters' JSON: questions and answers; worked answers in the training set alone.

    The `output` of its test files is what a model said, often wrong: it is never read.
    """
    rows = []
    for problem in json.loads(path.read_text(encoding="utf-8")):
        answer = str(problem["answer"]).strip()
        answer = answer if as_number(answer) is None else number_text(answer)
        row = {"instruction": problem["instruction"], "answer": answer}
        rows.append(row | {"output": problem["output"].strip()} if split == "train" else row)
    return rows


def read_metamathqa(path: Path, split: str) -> list[Row]:
    """MetaMathQA's JSON: `query` and `response`, which ends in "The answer is: "."""
    rows = []
    for problem in json.loads(path.read_text(encoding="utf-8")):
        response = problem["response"].strip()
        answer = response.rpartition("The answer is: ")[2].strip()
        rows.append({"instruction": problem["query"], "output": response, "answer": answer})
    return rows


def read_math_archive(path: Path, split: str) -> list[Row]:
    r"""MATH's archive: a JSON file for each problem; the answer is the last `\boxed{}` of its solution."""
    rows = []
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if re.search(rf"/{split}/[^/]+/\d+\.json$", f"/{n}")]
        for name in sorted(names):
            problem = json.loads(archive.read(name))
            answer = boxed(problem["solution"])
            if answer is None:
                raise ValueError(f"{path}: {name}: its solution has no \\boxed{{}} answer")
            output = worked(problem["solution"], answer)
            rows.append({"instruction": problem["problem"], "output": output, "answer": answer})
    return rows


READERS: dict[str, Callable[[Path, str], list[Row]]] = {
    "gsm8k": read_gsm8k,
    "mawps": read_mawps,
    "aqua": read_aqua,
    "llm-adapters-math": read_llm_adapters_math,
    "metamathqa": read_metamathqa,
    "math-archive": read_math_archive,
}
