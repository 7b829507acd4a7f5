"""Escaping for LaTeX, so that any text of a YAML file compiles with plain pdflatex."""

from __future__ import annotations

import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # A bracket after a line break (\\) would be read as its optional argument.
    "[": "{[}",
    "]": "{]}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{BLACK UP-POINTING TRIANGLE}": r"$\bigtriangleup$",
    "\N{BLACK DOWN-POINTING TRIANGLE}": r"$\bigtriangledown$",
    "\N{ALMOST EQUAL TO}": r"$\approx$",
    "\N{DAGGER}": r"$\dagger$",
    "\N{DOUBLE DAGGER}": r"$\ddagger$",
    "\N{NO-BREAK SPACE}": "~",
    # Symbols that pdflatex takes in mathematics alone, each as one command.
    "Δ": r"$\triangle$",
    "Σ": r"$\sum$",
    "γ": r"$\gamma$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "²": r"\texttwosuperior{}",
    "ᵀ": r"$\top$",
    "√": r"$\surd$",
    "∘": r"$\circ$",
    "·": r"$\cdot$",
    "∞": r"$\infty$",
    "⌈": r"$\lceil$",
    "⌉": r"$\rceil$",
}


def latex_escape(text: str) -> str:
    """`text` as LaTeX that prints it; characters unknown to pdflatex lose their accents or become ?."""
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    # pdflatex's default UTF-8 set covers Latin-1 letters; fold what lies outside it.
    if (
        "\N{LATIN CAPITAL LETTER A WITH GRAVE}"
        <= character
        <= "\N{LATIN SMALL LETTER Y WITH DIAERESIS}"
    ):
        return character
    folded = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_SPECIAL.get(one, one) for one in folded) or "?"
