"""Averages, FLOPs and the test sizes behind decimals: known facts, and what holds for any numbers."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diablo.audit.averages import judge_average
from diablo.audit.decimals import candidates, chance, consistent
from diablo.audit.facts import TestSizes as Sizes
from diablo.audit.flops import equal_rank, totals
from diablo.shapes import diablo_parameters, lora_parameters

ROUNDINGS = (ROUND_HALF_UP, ROUND_HALF_DOWN, ROUND_HALF_EVEN)
NUMBERS = st.lists(st.decimals(0, 100, places=4), min_size=1, max_size=9)


def printed(value: Decimal, digits: int, how: str) -> float:
    return float(value.quantize(Decimal(1).scaleb(-digits), rounding=how))


@given(st.integers(1, 12000), st.data(), st.integers(0, 3), st.sampled_from(ROUNDINGS))
def test_right_answers_are_always_consistent(examples, data, digits, how) -> None:
    right = data.draw(st.integers(0, examples))
    accuracy = Decimal(100 * right) / examples
    assert consistent(printed(accuracy, digits, how), examples, digits)


@pytest.mark.slow
@given(st.integers(1, 60), st.integers(1, 2))
def test_every_consistent_number_has_right_answers(examples, digits) -> None:
    unit = 10**digits
    for count in range(0, 100 * unit + 1, 7):
        value = count / unit
        known = any(
            abs(Fraction(100 * right, examples) - Fraction(count, unit)) <= Fraction(1, 2 * unit)
            for right in range(examples + 1)
        )
        assert consistent(value, examples, digits) == known


@given(st.integers(1, 3000), st.integers(0, 2))
def test_chance_is_a_share(examples, digits) -> None:
    share = chance(examples, digits)
    assert 0 < share <= 1
    assert share == 1 or share <= (examples + 1) / (100 * 10**digits + 1)


@given(NUMBERS, st.integers(1, 2), st.sampled_from(ROUNDINGS))
def test_a_rounded_mean_of_rounded_numbers_never_disagrees(numbers, digits, how) -> None:
    columns = [printed(number, digits, how) for number in numbers]
    mean = printed(sum(numbers) / len(numbers), digits, how)
    assert judge_average(columns, mean, digits)[1] == "agrees"


def test_an_average_that_was_cut_off_is_noticed_only_beyond_rounding() -> None:
    assert printed(Decimal("84.99"), 1, ROUND_DOWN) == 84.9
    assert "columns are rounded" in judge_average([84.98, 85.0], 84.9, 1)[2]
    assert judge_average([47.0, 47.0], 47.3, 1)[1] == "disagrees"


def test_the_only_impossible_average_is_apiqs(parts) -> None:
    odd = [found for found in parts["averages"] if found.verdict == "disagrees"]
    assert [found.id for found in odd] == ["averages/table4/llama2-7b-2-bit/apiq-r64"]
    assert "mean 47.000, printed 47.3" in odd[0].evidence
    inside = [found.id for found in parts["averages"] if "columns are rounded" in found.evidence]
    assert inside == [
        "averages/table1/llama-13b/diablo-n64",
        "averages/table4/llama2-7b-4-bit/nf4-lora-r64",
        "averages/table4/llama2-7b-2-bit/loftq2g64-loftq-r64",
    ]


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=4),
    st.integers(1, 700),
)
def test_equal_parameters_are_equal_flops(widths, blocks) -> None:
    rank = equal_rank(widths, blocks)
    both, params = totals(widths, blocks, rank), diablo_parameters(widths, blocks)
    assert rank * lora_parameters(widths, 1) == params
    assert both["diablo"] == both["lora"] == (2 * params, 4 * params)


def test_the_claim_on_flops_holds_for_every_model(parts) -> None:
    flops = [found for found in parts["flops"] if found.id.startswith("flops/")]
    assert {found.verdict for found in flops} == {"agrees"}
    assert {found.id.split("/")[1] for found in flops} == {
        *(
            "llama2-7b",
            "llama3-8b",
            "llama-13b",
            "llama2-13b",
            "mistral-7b",
            "llama3.2-3b",
            "t5-base",
        )
    }
    (memory,) = [found for found in parts["flops"] if found.id == "memory/claim"]
    assert memory.verdict == "disagrees"


def test_sizes_that_are_tried() -> None:
    sizes = Sizes(batches=[8, 16], runs=[1, 3], others={"hexphi": {300: "today"}})
    tried = candidates("hexphi", 330, sizes)
    assert [(size.examples, size.runs) for size in tried] == [
        *((n, 1) for n in (330, 328, 320, 300)),
        *((n, 3) for n in (330, 328, 320, 300)),
    ]
    assert tried[0].why == "the full set"
    # A batch that divides the set drops nothing.
    assert [size.examples for size in candidates("mrpc", 400, Sizes(batches=[8], runs=[1]))] == [
        400
    ]


@pytest.mark.parametrize(
    ("where", "entry", "says"),
    [
        ("table3/retrained/hexphi", "D-11", "328 (batches of 4, 8): 4 of 4 fit"),
        ("table6/retrained/openbookqa", "D-11", "500 (the full set): 0 of 6 fit"),
        ("table6/retrained/openbookqa", "D-11", "496 (batches of 8, 16): 6 of 6 fit"),
        ("table5-0/gsm8k", "D-11", "1312 (batches of 8, 16, 32): 3 of 3 fit"),
        ("table5-1/gsm8k", "D-35", "3 runs of 1312 (batches of 8, 16, 32): 9 of 12 fit"),
        ("table5-2/gsm8k", "D-35", "3 runs of 1312 (batches of 8, 16, 32): 5 of 5 fit"),
        ("figure7-3/gsm8k", "D-11", "1312 (batches of 8, 16, 32): 4 of 4 fit"),
        ("figure7-3/gsm8k", "D-11", "1319 (the full set): 0 of 4 fit"),
        ("table4/copied/mawps", "D-35", "238 (the full set): 7 of 16 fit"),
        ("table4/copied/aqua", "D-35", "254 (the full set): 9 of 16 fit"),
        ("table10/retrained/winogrande", "D-35", "not 85.65"),
    ],
)
def test_decimals_that_are_not_of_the_full_set(findings, where, entry, says) -> None:
    found = findings[f"decimals/{where}"]
    assert found.verdict == "disagrees"
    assert found.entries == (entry,)
    assert says in found.evidence


def test_figure_7_is_whole_numbers_of_1312() -> None:
    for value, right in ((60.67, 796), (58.92, 773), (40.47, 531), (31.63, 415)):
        assert round(100 * right / 1312, 2) == value


def test_table_10_is_of_the_full_sets_but_for_one_number(parts) -> None:
    found = [one for one in parts["decimals"] if one.id.startswith("decimals/table10/")]
    assert len(found) == 8
    assert [one.id for one in found if one.verdict == "disagrees"] == [
        "decimals/table10/retrained/winogrande"
    ]
    # Any number with one decimal fits 10,042 questions: that says nothing.
    (hellaswag,) = [one for one in found if one.id.endswith("hellaswag")]
    assert hellaswag.verdict == "cannot tell"


def test_own_rows_of_table_4_fit_single_runs(findings) -> None:
    for column in ("mawps", "aqua"):
        found = findings[f"decimals/table4/retrained/{column}"]
        assert found.verdict == "agrees"
        assert "8 of 8 fit" in found.evidence
