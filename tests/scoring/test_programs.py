"""Completions as programs: raw ones continue the prompt, answers have their code taken out."""

from __future__ import annotations

import pytest

from diablo.generation.prompts import Prompt
from diablo.scoring.programs import check_record, code_of, program_of

HEAD = '''from typing import List
import math


def helper(x):
    return x


def double(values: List[int]) -> List[int]:
    """Twice each.
    >>> double([1])
    [2]
    """
'''
BEFORE = HEAD[: HEAD.index("def double")]
FUNCTION = "def double(values):\n    return [2 * v for v in values]\n"
RECORD = {
    "task": "humaneval",
    "id": "HumanEval/0",
    "prompt": HEAD,
    "entry_point": "double",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
    "answer": "",
}


def framed(text: str = "### Instruction:\nWrite double.\n### Response:\n", **fields) -> Prompt:
    return Prompt(text, {**RECORD, **fields})


def runs(program: str) -> bool:
    space: dict = {}
    exec(program, space)
    return space["double"]([1, 2]) == [2, 4]


@pytest.mark.parametrize("text", [HEAD, HEAD.strip(), HEAD.rstrip()])
def test_a_raw_completion_continues_the_prompt_as_the_model_saw_it(text):
    completion = "\n    return [2 * v for v in values]"
    program = program_of(framed(text), completion)
    assert program == text + completion
    assert runs(program)


def test_a_head_behind_a_frame_is_continued_too():
    text = f"### Instruction:\nWrite double.\n### Response:\n{HEAD.rstrip()}"
    program = program_of(framed(text), "\n    return [2 * v for v in values]")
    assert program == f"{HEAD.rstrip()}\n    return [2 * v for v in values]"
    assert runs(program)


def test_a_raw_completion_is_not_repaired():
    fence = "    ```python\n    return values\n```"
    assert program_of(framed(HEAD), fence) == HEAD + fence


@pytest.mark.parametrize(
    "answer",
    [
        FUNCTION,
        f"Here it is:\n\n{FUNCTION}",
        f"```python\n{FUNCTION}```",
        f"```\n{FUNCTION}```\nIt doubles.",
        f"Sure.\n```python\n{FUNCTION}```\nUse it so:\n```python\nprint(double([1]))\n```",
        f"First\n```bash\npip install x\n```\nthen\n```python\n{FUNCTION}```",
        f"```python\n{FUNCTION}",  # cut off before the end of the block
        f"  ```python\n  {FUNCTION.replace(chr(10), chr(10) + '  ')}\n  ```",
        f"\nimport math\n{FUNCTION}",
    ],
)
def test_the_code_of_an_answer(answer):
    program = program_of(framed(), answer)
    assert program.startswith(BEFORE)
    assert "Here it is" not in program
    assert "```" not in program
    assert runs(program)


def test_an_answer_may_use_the_imports_and_helpers_of_the_head():
    answer = (
        "```python\ndef double(values: List[int]):\n    return [helper(2 * v) for v in values]\n```"
    )
    assert runs(program_of(framed(), answer))


@pytest.mark.parametrize(
    "body", ["    return [2 * v for v in values]", "return [2 * v for v in values]"]
)
@pytest.mark.parametrize("form", ["{}", "```python\n{}\n```"])
def test_an_answer_without_the_head_is_its_body(body, form):
    program = program_of(framed(), form.format(body))
    assert program.startswith(HEAD.rstrip())
    assert runs(program)


def test_the_name_is_matched_as_a_whole():
    assert code_of("```\ndef double_it(x): 1\n```\n```\ndef double(x): 2\n```", "double") == (
        "def double(x): 2\n"
    )


def test_any_text_becomes_some_program():
    for answer in ("", "\n", "```", "```\n```", "no code at all", "\ud800", "def double"):
        assert isinstance(program_of(framed(), answer), str)


@pytest.mark.parametrize("field", ["prompt", "entry_point", "test"])
def test_a_record_that_cannot_be_run(field):
    for value in (None, "", 3):
        with pytest.raises(ValueError, match=rf"humaneval 'HumanEval/0': no '{field}'"):
            check_record(framed(**{field: value}))


def test_a_prompt_without_the_function():
    with pytest.raises(ValueError, match=r"'HumanEval/0': its prompt has no 'def triple'"):
        check_record(framed(entry_point="triple"))
