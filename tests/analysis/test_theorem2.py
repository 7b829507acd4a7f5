"""Theorem 2: the stacked system, its exact rank, the condition over random sizes, counter-examples."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import ZZ
from sympy.polys.matrices import DomainMatrix

from diablo.analysis.theorems.exact import PRIME, generic_rank, rank_modulo
from diablo.analysis.theorems.least_squares import (
    diablo_minimum,
    full_minimum,
    loss,
    relative_gap,
)
from diablo.analysis.theorems.linear import common_factors, diagonal_blocks
from diablo.analysis.theorems.stationary import (
    System,
    kronecker_system,
    needed_blocks,
    relative_gradients,
    row_space,
    row_space_of,
)


def rational_rank(matrix: np.ndarray) -> int:
    """The rank over the rational numbers, without rounding."""
    rows = [[ZZ(int(entry)) for entry in line] for line in matrix]
    return DomainMatrix(rows, matrix.shape, ZZ).to_field().rank()


def drawn(m1: int, m2: int, blocks: int, rank1: int, rank2: int, seed: int = 0) -> System:
    random = np.random.default_rng(seed)
    return System.of(row_space(rank1, m1, random), row_space(rank2, m2, random), blocks)


@st.composite
def systems(draw) -> tuple[int, int, int, int, int, int]:
    """m1, m2, N, r1, r2 and a seed."""
    blocks = draw(st.integers(1, 5))
    m1, m2 = (blocks * draw(st.integers(1, 3)) for _ in range(2))
    ranks = draw(st.integers(1, m1)), draw(st.integers(1, m2))
    return m1, m2, blocks, *ranks, draw(st.integers(0, 10_000))


@settings(derandomize=True, max_examples=200)
@given(systems())
def test_inside_zero_outside_whatever_the_exact_rank_says(sizes) -> None:
    m1, m2, blocks, rank1, rank2, seed = sizes
    system, random = drawn(*sizes), np.random.default_rng(seed)
    assert system.rank == generic_rank(m1, m2, blocks, rank1, rank2, random)
    if blocks >= needed_blocks(m1, m2, blocks, rank1, rank2):
        assert system.full
    if system.full:
        core = random.standard_normal((rank1, rank2))
        of_blocks, full = relative_gradients(*system.realise(core, random), blocks)
        assert full <= of_blocks * system.bound * (1 + 1e-9)
    else:
        inputs, output_gradient = system.realise(system.null_core(random), random)
        of_blocks, full = relative_gradients(inputs, output_gradient, blocks)
        assert of_blocks <= 1e-12
        assert full >= 1e-3
        assert np.linalg.matrix_rank(inputs) == rank1
        assert np.linalg.matrix_rank(output_gradient) == rank2


@settings(derandomize=True, max_examples=60)
@given(systems())
def test_ranks_are_those_of_rational_arithmetic(sizes) -> None:
    m1, m2, blocks, rank1, rank2, seed = sizes
    random = np.random.default_rng(seed)
    left, right = random.integers(-3, 4, (rank1, m1)), random.integers(-3, 4, (rank2, m2))
    matrix = kronecker_system(left, right, blocks)
    exact = rational_rank(matrix)
    assert rank_modulo(matrix) == exact
    if np.linalg.matrix_rank(left) == rank1 and np.linalg.matrix_rank(right) == rank2:
        # A basis of the same row spaces: the same rank.
        assert System.of(row_space_of(left), row_space_of(right), blocks).rank == exact


def test_rank_modulo_finds_the_ranks_of_products() -> None:
    random = np.random.default_rng(0)
    for rank in range(1, 6):
        matrix = random.integers(-9, 10, (7, rank)) @ random.integers(-9, 10, (rank, 5))
        assert rank_modulo(matrix) == rational_rank(matrix) == rank
    assert rank_modulo(np.zeros((3, 4), dtype=np.int64)) == 0
    # Zeros where the next pivot would be, and entries that are zero modulo the prime alone.
    assert rank_modulo(np.array([[0, 0, 2], [0, 3, 1], [0, 6, 2]])) == 2
    assert rank_modulo(np.array([[PRIME, 0], [0, 1]])) == 1


def test_the_system_takes_a_core_to_its_blocks() -> None:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((3, 8)), random.standard_normal((5, 12))
    core = random.standard_normal((3, 5))
    expected = diagonal_blocks(left.T @ core @ right, 4).ravel()
    np.testing.assert_allclose(kronecker_system(left, right, 4) @ core.ravel(), expected)
    # Block n is the Kronecker product of A_n^T and B_n^T.
    first = np.kron(left[:, :2].T, right[:, :3].T)
    np.testing.assert_allclose(kronecker_system(left, right, 4)[:6], first)


def test_needed_blocks_are_the_theorems() -> None:
    for m1, m2 in ((12, 18), (24, 24)):
        for blocks in common_factors(m1, m2):
            for rank1 in range(1, m1 + 1):
                for rank2 in range(1, m2 + 1):
                    sides = Fraction(rank1 * blocks, m1), Fraction(rank2 * blocks, m2)
                    expected = math.prod(map(math.ceil, sides))
                    assert needed_blocks(m1, m2, blocks, rank1, rank2) == expected


def test_no_gradient_exceeds_the_bound_and_one_reaches_it() -> None:
    system, random = drawn(12, 12, 4, 5, 6), np.random.default_rng(0)
    assert system.full
    worst = system.vectors[-1].reshape(5, 6)
    of_blocks, full = relative_gradients(*system.realise(worst, random), 4)
    assert full / of_blocks == pytest.approx(system.bound, rel=1e-9)
    with pytest.raises(ValueError, match="full column rank"):
        system.null_core(random)


def test_a_counter_example_with_equations_enough() -> None:
    """N = 2: two pairs of subspaces meet, so equations repeat each other."""
    system = drawn(6, 6, 2, 4, 4)
    assert system.equations == 18 > system.unknowns == 16
    assert system.rank == 2 * 9 - 4
    assert math.isinf(system.bound)


def test_a_counter_example_is_a_least_squares_problem_that_diablo_cannot_improve() -> None:
    """With targets −g_Y the loss has the gradient g_Y at Δ = 0, a minimum of the blocks alone."""
    system, random = drawn(12, 12, 6, 5, 5), np.random.default_rng(1)
    inputs, output_gradient = system.realise(system.null_core(random), random)
    targets = -output_gradient
    at_zero = loss(inputs, targets, np.zeros((12, 12)))
    of_blocks = loss(inputs, targets, diablo_minimum(inputs, targets, 6))
    assert of_blocks == pytest.approx(at_zero, rel=1e-12)
    assert loss(inputs, targets, full_minimum(inputs, targets)) < 0.99 * at_zero
    assert relative_gap(inputs, targets, np.zeros((12, 12))) == 1


def test_a_realisation_has_the_gradient_of_its_core() -> None:
    system, random = drawn(8, 12, 4, 3, 5), np.random.default_rng(2)
    core = random.standard_normal((3, 5))
    inputs, output_gradient = system.realise(core, random)
    assert inputs.shape == (8, 8)
    assert output_gradient.shape == (8, 12)
    expected = system.left.T @ core @ system.right / np.linalg.norm(core, 2)
    np.testing.assert_allclose(inputs.T @ output_gradient, expected, atol=1e-14)
