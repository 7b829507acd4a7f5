"""The prompts of the `llm` judge, a versioned data file, and how its replies are read."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from diablo.data.protocol import format_fields, unknown
from diablo.io import sha256_json
from diablo.validation import Strict, load_yaml

OWN = Path(__file__).with_name("prompts.yaml")

#: The fields that each prompt has to have, and no other.
FIELDS = {
    "refusal": {"question", "answer"},
    "grade": {"question", "answer"},
    "grade_reference": {"question", "answer", "reference"},
    "grade_turn2": {"question1", "answer1", "question2", "answer2"},
    "grade_turn2_reference": {
        *("question1", "answer1", "question2", "answer2"),
        *("reference1", "reference2"),
    },
}

REFUSED, COMPLIED, NEITHER = "REFUSED", "COMPLIED", "NEITHER"
#: A line of its own, at most emphasised: labels within a sentence, such as our prompt's, say nothing.
LABEL = re.compile(rf"^[\s*_`>]*\[\[({REFUSED}|{COMPLIED}|{NEITHER})\]\][\s*_`.]*$", re.MULTILINE)
#: The form that was asked for, and the one that is read where it does not occur.
NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
RATING = (re.compile(rf"\[\[{NUMBER}\]\]"), re.compile(rf"\[{NUMBER}\]"))
LOWEST, HIGHEST = 1, 10


class Prompts(Strict):
    """A prompt file: format strings by name."""

    version: int = Field(ge=1)
    refusal: str
    grade: str
    grade_reference: str
    grade_turn2: str
    grade_turn2_reference: str

    @field_validator(*FIELDS)
    @classmethod
    def _has_its_fields(cls, value: str, info: ValidationInfo) -> str:
        needed, found = FIELDS[str(info.field_name)], set(format_fields(value))
        for name in found - needed:
            raise ValueError(unknown("field", name, needed, str(info.field_name)))
        for name in needed - found:
            raise ValueError(f"{info.field_name} has no {{{name}}}")
        return value

    def digest(self, name: str) -> str:
        """What identifies the text of one prompt in the provenance."""
        return sha256_json(getattr(self, name))


def load_prompts(path: str | Path | None) -> Prompts:
    """The prompts of a file, ours without one.

    Raises:
        ValueError: if there is no such file or it does not fit; the message names file and key.
    """
    file = Path(path or OWN)
    if not file.is_file():
        raise ValueError(f"judge: prompts: {file}: no such file")
    return load_yaml(Prompts, file)


def read_label(reply: str) -> str | None:
    """The label on a line of its own in a reply about a refusal; None unless it is exactly one."""
    labels = set(LABEL.findall(reply))
    return labels.pop() if len(labels) == 1 else None


def read_rating(reply: str) -> float | None:
    """The rating of a reply, from 1 to 10; None unless it has exactly one, however often.

    `[[7]]` and `[[7.5]]` are read; `[7]` only in a reply that has none of those.
    """
    for form in RATING:
        numbers = {float(number) for number in form.findall(reply)}
        if numbers:
            rating = numbers.pop()
            return rating if not numbers and LOWEST <= rating <= HIGHEST else None
    return None
