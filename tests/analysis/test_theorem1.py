"""Theorem 1: exact minima against other ways to them, and the theorem over random sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.analysis.theorems.least_squares import (
    diablo_minimum,
    full_minimum,
    generic,
    lora_minimum,
    loss,
    relative_gap,
    required_rank,
)
from diablo.analysis.theorems.linear import (
    block_diagonal,
    clear_rank,
    common_factors,
    diagonal_blocks,
)


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Inputs of rank r, generic targets, r, and an N that may lie on either side of the bound."""
    blocks = draw(st.integers(1, 6))
    m1, m2 = blocks * draw(st.integers(1, 6)), blocks * draw(st.integers(8, 10))
    rank = draw(st.integers(1, min(m1, 12)))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows = rank + draw(st.integers(0, 20))
    inputs = generic(rows, m1, rank, random)
    return inputs, generic(rows, m2, min(rows, m2), random), rank, blocks


@settings(derandomize=True)
@given(problems())
def test_diablo_reaches_the_minimum_exactly_up_to_the_bound(problem) -> None:
    inputs, targets, rank, blocks = problem
    gap = relative_gap(inputs, targets, diablo_minimum(inputs, targets, blocks))
    if blocks * rank <= inputs.shape[1]:
        assert abs(gap) <= 1e-10
    else:
        assert gap >= 1e-3


@settings(derandomize=True, max_examples=50)
@given(problems(), st.integers(0, 12))
def test_lora_reaches_the_minimum_from_the_required_rank_on(problem, lora_rank) -> None:
    inputs, targets, rank, _ = problem
    required = required_rank(inputs, targets)
    assert required == min(rank, targets.shape[1])
    update = lora_minimum(inputs, targets, lora_rank)
    values = np.linalg.svd(update, compute_uv=False)
    assert clear_rank(values) == min(lora_rank, required)
    gap = relative_gap(inputs, targets, update)
    if lora_rank >= required:
        assert abs(gap) <= 1e-10
    else:
        # As small as the least singular value of a generic square matrix, not of fixed size.
        assert gap > 1e-9


@pytest.mark.parametrize("blocks", common_factors(12, 6))
def test_blocks_are_the_masked_dense_least_squares(blocks) -> None:
    random = np.random.default_rng(blocks)
    inputs, targets = generic(10, 12, 4, random), random.standard_normal((10, 6))
    allowed = block_diagonal(np.ones((blocks, 12 // blocks, 6 // blocks))).ravel() > 0
    # Rows of the vectorised system are entries of XΔ, columns entries of Δ; the forbidden ones go.
    dense = np.einsum("bi,jk->bjik", inputs, np.eye(6)).reshape(60, 72)[:, allowed]
    solution = np.linalg.lstsq(dense, targets.ravel(), rcond=1e-10)[0]
    least = float(np.sum((dense @ solution - targets.ravel()) ** 2))
    update = diablo_minimum(inputs, targets, blocks)
    assert not update.ravel()[~allowed].any()
    assert loss(inputs, targets, update) == pytest.approx(least, rel=1e-12)


def alternate(
    inputs: np.ndarray, targets: np.ndarray, rank: int, random: np.random.Generator
) -> float:
    """The loss that LoRA's factors reach by solving for each in turn."""
    down = random.standard_normal((inputs.shape[1], rank))
    inverse = np.linalg.pinv(inputs, rcond=1e-10)
    for _ in range(600):
        up = np.linalg.pinv(inputs @ down) @ targets
        down = inverse @ targets @ np.linalg.pinv(up)
    return loss(inputs, targets, down @ up)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_no_alternating_minimisation_beats_loras_minimum(rank) -> None:
    random = np.random.default_rng(rank)
    inputs, targets = generic(9, 5, 3, random), random.standard_normal((9, 4))
    exact = loss(inputs, targets, lora_minimum(inputs, targets, rank))
    reached = [alternate(inputs, targets, rank, random) for _ in range(4)]
    assert min(reached) >= exact * (1 - 1e-12)
    assert min(reached) == pytest.approx(exact, rel=1e-8)


def test_targets_of_a_low_rank_need_no_more_than_that_of_lora() -> None:
    random = np.random.default_rng(0)
    inputs, targets = generic(30, 24, 6, random), generic(30, 24, 2, random)
    assert required_rank(inputs, targets) == 2
    assert abs(relative_gap(inputs, targets, lora_minimum(inputs, targets, 2))) <= 1e-10
    # DiaBlo's bound does not know the targets: N = 4 is its last.
    gaps = {n: relative_gap(inputs, targets, diablo_minimum(inputs, targets, n)) for n in (4, 6)}
    assert abs(gaps[4]) <= 1e-10
    assert gaps[6] >= 1e-3


def test_gap_is_one_without_an_update_and_zero_at_the_minimum() -> None:
    random = np.random.default_rng(0)
    inputs, targets = generic(20, 8, 3, random), random.standard_normal((20, 6))
    assert relative_gap(inputs, targets, np.zeros((8, 6))) == 1
    assert relative_gap(inputs, targets, full_minimum(inputs, targets)) == 0
    # At the minimum the gradient is zero.
    residual = inputs @ full_minimum(inputs, targets) - targets
    assert np.abs(inputs.T @ residual).max() < 1e-12


def test_blocks_go_into_a_matrix_and_out_again() -> None:
    blocks = np.arange(12.0).reshape(2, 3, 2)
    matrix = block_diagonal(blocks)
    assert matrix.shape == (6, 4)
    np.testing.assert_array_equal(matrix[3:, 2:], blocks[1])
    assert not matrix[:3, 2:].any()
    np.testing.assert_array_equal(diagonal_blocks(matrix, 2), blocks)


def test_mistakes_name_the_numbers() -> None:
    inputs, targets = np.ones((4, 12)), np.ones((4, 18))
    with pytest.raises(ValueError, match=r"N = 4 .* m1 = 12 and m2 = 18: give one of 1, 2, 3, 6"):
        diablo_minimum(inputs, targets, 4)
    with pytest.raises(ValueError, match="no 4 x 6 matrix has rank 5"):
        generic(4, 6, 5, np.random.default_rng(0))


def test_a_rank_that_rounding_could_decide_is_refused() -> None:
    assert clear_rank(np.array([2.0, 1.0, 1e-16])) == 2
    assert clear_rank(np.array([2.0, 1.0])) == 2
    assert clear_rank(np.zeros(3)) == 0
    with pytest.raises(FloatingPointError, match=r"rank 2 is not clear: .*5\.0e-10 and 5\.0e-11"):
        clear_rank(np.array([1.0, 5e-10, 5e-11]))
