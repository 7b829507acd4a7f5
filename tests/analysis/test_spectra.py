"""Effective ranks: of matrices whose spectra are known, and against the singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo.analysis.spectra import effective_rank, numerical_rank, singular_values, tolerance


def matrix_of(values: list[float], rows: int, width: int, seed: int) -> torch.Tensor:
    """A random (rows, width) matrix with these singular values."""
    random = np.random.default_rng(seed)
    left = np.linalg.qr(random.standard_normal((rows, len(values))))[0]
    right = np.linalg.qr(random.standard_normal((width, len(values))))[0]
    return torch.from_numpy(left * np.array(values) @ right.T)


spectra = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=12).map(
    lambda values: sorted(values, reverse=True)
)


@settings(max_examples=60)
@given(spectra, st.integers(12, 30), st.integers(12, 30), st.integers(0, 2**32 - 1))
def test_known_spectra(values, rows, width, seed) -> None:
    found = singular_values(matrix_of(values, rows, width, seed))
    assert len(found) == min(rows, width)
    torch.testing.assert_close(
        found[: len(values)], torch.tensor(values, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    relative = tolerance(rows, width, torch.float32)
    # All values are at least 1e-4 of the largest; what is noise lies far below.
    assert numerical_rank(found, relative) == len(values)
    for power in (1, 2):
        for threshold in (0.5, 0.9, 0.99):
            k = effective_rank(found, threshold, power)
            powers = found.numpy() ** power
            share = powers.cumsum() / powers.sum()
            assert share[k - 1] >= threshold * (1 - 1e-9)
            assert k == 1 or share[k - 2] < threshold * (1 + 1e-9)
            assert 1 <= k <= len(values)
        assert effective_rank(found, 0.9, 1) >= effective_rank(found, 0.9, 2)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(-8, 8))
def test_the_gram_matrix_loses_no_more_than_its_bound(rows, width, seed, magnitude) -> None:
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((rows, width)) * 10.0**magnitude
    exact = np.linalg.svd(matrix, compute_uv=False)
    found = singular_values(torch.from_numpy(matrix)).numpy()
    bound = 8 * max(rows, width) * np.finfo(float).eps * exact[0] ** 2
    assert np.abs(found**2 - exact**2).max() <= bound


@pytest.mark.parametrize("shape", [(9000, 7), (7, 9000)])
def test_long_sides_are_taken_in_pieces(shape) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(matrix.double())
    torch.testing.assert_close(singular_values(matrix), exact, rtol=1e-10, atol=0)


def test_equal_values_need_their_share() -> None:
    values = torch.ones(100, dtype=torch.float64)
    assert [effective_rank(values, tau) for tau in (0.9, 0.95, 0.99)] == [90, 95, 99]
    # Squares 16 : 9, values 4 : 3.
    uneven = torch.tensor([4.0, 3.0])
    assert effective_rank(uneven, 0.6, 2) == 1
    assert effective_rank(uneven, 0.6, 1) == 2


def test_zero_has_no_rank() -> None:
    values = singular_values(torch.zeros(5, 3))
    assert numerical_rank(values, 1e-6) == effective_rank(values, 0.9) == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.5])
def test_shares_lie_between_none_and_all(threshold) -> None:
    with pytest.raises(ValueError, match=f"threshold = {threshold}"):
        effective_rank(torch.ones(3), threshold)


def test_rounding_of_the_arithmetic_is_no_rank() -> None:
    """A product of rank 3 in float32 has full rank in exact arithmetic."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(60, 3, generator=generator)
    matrix = left @ torch.randn(3, 40, generator=generator)
    values = singular_values(matrix)
    assert numerical_rank(values, 0.0) > 3
    assert numerical_rank(values, tolerance(60, 40, matrix.dtype)) == 3
