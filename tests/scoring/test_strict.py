"""MATH's answers under both readings, and the judge that no degenerate formula can stop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from math_cases import DEGENERATE, GROUPS

from diablo.data.reading import Latex
from diablo.scoring.strict import JUDGE, Judge, Strict

#: How a completion says its answer: as MetaMathQA does, with the box of MATH's solutions before it.
FORMS = ("It is {0}. The answer is: {0}", "It is $\\boxed{{{0}}}$.\nThe answer is: {0}")


def verdicts(reading, case) -> list[bool]:
    found = [reading.extract("", form.format(case.said)) for form in FORMS]
    return [reading.correct(extracted, case.gold) for extracted in found]


@pytest.mark.parametrize("group", GROUPS)
def test_normalised_equality(group):
    for case in GROUPS[group]:
        assert verdicts(Latex(), case) == [case.same] * 2, case


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_strict_reading(group):
    for case in GROUPS[group]:
        assert verdicts(Strict(), case) == [case.strict] * 2, case


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        ("12 + 60 = 72. The answer is: 72", "72"),
        ("The answer is: 1,234", "1,234"),
        ("The answer is: 18 dollars.", "18"),
        ("she has 18 eggs", "18"),
        (r"The answer is: 3\frac{1}{2}", r"3\frac{1}{2}"),
        (r"so $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        ("", None),
        ("no answer", None),
    ],
)
def test_what_the_strict_reading_finds(completion, found):
    assert Strict().extract("", completion) == found


def test_equal_numbers_in_another_spelling_are_right():
    strict = Strict()
    assert strict.correct("18", "18.0")
    assert strict.correct("1,234", "1234")
    assert strict.correct("1.833333", "1.8333333333333335")
    assert not strict.correct("1.83", "1.8333333333333335")
    assert not strict.correct(None, "18")


def test_it_works_outside_the_main_thread():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(Strict().correct, r"\frac{2}{4}", r"\frac{1}{2}").result() is True


@pytest.mark.slow
def test_a_judge_that_does_not_answer_is_replaced():
    judge = Judge(last=0)
    assert judge.ask("find", "The answer is: 3") is None
    judge.last = 60
    assert judge.ask("find", "The answer is: 3") == "3"
    judge._process.kill()
    judge._process.join()
    assert judge.ask("find", "The answer is: 3") is None
    assert judge.ask("find", "The answer is: 3") == "3"
    judge.close()


def test_what_raises_has_no_answer():
    assert JUDGE.ask("no such question") is None
    for case in DEGENERATE[:8]:
        assert Strict().correct(case.said, case.gold) is False


def test_without_the_library_nothing_is_judged_wrong_in_silence():
    with pytest.raises(ValueError, match=r"cannot be started: No module named 'no_such_library'"):
        Judge(library="no_such_library").ask("find", "3")
