"""#Params: the counts that are known, which convention gives what is printed, N that does not divide."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from diablo.audit.counts import (
    BASE,
    BINARY,
    HALF,
    HALF_PRINTED,
    LORA,
    MILLION,
    OWN,
    SHRUNK,
    SQUARE,
    TRUE,
    WITH_ADAPTERS,
    conventions,
    countings,
    fits,
)
from diablo.audit.shrunk import shrunk_blocks, shrunk_parameters
from diablo.shapes import diablo_parameters

#: Row, counting, K and V, unit: parameters in millions, and what is printed of them (per cent, or in the unit).
KNOWN = [
    ("table1/llama2-7b/diablo-n64", OWN, TRUE, BASE, 70.25, 1.043),
    ("table1/llama2-7b/diablo-n128", OWN, TRUE, BASE, 35.13, 0.521),
    ("table1/llama2-7b/lora-r32", OWN, TRUE, BASE, 56.10, 0.833),
    ("table1/llama2-7b/dora-r32", OWN, TRUE, BASE, 56.98, 0.846),
    ("table1/llama2-7b/dora-r16", OWN, TRUE, BASE, 28.93, 0.429),
    ("table1/llama3-8b/diablo-n64", OWN, TRUE, BASE, 71.30, 0.888),
    ("table1/llama3-8b/diablo-n64", OWN, SQUARE, BASE, 83.89, 1.045),
    ("table1/llama3-8b/diablo-n128", OWN, TRUE, BASE, 35.65, 0.444),
    ("table1/llama3-8b/diablo-n128", OWN, SQUARE, BASE, 41.94, 0.522),
    ("table1/llama3-8b/lora-r32", OWN, TRUE, BASE, 56.62, 0.705),
    ("table1/llama3-8b/lora-r32", OWN, SQUARE, BASE, 62.91, 0.783),
    ("table1/llama3-8b/dora-r16", OWN, TRUE, BASE, 29.10, 0.362),
    ("table1/llama3-8b/dora-r16", LORA, SQUARE, BASE, 31.46, 0.392),
    ("table1/llama-13b/diablo-n64", OWN, TRUE, BASE, 137.63, 1.057),
    ("table1/llama-13b/lora-r32", OWN, TRUE, BASE, 87.82, 0.675),
    ("table1/llama-13b/dora-r32", OWN, TRUE, BASE, 89.19, 0.685),
    ("table2/llama2-7b/diablo-n32", OWN, TRUE, BASE, 140.51, 2.085),
    ("table2/llama2-7b/lora-r64", OWN, TRUE, BASE, 112.20, 1.665),
    ("table3/llama3-8b/diablo-n64", OWN, TRUE, BASE, 109.05, 1.358),
    ("table3/llama3-8b/diablo-n64", OWN, SQUARE, BASE, 121.63, 1.515),
    ("table3/llama3-8b/lora-r32", OWN, TRUE, BASE, 83.89, 1.045),
    ("table3/llama3-8b/lori-d-r32", OWN, TRUE, BASE, 44.04, 0.548),
    ("table3/llama3-8b/lori-d-r32", HALF, SQUARE, BASE, 45.09, 0.562),
    ("table6/mistral-7b/diablo-n128", OWN, TRUE, BASE, 54.53, 0.753),
    ("table6/mistral-7b/diablo-n128", OWN, SQUARE, BASE, 60.82, 0.840),
    ("table6/mistral-7b/lora-r32", OWN, SQUARE, BASE, 90.18, 1.245),
    ("table6/mistral-7b/lori-d-r32", OWN, TRUE, BASE, 44.04, 0.608),
    ("table4/llama2-7b-2-bit/magr2g64-diablo-n64", OWN, TRUE, MILLION, 101.19, 101.19),
    ("table4/llama2-13b-2-bit/magr2g64-diablo-n64", OWN, TRUE, BINARY, 198.25, 189.06),
    ("table4/llama2-13b-4-bit/nf4-lora-r64", OWN, TRUE, BINARY, 250.35, 238.75),
    ("table7/llama2-7b/diablo-n320", OWN, TRUE, BASE, 20.90, 0.310),
    ("table7/llama2-7b/diablo-n320", SHRUNK, TRUE, BASE, 20.64, 0.306),
    ("table7/llama2-7b/lora-ga-r128", OWN, TRUE, BASE, 319.82, 4.746),
    ("table8/t5-base/diablo-n64", OWN, TRUE, BASE, 3.10, 1.389),
    ("table8/t5-base/lora-r8", OWN, TRUE, BASE, 3.24, 1.455),
    ("table10/llama3.2-3b/diablo-n8", OWN, TRUE, BINARY, 231.21, 220.50),
    ("table10/llama3.2-3b/diablo-n8", OWN, SQUARE, BINARY, 275.25, 262.50),
    ("table10/llama3.2-3b/diablo-n2048", OWN, TRUE, BINARY, 1.376, 1.3125),
    ("table10/llama3.2-3b/diablo-n2048", SHRUNK, TRUE, BINARY, 1.262, 1.2031),
]


@pytest.mark.parametrize(("row", "counting", "widths", "unit", "millions", "value"), KNOWN)
def test_known_counts(lines, row, counting, widths, unit, millions, value) -> None:
    line = lines[row]
    (count,) = [
        count
        for count in conventions(line)
        if (count.counting, count.widths, count.unit, count.modules)
        == (counting, widths, unit, line.settings.modules)
    ]
    assert float(count.params) / 1e6 == pytest.approx(millions, abs=0.006)
    assert float(count.value) == pytest.approx(value, abs=0.0006 if unit == BASE else 0.006)


#: Row, verdict, register, words of the conventions that fit, and how many fit.
FITTING = [
    ("table1/llama2-7b/diablo-n64", "agrees", (), ["its own count, of the base"]),
    ("table1/llama2-7b/dora-r16", "disagrees", ("D-09",), [f"{LORA}, of the base"]),
    ("table1/llama3-8b/diablo-n64", "disagrees", ("D-09",), [f"{OWN}, {SQUARE}, of the base"]),
    ("table3/mistral-7b/diablo-n128", "disagrees", ("D-09",), [f"{OWN}, {SQUARE}, of the base"]),
    ("table3/mistral-7b/lori-d-r32", "disagrees", ("D-34",), [HALF_PRINTED]),
    ("table1/llama-13b/dora-r32", "disagrees", ("D-33",), [f"{OWN}, {WITH_ADAPTERS}"]),
    ("table4/llama2-7b-4-bit/nf4-lora-r64", "disagrees", ("D-08",), [f"{OWN}, QKVUD, {MILLION}"]),
    (
        "table4/llama2-7b-4-bit/magr4g64-diablo-n64",
        "disagrees",
        ("D-08",),
        [f"{OWN}, QKVUD, {MILLION}"],
    ),
    ("table4/llama2-13b-4-bit/nf4-lora-r64", "disagrees", ("D-08",), [f"{OWN}, {BINARY}"]),
    ("table8/t5-base/lora-r8", "disagrees", ("D-07",), ["none (r = 6 would fit)"]),
    ("table8/t5-base/diablo-n64", "disagrees", ("D-07",), ["none (no N up to 256 fits)"]),
    *(
        (f"table10/llama3.2-3b/diablo-n{n}", "disagrees", ("D-09",), [f"{OWN}, {BINARY}"])
        for n in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    ),
]


@pytest.mark.parametrize(("row", "verdict", "entries", "words"), FITTING)
def test_which_conventions_fit_what_is_printed(findings, row, verdict, entries, words) -> None:
    found = findings[f"counts/{row}"]
    assert (found.verdict, found.entries) == (verdict, entries)
    fitting = found.evidence.partition("Fits: ")[2].split("; ")
    assert [re.sub(r" = [0-9.]+[%M]$", "", one) for one in fitting] == words


def test_only_rows_of_table_8_fit_no_convention(findings) -> None:
    none = [id for id, found in findings.items() if "Fits: none" in found.evidence and id[0] == "c"]
    assert {id.split("/")[1] for id in none} == {"table8"}


@pytest.mark.parametrize(
    ("printed", "value", "expected"),
    [
        ("1.04%", Fraction(1045, 1000), True),
        ("1.04%", Fraction(10451, 10000), False),
        ("70M", Fraction(705, 10), True),
        ("70M", Fraction(694, 10), False),
        ("0.3%", Fraction(1, 4), True),
    ],
)
def test_what_a_printed_number_may_be_a_rounding_of(printed, value, expected) -> None:
    assert fits(printed, value) is expected


def test_the_released_rule_differs_only_where_n_does_not_divide() -> None:
    assert shrunk_blocks((4096, 11008), 320) == 316
    assert shrunk_blocks((3072, 3072), 2048) == 1536
    widths = [(4096, 11008), (4096, 4096), (11008, 4096)]
    for blocks in (1, 8, 64, 128, 256):
        assert shrunk_parameters(widths, blocks) == diablo_parameters(widths, blocks)


def test_blocks_that_are_no_common_factor(findings) -> None:
    places = [id for id in findings if id.endswith("/common-factor")]
    assert places == [
        "blocks/table7/llama2-7b/diablo-n320/common-factor",
        "blocks/table10/llama3.2-3b/diablo-n2048/common-factor",
    ]
    assert findings["blocks/table7/llama2-7b/diablo-n320/rule"].verdict == "cannot tell"
    rule = findings["blocks/table10/llama3.2-3b/diablo-n2048/rule"]
    assert rule.verdict == "disagrees"
    assert "1,376,256" in rule.evidence
    assert "1,261,568" in rule.evidence


def test_the_default_that_leaves_layers_out(findings) -> None:
    found = findings["layers/table4/llama2-13b-4-bit/magr4g64-diablo-n64"]
    assert found.entries == ("D-18",)
    assert "158.6M of 198.2M" in found.evidence
    assert {id.split("/")[2] for id in findings if id.startswith("layers/")} == {
        "llama-13b",
        "llama2-13b-4-bit",
    }


def test_a_method_without_a_count_is_refused(lines) -> None:
    with pytest.raises(ValueError, match="no count for method 'smt'"):
        countings(lines["table1/llama2-7b/smt-b868"], [(8, 8)])
