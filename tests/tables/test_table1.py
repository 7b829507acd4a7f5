"""workflow/experiments/table1.yaml: the numbers that were typed in from the paper."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from diablo.experiments import Experiment, load_experiment

GROUPS = {"Llama2-7B": 11, "Llama3-8B": 11, "Llama-13B": 6}
#: Half a unit of the last printed digit, and room for binary fractions.
HALF = 0.05 + 1e-9


@pytest.fixture(scope="module")
def table1() -> Experiment:
    return load_experiment("table1")


def all_rows(table1: Experiment):
    return [(group, row) for group in table1.groups for row in group.rows]


def test_all_rows_are_there_with_all_numbers(table1: Experiment) -> None:
    assert {group.label: len(group.rows) for group in table1.groups} == GROUPS
    for _, row in all_rows(table1):
        assert list(row.reported) == [*table1.columns, "avg"]
        assert all(value is not None for value in row.reported.values())


def test_averages_are_means_within_rounding(table1: Experiment) -> None:
    """One AVG is only right if the rounding of the eight numbers is allowed for as well."""
    beyond, by_inputs = [], []
    for group, row in all_rows(table1):
        mean = sum(row.reported[task] for task in table1.columns) / len(table1.columns)
        gap = abs(mean - row.reported["avg"])
        if gap > 2 * HALF:
            beyond.append((group.label, row.slug))
        elif gap > HALF:
            by_inputs.append((group.label, row.slug, round(mean, 4)))
    assert beyond == []
    assert by_inputs == [("Llama-13B", "diablo-n64", 84.9875)]


def test_origins(table1: Experiment) -> None:
    for _, row in all_rows(table1):
        expected = {"full": "retrained", "diablo": "retrained", "zero-shot": "unknown"}
        assert row.origin == expected.get(row.method, "copied")
        assert (row.source is not None) == (row.origin == "copied")


def test_every_trained_row_has_its_setting(table1: Experiment) -> None:
    for group, row in all_rows(table1):
        assert (row.num_blocks is not None) == (row.method == "diablo")
        low_rank = row.method in ("lora", "dora", "pissa", "milora")
        assert (row.rank is not None) == (row.alpha is not None) == low_rank
        if row.method != "zero-shot":
            settings = row.over(group.defaults)
            assert settings.lr is not None
            assert settings.dropout is not None
            assert settings.precision == "fp16"
            assert settings.epochs == 3


def test_the_papers_hyper_parameters(table1: Experiment) -> None:
    found = {
        (group.label, row.num_blocks): row.lr
        for group, row in all_rows(table1)
        if row.method == "diablo"
    }
    assert found[("Llama2-7B", 64)] == 2e-4
    assert found[("Llama2-7B", 128)] == 3e-4
    assert found[("Llama3-8B", 64)] == 5e-5
    assert found[("Llama3-8B", 128)] == 1e-4


def test_unstated_names_real_settings(table1: Experiment) -> None:
    from diablo.experiments import Row

    for _, row in all_rows(table1):
        assert set(row.unstated) <= set(Row.model_fields)


def test_numbers_equal_the_papers_text(table1: Experiment) -> None:
    """Set DIABLO_PAPER_TEXT to a text of the paper with tables as `|`-separated lines."""
    path = os.environ.get("DIABLO_PAPER_TEXT")
    if not path:
        pytest.skip("DIABLO_PAPER_TEXT does not name the paper's text")
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| Llama2-7B | |||||||||||"))
    printed: dict[str, list[tuple[str, str, list[float]]]] = {}
    for line in lines[start:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            break
        numbers = [float(cell) for cell in cells[1:] if re.fullmatch(r"\d+\.?\d*", cell)][-9:]
        if cells[0] in GROUPS:
            label = cells[0]
        elif len(numbers) == 9:
            percent = next(cell for cell in cells if cell.endswith("%"))
            name = re.sub(r"[^\w() -]", "", cells[0])
            printed.setdefault(label, []).append((name, percent, numbers))
    for group in table1.groups:
        typed = [(row.label, row.params, list(row.reported.values())) for row in group.rows]
        assert typed == printed[group.label]
