r"""Equality of LaTeX answers as strings, after normalisation, and the content of a `\boxed{}`.

The rules are those under which MATH's answers are compared since Hendrycks et al. (2021, "Measuring
Mathematical Problem Solving With the MATH Dataset"): spelling is unified, nothing is calculated, so
2/4 and 1/2 differ. What cannot be read (unbalanced braces) is compared as far as it goes.
"""

from __future__ import annotations

import re

#: Removed wherever they stand: layout, size of brackets, currency, degrees, percent.
_REMOVED = re.compile(
    r"\n|\\!|\\left(?![a-z])|\\right(?![a-z])|\^\s*\{\\circ\}|\^\s*\\circ|\\\$|\\?%"
)
_UNIT = re.compile(r"\\text\{ .*$", re.DOTALL)
_DECIMAL_WITHOUT_ZERO = re.compile(r"(^|[ {])\.(?=\d)")
_BARE_ARGUMENT = re.compile(r"\\(frac|sqrt)([^{\[\\])")
_BARE_DENOMINATOR = re.compile(r"(\\frac\{[^{}]*\})([^{\\])")
_SLASH = re.compile(r"(-?\d+)/(-?\d+)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")


def equal(one: str, other: str) -> bool:
    """Whether two LaTeX answers are the same after `normalise`."""
    return normalise(one) == normalise(other)


def normalise(text: str) -> str:
    r"""One spelling of a LaTeX answer.

    `\dfrac` and `\tfrac` are `\frac`; `\frac12`, `a/b` of two whole numbers and `0.5` are fractions
    with braces; `\sqrt3` has braces; a decimal has its leading zero. Spaces, `\left`, `\right`, `\!`,
    degrees, percent and dollar signs go, and so do a unit (`\text{ cm}`, with its leading space) and
    a name of at most two letters before one equals sign (`x=`).
    """
    text = text.replace("\\\\", "\\").replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac")
    text = _REMOVED.sub("", text)
    text = _UNIT.sub("", text)
    text = _DECIMAL_WITHOUT_ZERO.sub(r"\g<1>0.", text.strip())
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0].strip()) <= 2:
        text = sides[1]
    text = _BARE_ARGUMENT.sub(r"\\\1{\2}", text.replace(" ", ""))
    text = _BARE_DENOMINATOR.sub(r"\1{\2}", text)
    if text == "0.5":
        return "\\frac{1}{2}"
    return _SLASH.sub(r"\\frac{\1}{\2}", text) if _SLASH.fullmatch(text) else text


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, `\fbox{...}` or `\boxed x`; None if there is none.

    A box whose brace is never closed is none.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    rest = text[boxes[-1].end() :]
    if not rest.startswith("{"):
        return rest.split("$")[0].strip() or None
    depth = 0
    for place, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[1:place]
    return None
