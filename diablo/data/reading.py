"""How an answer is read from a completion, and when it is right: one reading for each task.

The kinds are those that the protocols (`protocols/*.yaml`) name under `extraction`. Nothing here
imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from diablo.data import latex

#: Two numbers that differ by no more are the same.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Reading:
    """What all readings share: which part of the text is looked at.

    `text` is "completion" or "prompt+completion"; of it, what stands behind the last `after` (all of
    it where there is no such text), up to the first `until`, without any `remove`.
    """

    text: str = "completion"
    after: str | None = None
    until: str | None = None
    remove: str | None = None

    def part(self, prompt: str, completion: str) -> str:
        """The part of the text that is looked at."""
        text = prompt + completion if self.text == "prompt+completion" else completion
        if self.after:
            text = text.split(self.after)[-1]
        if self.until:
            text = text.split(self.until)[0]
        return text.replace(self.remove, "") if self.remove else text

    def extract(self, prompt: str, completion: str) -> str | None:
        """The answer in a completion, None where there is none."""
        raise NotImplementedError

    def correct(self, extracted: str | None, gold: str) -> bool:
        """Whether what was extracted is the answer; nothing extracted is wrong."""
        return extracted == gold

    def refusal(self, gold: str) -> str | None:
        """Why `gold` could never be extracted; None if it can."""
        return None


@dataclass(frozen=True)
class Label(Reading):
    """The first of the task's labels; with `start`, the one that the text starts with.

    `start` is for labels that others end in ("unacceptable", "not_entailment"): white space may come
    before one, and no letter, digit or underscore after it.
    """

    labels: tuple[str, ...] = ()
    start: bool = False

    def extract(self, prompt: str, completion: str) -> str | None:
        any_label = "|".join(map(re.escape, self.labels))
        pattern = rf"\A\s*({any_label})(?!\w)" if self.start else f"({any_label})"
        found = re.search(pattern, self.part(prompt, completion))
        return found.group(1) if found else None

    def refusal(self, gold: str) -> str | None:
        if gold in self.labels:
            return None
        return f"is not one of the labels that are read ({', '.join(self.labels)})"


@dataclass(frozen=True)
class Pattern(Reading):
    """Group 1 of the first match of a regular expression, or all of it."""

    pattern: str = ""

    def extract(self, prompt: str, completion: str) -> str | None:
        found = re.search(self.pattern, self.part(prompt, completion))
        answer = found and found.group(1 if found.re.groups else 0)
        return None if answer is None else answer.strip()


@dataclass(frozen=True)
class Letter(Reading):
    """A choice: one of `letters`, the first or (`last`) the last one.

    `alone`: no letter or digit beside it. Without it the A of "Each" or "Answer" counts.
    """

    letters: str = "ABCDE"
    last: bool = False
    alone: bool = False

    def extract(self, prompt: str, completion: str) -> str | None:
        letter = f"[{self.letters}]"
        pattern = rf"\b{letter}\b" if self.alone else letter
        found = re.findall(pattern, self.part(prompt, completion))
        return found[-1 if self.last else 0] if found else None

    def refusal(self, gold: str) -> str | None:
        return None if gold in tuple(self.letters) else f"is not one of {', '.join(self.letters)}"


@dataclass(frozen=True)
class Number(Reading):
    """The last number, or the first one behind the last `phrase`, which must be there then.

    Commas are removed first. Right if it differs from the answer by at most `TOLERANCE`. `any_answer`:
    an answer that is no number is not refused, and never right. `else_last`: where there is no phrase,
    the last number after all, of the prompt's too.
    """

    phrase: str | None = None
    any_answer: bool = False
    else_last: bool = False

    def extract(self, prompt: str, completion: str) -> str | None:
        text, place = self.part(prompt, completion), -1
        if self.phrase and self.phrase in text:
            text, place = text.rpartition(self.phrase)[2], 0
        elif self.else_last:
            text = prompt + completion
        elif self.phrase:
            return None
        found = re.findall(r"-?\d+\.?\d*", text.replace(",", ""))
        return found[place] if found else None

    def correct(self, extracted: str | None, gold: str) -> bool:
        if extracted is None or as_number(gold) is None:
            return False
        # Two infinities (thousands of digits) differ by NaN, which is not within anything.
        return abs(float(extracted) - float(gold)) <= TOLERANCE

    def refusal(self, gold: str) -> str | None:
        return None if self.any_answer or as_number(gold) is not None else "is not a number"


@dataclass(frozen=True)
class Rounded(Number):
    """The number or fraction behind the last `phrase`, rounded to a whole one."""

    def extract(self, prompt: str, completion: str) -> str | None:
        _, phrase, text = self.part(prompt, completion).rpartition(self.phrase or "")
        found = re.search(r"[-+]?\d*[.,/]?\d+", text) if phrase else None
        if found is None:
            return None
        above, _, below = found.group().replace(",", "").partition("/")
        try:
            value = Fraction(above)
            return str(round(value / Fraction(below) if below.strip("0") else value))
        except ValueError:  # "/5", or thousands of digits
            return None


@dataclass(frozen=True)
class Latex(Reading):
    """What stands behind the last `phrase`, up to the end of its sentence, as LaTeX.

    The sentence ends with a stop before a line break; a stop at the very end is left out too. Right if
    it equals the answer after `diablo.data.latex.normalise`.
    """

    phrase: str = "The answer is: "

    def extract(self, prompt: str, completion: str) -> str | None:
        _, phrase, text = self.part(prompt, completion).rpartition(self.phrase)
        if not phrase:
            return None
        return text.split(".\n")[0].strip().removesuffix(".") or None

    def correct(self, extracted: str | None, gold: str) -> bool:
        return extracted is not None and latex.equal(extracted, gold)


@dataclass(frozen=True)
class Whole(Reading):
    """The whole text. Whether it is right is nothing that reading decides: a test, or a judge, does."""

    def extract(self, prompt: str, completion: str) -> str | None:
        return self.part(prompt, completion)

    def correct(self, extracted: str | None, gold: str) -> bool:
        raise TypeError("a whole text is judged by its suite's scorer, not compared with an answer")


KINDS: dict[str, type[Reading]] = {
    "label": Label,
    "pattern": Pattern,
    "letter": Letter,
    "number": Number,
    "rounded": Rounded,
    "latex": Latex,
    "whole": Whole,
}


def reading(declared: Mapping[str, Any]) -> Reading:
    """The reading that a protocol declares: its `kind` and that kind's fields.

    Raises:
        ValueError: if there is no such kind; TypeError if it has no such field.
    """
    fields = dict(declared)
    kind = fields.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"unknown extraction kind {kind!r}; valid: {', '.join(sorted(KINDS))}")
    return KINDS[kind](**fields)


def as_number(text: str) -> float | None:
    """The finite number that a text says; None if it says none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
