"""The words of `workflow/claims.yaml` as pydantic models.

A cell is addressed as `experiment/group/row/column`: the group by its label and the row by its slug or its
label, both in small letters with dashes (`table4/llama2-7b-2-bit/apiq-r64/avg`, `table9/llama3-8b/lora-a/epoch1`).
Each part may be a pattern (`*`) or a list (`lora-r32,dora-r32`). `diablo.claims.addresses` finds the cells.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from diablo.experiments import WORKFLOW
from diablo.validation import Strict, load_yaml

Pair = tuple[str, str]


class Greater(Strict):
    """One cell is above each of the others, by at least `by` if it is given."""

    of: str
    than: list[str] = Field(min_length=1)
    by: float = Field(0, ge=0)
    stated: bool = Field(False, description="whether `by` is the paper's; else it is our reading")


class Best(Strict):
    """A cell is the highest among others, or has exactly `place` - 1 of them above it."""

    cell: str
    among: list[str] = Field(min_length=1)
    without: list[str] = Field([], description="addresses that `among` takes in and should not")
    place: int = Field(1, ge=1)


class Difference(Strict):
    """Two cells differ by a value that the paper states."""

    of: str
    minus: str
    value: float
    tolerance: float = Field(gt=0, description="of a reproduced difference; a printed one rounds")


class Equals(Strict):
    """Cells have a value that the paper states."""

    of: str
    value: float
    tolerance: float = Field(gt=0, description="of a reproduced number; a printed one rounds")


class Close(Strict):
    """Two cells differ by no more than `within`."""

    of: str
    to: str
    within: float = Field(gt=0)


class Limit(Strict):
    """Every cell is at most, or at least, a value."""

    of: str
    value: float


class Between(Strict):
    """Every cell is between two values."""

    of: str
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Between:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self


class Ratio(Strict):
    """One cell is at most, or at least, so many times another."""

    of: str
    to: str
    at_most: float | None = Field(None, gt=0)
    at_least: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_bound(self) -> Ratio:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give one of at_most and at_least")
        return self


class SmallerDrop(Strict):
    """From its first to its second cell one pair loses less than each of the others."""

    of: Pair
    than: list[Pair] = Field(min_length=1)


class Mean(Strict):
    """Each of these averages is the mean of its row's columns."""

    of: str


class Predicate(Strict):
    """What a claim says: exactly one of these keys."""

    greater: Greater | None = None
    best: Best | None = None
    difference: Difference | None = None
    equals: Equals | None = None
    close: Close | None = None
    at_most: Limit | None = None
    at_least: Limit | None = None
    between: Between | None = None
    ratio: Ratio | None = None
    decreasing: list[str] | None = Field(None, description="each cell is below the one before")
    smaller_drop: SmallerDrop | None = None
    mean: Mean | None = None
    statements: list[str] | None = Field(None, min_length=1, description="of the theorems' table")
    all: list[Predicate] | None = Field(None, min_length=1)
    any: list[Predicate] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Predicate:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"give exactly one of {kinds}; given: {', '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """The key that is given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)


class Claim(Strict):
    """A sentence of the paper.

    `says` is judged on the printed numbers and on the reproduced ones, unless `here` says what is tested in
    its place or `not_here` why nothing is. `waits_for` names an experiment that may not be declared yet: only
    where it is, the cells of `here` are looked for.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    section: str
    claim: str = Field(description="what the paper says, in our words")
    says: Predicate | None = None
    here: Predicate | None = None
    not_here: str | None = Field(None, description="why reproduced numbers cannot test it")
    waits_for: str | None = Field(None, description="an experiment that is to test it")
    note: str = Field("", description="what a reader of the verdict should know; our own choices")

    @model_validator(mode="after")
    def _tested_once(self) -> Claim:
        given = [name for name in ("here", "not_here", "waits_for") if getattr(self, name)]
        if (self.not_here and len(given) > 1) or (self.says is None and not given):
            raise ValueError(
                f"{self.id}: give `says`, `here`, `waits_for` or `not_here`, the last without the two before "
                f"(given: {', '.join(given) or 'none'})"
            )
        return self


class Claims(Strict):
    """`workflow/claims.yaml`."""

    printed: dict[str, float] = Field(
        {}, description="printed numbers that no experiment declares, by address"
    )
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Claims:
        seen: set[str] = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(f"claims: the id {claim.id!r} is given twice")
            seen.add(claim.id)
        return self


def load_claims(path: Path = WORKFLOW / "claims.yaml") -> Claims:
    """Read and validate the claims.

    Raises:
        ValueError: names the file, the key and the nearest valid one.
    """
    return load_yaml(Claims, path)
