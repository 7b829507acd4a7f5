"""What each protocol variant reads from a completion."""

from __future__ import annotations

import pytest

from diablo.data.protocol import load_protocol
from diablo.scoring.lm_tasks import accuracy, extract

QUESTION = "Is it true?\n\nAnswer1: no Answer2: yes\n\nAnswer format: true/false"
OPTIONS = "Which?\n\nSolution1: a Solution2: b\n\nAnswer format: solution1/solution2"

#: task, prompt, completion, then what (paper, peer) and what (released) reads.
CASES = [
    ("boolq", QUESTION, "the correct answer is true", "true", "true"),
    ("boolq", QUESTION, "the correct answer is false", "false", "false"),
    # Several labels: the first one counts ...
    ("piqa", OPTIONS, "solution2, not solution1", "solution2", "solution1"),
    ("piqa", OPTIONS, "the correct answer is solution2 or solution1", "solution2", "solution2"),
    # ... but the released code looks only behind the last "the correct answer is".
    (
        "piqa",
        OPTIONS,
        "solution1? the correct answer is solution2",
        "solution1",
        "solution2",
    ),
    (
        "piqa",
        OPTIONS,
        "the correct answer is solution1\nthe correct answer is solution2",
        "solution1",
        "solution2",
    ),
    # Case matters.
    ("boolq", QUESTION, "The correct answer is True", None, "true"),
    ("boolq", QUESTION, "the correct answer is FALSE", None, None),
    # Nothing said: the released code finds the first option string of the question itself.
    ("boolq", QUESTION, "", None, "true"),
    ("piqa", OPTIONS, "", None, "solution1"),
    ("piqa", OPTIONS, "b", None, "solution1"),
    ("piqa", OPTIONS, "solution2", "solution2", "solution1"),
    # Said, but with nothing behind it: no fallback.
    ("piqa", OPTIONS, "the correct answer is", None, None),
    # A label inside a longer word counts, as in the released and the peer code.
    ("boolq", QUESTION, "untrue", "true", "true"),
    ("piqa", OPTIONS, "the correct answer is solution12", "solution1", "solution1"),
    # A label of another task does not.
    ("boolq", "Well?", "the correct answer is solution1", None, None),
]


@pytest.mark.parametrize(("task", "prompt", "completion", "plain", "released"), CASES)
def test_extraction_table(task, prompt, completion, plain, released):
    for variant, expected in (("paper", plain), ("peer", plain), ("released", released)):
        assert load_protocol("commonsense", variant).extract(task, prompt, completion) == expected
        doc = {"suite": "commonsense", "variant": variant, "task": task, "prompt": prompt}
        assert extract([[completion]], [doc]) == [[expected]]


def test_no_label_is_wrong():
    doc = {"suite": "commonsense", "variant": "paper", "task": "boolq", "answer": "true"}
    assert accuracy(doc, [None]) == {"acc": 0}
    assert accuracy(doc, ["false"]) == {"acc": 0}
    assert accuracy(doc, ["true"]) == {"acc": 1}
