"""Every kind of predicate on made-up numbers, printed and with intervals."""

from __future__ import annotations

import pytest
from claim_cases import averages, numbered, printed, sampled

from diablo.claims.model import Predicate
from diablo.validation import validate

AVG = "table99/big/{}/avg"
LORA, DORA, FULL, DIABLO, OTHERS = map(AVG.format, ("lora", "dora", "full", "diablo", "*"))
#: Predicate, averages of (lora, dora, full, diablo), and the verdict on them as printed.
CASES = {
    "greater": ({"greater": {"of": DIABLO, "than": [LORA, DORA]}}, (1.1, 1.2, 9.9, 1.3), "holds"),
    "greater not": ({"greater": {"of": DIABLO, "than": [LORA, DORA]}}, (1.1, 1.4, 9.9, 1.3), "fails"),
    "a tie": ({"greater": {"of": DIABLO, "than": [LORA]}}, (1.3, 1.4, 9.9, 1.3), "open"),
    "greater by": ({"greater": {"of": DIABLO, "than": [LORA], "by": 1}}, (1.1, 0.1, 9.9, 2.3), "holds"),
    "by our limit": ({"greater": {"of": DIABLO, "than": [LORA], "by": 1}}, (1.1, 0.1, 9.9, 2.0), "open"),
    "by a stated limit": (
        {"greater": {"of": DIABLO, "than": [LORA], "by": 1.5, "stated": True}},
        (1.1, 0.1, 9.9, 2.6),
        "open",
    ),
    "best": ({"best": {"cell": DIABLO, "among": [OTHERS], "without": [FULL]}}, (1.1, 1.2, 9.9, 1.3), "holds"),
    "not best": ({"best": {"cell": DIABLO, "among": [OTHERS]}}, (1.1, 1.2, 9.9, 1.3), "fails"),
    "second": ({"best": {"cell": DIABLO, "among": [OTHERS], "place": 2}}, (1.1, 1.2, 9.9, 1.3), "holds"),
    "best, not second": (
        {"best": {"cell": FULL, "among": [OTHERS], "place": 2}},
        (1.1, 1.2, 9.9, 1.3),
        "fails",
    ),
    "difference": (
        {"difference": {"of": DIABLO, "minus": LORA, "value": 4.7, "tolerance": 1}},
        (38.7, 1.1, 1.1, 43.4),
        "holds",
    ),
    "difference, rounded": (
        {"difference": {"of": DIABLO, "minus": LORA, "value": 4.8, "tolerance": 1}},
        (38.7, 1.1, 1.1, 43.4),
        "open",
    ),
    "difference, wrong": (
        {"difference": {"of": DIABLO, "minus": LORA, "value": 5.0, "tolerance": 1}},
        (38.7, 1.1, 1.1, 43.4),
        "fails",
    ),
    "equals": ({"equals": {"of": DIABLO, "value": 43.4, "tolerance": 1}}, (1.1, 1.1, 1.1, 43.4), "holds"),
    "equals not": ({"equals": {"of": DIABLO, "value": 43, "tolerance": 1}}, (1.1, 1.1, 1.1, 44.4), "fails"),
    "close": ({"close": {"of": DIABLO, "to": FULL, "within": 0.5}}, (1.1, 1.1, 43.8, 43.4), "holds"),
    "not close": ({"close": {"of": DIABLO, "to": FULL, "within": 0.5}}, (1.1, 1.1, 44.4, 43.4), "fails"),
    "at most": ({"at_most": {"of": DIABLO, "value": 2}}, (1.1, 1.1, 1.1, 1.5), "holds"),
    "at least": ({"at_least": {"of": DIABLO, "value": 2}}, (1.1, 1.1, 1.1, 1.5), "fails"),
    "between": ({"between": {"of": DIABLO, "low": 1, "high": 2}}, (1.1, 1.1, 1.1, 1.5), "holds"),
    "not between": ({"between": {"of": DIABLO, "low": 1, "high": 2}}, (1.1, 1.1, 1.1, 2.5), "fails"),
    "ratio": ({"ratio": {"of": FULL, "to": LORA, "at_least": 2}}, (1.1, 1.1, 2.5, 1.1), "holds"),
    "ratio at most": ({"ratio": {"of": FULL, "to": LORA, "at_most": 2}}, (1.1, 1.1, 2.5, 1.1), "fails"),
    "decreasing": ({"decreasing": [OTHERS]}, (1.4, 1.3, 1.2, 1.1), "holds"),
    "not decreasing": ({"decreasing": [DIABLO, LORA, DORA]}, (1.4, 1.6, 1.2, 1.9), "fails"),
    "smaller drop": (
        {"smaller_drop": {"of": [DIABLO, LORA], "than": [[FULL, DORA]]}},
        (1.0, 0.1, 3.5, 1.5),
        "holds",
    ),
    "larger drop": (
        {"smaller_drop": {"of": [FULL, DORA], "than": [[DIABLO, LORA]]}},
        (1.0, 0.1, 3.5, 1.5),
        "fails",
    ),
    "any": (
        {"any": [{"at_most": {"of": LORA, "value": 1}}, {"at_most": {"of": DORA, "value": 2}}]},
        (1.5, 1.5, 1.5, 1.5),
        "holds",
    ),
    "all": (
        {"all": [{"at_most": {"of": LORA, "value": 1}}, {"at_most": {"of": DORA, "value": 2}}]},
        (1.5, 1.5, 1.5, 1.5),
        "fails",
    ),
}  # fmt: skip


def made(values: tuple[float, ...]):
    return averages(**dict(zip(("lora", "dora", "full", "diablo"), values, strict=True)))


@pytest.mark.parametrize("name", CASES)
def test_printed_numbers(name: str) -> None:
    predicate, values, verdict = CASES[name]
    assert printed(made(values), predicate).verdict == verdict


@pytest.mark.parametrize("name", CASES)
def test_wide_intervals_are_inconclusive_and_narrow_ones_agree(name: str) -> None:
    predicate, values, verdict = CASES[name]
    assert sampled(made(values), predicate, 100.0) == "open"
    assert sampled(made(values), predicate, None) == "open", "a point alone decides nothing"
    if verdict != "open" and "difference" not in name:
        assert sampled(made(values), predicate, 1e-6) == verdict


def test_an_interval_that_crosses_the_margin_is_inconclusive() -> None:
    addresses = made((1.0, 1.0, 1.0, 3.5))
    by = {"greater": {"of": DIABLO, "than": [LORA], "by": 2}}
    assert sampled(addresses, by, 0.4) == "holds"
    assert sampled(addresses, by, 0.6) == "open"
    assert sampled(made((1.0, 1.0, 1.0, 2.0)), by, 0.9) == "fails"


def test_an_interval_that_ends_at_zero_decides_nothing() -> None:
    assert (
        sampled(made((1.0, 1.0, 1.0, 2.0)), {"greater": {"of": DIABLO, "than": [LORA]}}, 1.0)
        == "open"
    )


def test_a_reproduced_difference_has_its_tolerance() -> None:
    predicate = {"difference": {"of": DIABLO, "minus": LORA, "value": 5.0, "tolerance": 1}}
    addresses = made((38.7, 1.1, 1.1, 43.4))
    assert sampled(addresses, predicate, 0.5) == "holds"
    assert sampled(addresses, predicate, 0.9) == "open"


def test_one_of_many_comparisons_must_fail_clearly() -> None:
    """Of three comparisons one fails at 5 %, but not at 5 % / 3."""
    addresses = made((1.0, 1.0, 3.0, 2.0))
    alone = {"greater": {"of": DIABLO, "than": [FULL]}}
    assert sampled(addresses, alone, 0.9) == "fails"
    assert sampled(addresses, {"best": {"cell": DIABLO, "among": [OTHERS]}}, 0.9) == "open"
    assert sampled(addresses, {"best": {"cell": DIABLO, "among": [OTHERS]}}, 0.5) == "fails"


def test_what_was_not_run_keeps_a_claim_open_but_not_from_failing() -> None:
    best = {"best": {"cell": DIABLO, "among": [OTHERS]}}
    assert sampled(made((1.0, 1.0, 1.0, 2.0)), best, 0.1, "full") == "open"
    assert sampled(made((1.0, 5.0, 1.0, 2.0)), best, 0.1, "full") == "fails"
    assert sampled(made((1.0, 1.0, 1.0, 2.0)), best, 0.1, "diablo") == "missing"


def test_means_allow_for_the_rounding_of_what_they_are_of() -> None:
    rows = {
        "lora": {"one": 1.2, "two": 1.3, "avg": 1.3},
        "dora": {"one": 1.2, "two": 1.4, "avg": 1.4},
        "full": {"one": 1.2, "two": 1.4, "avg": 1.5},
    }
    verdicts = [
        printed(numbered(rows), {"mean": {"of": AVG.format(name)}}).verdict for name in rows
    ]
    assert verdicts == ["holds", "open", "fails"]


def test_decimals_are_the_columns() -> None:
    """82.80 is read as 82.8, but its neighbour says that two decimals are printed."""
    addresses = averages(lora=82.8, diablo=82.84)
    assert printed(addresses, {"greater": {"of": DIABLO, "than": [LORA]}}).verdict == "holds"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "given: none"),
        ({"at_most": {"of": LORA, "value": 1}, "decreasing": [LORA]}, "given: at_most, decreasing"),
        ({"greatest": {}}, "did you mean 'greater'"),
        ({"ratio": {"of": LORA, "to": DORA}}, "one of at_most and at_least"),
        ({"between": {"of": LORA, "low": 2, "high": 1}}, "must be below"),
    ],
)
def test_mistakes_in_predicates_are_refused(value: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        validate(Predicate, value, "claim")
