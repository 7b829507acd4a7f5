"""From a completion to a program: what is run for HumanEval and its like.

Nothing is executed or even parsed here, only looked through with regular expressions: the text comes
from a model.
"""

from __future__ import annotations

import re
import textwrap

from diablo.generation.prompts import Prompt

#: What a problem's record has, besides its id and task.
FIELDS = ("prompt", "entry_point", "test")
#: A fenced block of code; the last one may have no end.
BLOCK = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
#: Where code begins that has text before it.
CODE = re.compile(r"^(?:from|import|def|async def|class|@)\b|^@", re.MULTILINE)


def check_record(prompt: Prompt) -> None:
    """Refuse a problem that could not be run.

    Raises:
        ValueError: if the record lacks a field, or its prompt has no head of the function; names both.
    """
    record = prompt.record
    for field in FIELDS:
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise ValueError(
                f"{prompt.task} {prompt.id!r}: no {field!r}; a record whose code is run has "
                f"{', '.join(FIELDS)}"
            )
    if _head(record["prompt"], record["entry_point"]) is None:
        raise ValueError(
            f"{prompt.task} {prompt.id!r}: its prompt has no 'def {record['entry_point']}' (entry_point)"
        )


def program_of(prompt: Prompt, completion: str) -> str:
    """The program of one completion.

    Where the text that the model went on with ends in the function's head (alone, or behind a training
    frame), the program is that head and the completion. Otherwise it was asked in words: the program is
    the code of its answer, behind whatever the head's record has before the function (imports, helpers);
    an answer without the function's head is taken for its body.

    Raises:
        ValueError: see `check_record`.
    """
    check_record(prompt)
    head, name = prompt.record["prompt"], prompt.record["entry_point"]
    if prompt.text.rstrip().endswith(head.strip()):
        return prompt.text[prompt.text.rindex(head.strip()) :] + completion
    code = code_of(completion, name)
    if _head(code, name) is None:
        body = code if code[:1].isspace() else textwrap.indent(code, "    ")
        return f"{head.rstrip()}\n{body}"
    return f"{head[: _head(head, name)]}\n{code}"


def code_of(answer: str, name: str) -> str:
    """The code in an answer: the fenced block with the function, the first block, or the bare text.

    Of a bare text with the function, what stands before the first line of code is left out.
    """
    blocks = BLOCK.findall(answer)
    if blocks:
        blocks = [textwrap.dedent(block) for block in blocks]
        return next((block for block in blocks if _head(block, name) is not None), blocks[0])
    text = answer.strip("\n")
    bare = textwrap.dedent(text)
    if _head(bare, name) is not None and (start := CODE.search(bare)):
        return bare[start.start() :]
    return text


def _head(code: str, name: str) -> int | None:
    """Where the function's definition begins."""
    found = re.search(rf"^(?:async\s+)?def\s+{re.escape(name)}\b", code, re.MULTILINE)
    return found.start() if found else None
