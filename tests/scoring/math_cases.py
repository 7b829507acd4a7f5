r"""Answers to problems like MATH's: gold, what is said after "The answer is: ", and both verdicts.

Written for these tests. `same` is equality of the normalised spelling, `strict` is mathematics (the
library math-verify). Where they differ, the case says why.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One answer; `said` is what a completion has after the phrase."""

    gold: str
    said: str
    same: bool
    strict: bool


FRACTIONS = [
    Case(r"\frac{3}{4}", r"\frac{3}{4}", True, True),
    Case(r"\frac{3}{4}", r"\dfrac{3}{4}", True, True),
    Case(r"\frac{3}{4}", r"\tfrac34", True, True),
    Case(r"\frac{1}{72}", r"\frac1{72}", True, True),
    Case(r"\frac{3}{4}", "3/4", True, True),
    Case(r"\frac{1}{2}", "0.5", True, True),
    Case(r"\frac{1}{2}", ".5", True, True),
    Case(r"\frac{3}{4}", r"\frac{4}{3}", False, False),
    Case(r"\frac{3}{4}", "0.75", False, True),  # only 0.5 is a known spelling
    Case(r"\frac{1}{2}", r"\frac{2}{4}", False, True),  # nothing is calculated
    Case(r"-\frac{1}{3}", r"-\frac13", True, True),
]
ROOTS = [
    Case(r"\sqrt{3}", r"\sqrt3", True, True),
    Case(r"2\sqrt{3}", r"2\sqrt 3", True, True),
    Case(r"2\sqrt{3}", r"\sqrt{12}", False, True),
    Case(r"\sqrt{3}", r"\sqrt{2}", False, False),
    Case(r"\sqrt[3]{2}", r"\sqrt[3]{2}", True, True),
    Case(r"\frac{\sqrt{2}}{2}", r"\dfrac{\sqrt2}{2}", True, True),
    Case("2^{10}", "1024", False, True),
]
UNITS = [
    Case("5", r"5\text{ cm}", True, True),
    Case(r"10\text{ units}", "10", True, True),
    Case(r"90^\circ", "90", True, True),
    Case("90", r"90^{\circ}", True, True),
    Case(r"\$12", "12", True, True),
    Case(r"5\text{ cm}", r"6\text{ cm}", False, False),
    Case("5", "x = 5", True, True),
    Case("k=5", "5", True, True),
    Case("5", "answer = 5", False, True),  # a name of more than two letters is none
]
INTERVALS = [
    Case("[1,2)", "[1, 2)", True, True),
    Case(r"(-\infty, 3]", r"\left(-\infty,3\right]", True, True),
    Case("[1,2)", "(1,2]", False, False),
    Case("(3,4)", "(3, 4)", True, True),
    Case("1,2", "1, 2", True, True),
]
MATRICES = [
    Case(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True, True),
    Case(
        r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}",
        r"\begin{pmatrix} 1 & 0 \\ 0 & 2 \end{pmatrix}",
        False,
        False,
    ),
]
PERCENT = [
    Case(r"50\%", "50", True, True),
    Case("50", r"50\%", True, True),
    Case(r"50\%", "40", False, False),
]
TEXTS = [
    Case(r"\text{Evelyn}", r"\text{Evelyn}", True, True),
    Case(r"\text{Evelyn}", r"\text{Carla}", False, False),
    Case(r"\text{(C)}", r"\text{(C)}", True, True),
]
NESTED = [
    Case(r"\frac{\frac{1}{2}}{3}", r"\frac{\frac12}{3}", True, True),
    Case(r"\sqrt{\frac{a^{2}}{b}}", r"\sqrt{\dfrac{a^{2}}{b}}", True, True),
    Case(r"x^{2^{3}}", r"x^{2^{3}}", True, True),
]
DEGENERATE = [
    Case(r"\frac{1}{2}", r"\frac{1}{", False, False),
    Case(r"\frac{1}{2}", r"\frac{}{}", False, False),
    Case("3", r"\sqrt{", False, False),
    Case("3", "{{{{", False, False),
    Case("3", "}}}}", False, False),
    Case("3", "\\", False, False),
    Case("3", "$$$", False, False),
    Case("3", r"\begin{pmatrix}", False, False),
    Case("3", "9^{9^{9^{9^{9}}}}", False, False),
    Case("3", "9" * 6000, False, False),
    Case("3", r"\frac{0}{0}", False, False),
]
GROUPS = {
    "fractions": FRACTIONS,
    "roots": ROOTS,
    "units": UNITS,
    "intervals": INTERVALS,
    "matrices": MATRICES,
    "percent": PERCENT,
    "texts": TEXTS,
    "nested": NESTED,
    "degenerate": DEGENERATE,
}
