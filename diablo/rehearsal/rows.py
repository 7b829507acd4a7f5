"""What the made-up files say: for each task, row number n as the fields that its file format writes.

Every row has its number in its question, so that none is another one. Nothing of a real data set is in it.
"""

from __future__ import annotations

from typing import Any

from diablo.data import formats
from diablo.data.glue import COLUMNS, LABELS

Row = dict[str, Any]

#: Tasks of lettered choices without a format function of their own.
_QUESTION = "Please choose the correct answer to the question: "
CATEGORIES = (
    *("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"),
)


def commonsense(task: str, n: int) -> Row:
    """LLM-Adapters' `instruction`, `input`, `output`, `answer` of one of the eight tasks."""
    things = [f"box {n}", f"lamp {n}", f"road {n}", f"river {n}"]
    if task == "boolq":
        text = f"Please answer the following question with true or false, question: is box {n} red?"
        row = {
            "instruction": f"{text}\n\nAnswer format: true/false",
            "answer": ("true", "false")[n % 2],
        }
    elif task == "piqa":
        row = formats.piqa(f"How do I open box {n}?", things[:2], n % 2)
    elif task == "social_i_qa":
        row = formats.social_i_qa(f"Kim found box {n}.", "What comes next?", things[:3], n % 3)
    elif task == "winogrande":
        row = formats.winogrande(f"Kim put _ into box {n}.", things[1:3], n % 2)
    elif task == "hellaswag":
        row = formats.hellaswag(f"Opening boxes: Kim takes box {n}", things, n % 4)
    else:
        listed = " ".join(f"Answer{i}: {text}" for i, text in enumerate(things, start=1))
        asked = f"{_QUESTION}What is in box {n} of {task}?\n\n{listed}"
        row = {
            "instruction": f"{asked}\n\nAnswer format: answer1/answer2/answer3/answer4",
            "answer": f"answer{n % 4 + 1}",
        }
    output = f"the correct answer is {row['answer']}"
    return {
        "instruction": row["instruction"],
        "input": "",
        "output": output,
        "answer": row["answer"],
    }


COMMONSENSE = (
    *("boolq", "piqa", "social_i_qa", "hellaswag"),
    *("winogrande", "arc_easy", "arc_challenge", "openbookqa"),
)


def commonsense_mix(n: int) -> Row:
    """A row of Commonsense-170k: the eight tasks in turn."""
    return commonsense(COMMONSENSE[n % len(COMMONSENSE)], n)


def arithmetic(n: int) -> Row:
    """A sum in words: `question`, `steps` and the number `answer`."""
    other = n % 7 + 2
    return {
        "question": f"Kim has {n} boxes and finds {other} more. How many boxes does Kim have?",
        "steps": f"Kim has {n} + {other} = {n + other} boxes.",
        "answer": n + other,
    }


def instruction(n: int) -> Row:
    """Alpaca's `instruction`, `input`, `output`; every third has an input."""
    return {
        "instruction": f"Say what is in box {n}.",
        "input": f"Box {n} is red." if n % 3 == 0 else "",
        "output": f"There is a lamp in box {n}.",
    }


def program(n: int) -> Row:
    """The same, with a program to be written."""
    return {
        "instruction": f"Write a Python function that adds {n}.",
        "input": "",
        "output": f"def add(x):\n    return x + {n}",
    }


def chat(n: int) -> Row:
    """An instruction and an answer; now and then a refusal, which the filters drop."""
    output = f"Box {n} is red." if n % 1000 else "Sorry, I cannot say that."
    return {"instruction": f"Describe box {n}.", "output": output}


def question(n: int) -> Row:
    """A question of MT-Bench: the categories take turns by tens."""
    return {
        "question_id": 81 + n,
        "category": CATEGORIES[n // 10 % len(CATEGORIES)],
        "turns": [f"Describe box {n}.", "Say it again in other words."],
    }


def pair(task: str, n: int) -> Row:
    """A row of a GLUE task: its columns, and the label's number."""
    texts = [f"Box {n} is red.", f"There is a lamp in box {n}."]
    return {**dict(zip(COLUMNS[task], texts, strict=False)), "label": n % len(LABELS[task])}
