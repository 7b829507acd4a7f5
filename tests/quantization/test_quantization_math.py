"""Grids, GPTQ, MagR, NF4 and LoftQ against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from quantization_cases import (
    magr_by_solver,
    obq,
    problem,
    textbook_grid,
    textbook_round,
)

from diablo.quantization.gptq import gptq, inverse_factor
from diablo.quantization.grid import Grid, GridSettings
from diablo.quantization.loftq import loftq
from diablo.quantization.magr import magr, project_l1, prox_max_norm
from diablo.quantization.nf4 import nf4
from diablo.quantization.quality import output_energy, relative

SEEDS = st.integers(0, 10_000)
GRIDS = st.builds(
    GridSettings,
    bits=st.integers(2, 8),
    group_size=st.sampled_from([None, 4, 8]),
    symmetric=st.booleans(),
    shrink=st.sampled_from([1.0, 0.8]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)


def random_weight(seed, rows=3, columns=16):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60)
@given(SEEDS, GRIDS)
def test_rounding_twice_on_a_grid_is_rounding_once(seed, grid_settings) -> None:
    weight = random_weight(seed)
    grid = Grid.fit(weight, grid_settings)
    once = grid.round(weight)
    assert torch.equal(grid.round(once.float()), once)
    assert once.dtype == grid_settings.dtype


@settings(max_examples=60)
@given(SEEDS, st.integers(2, 8), st.sampled_from([None, 4]))
def test_a_weight_that_lies_on_the_grid_of_its_range_is_kept(seed, bits, group_size) -> None:
    generator = torch.Generator().manual_seed(seed)
    top = 2**bits - 1
    codes = torch.randint(0, top + 1, (3, 16), generator=generator).float()
    codes[:, ::4], codes[:, 1::4] = 0, top  # each group spans the whole range
    zero = torch.randint(0, top + 1, (3, 1), generator=generator)
    weight = 0.25 * (codes - zero)
    assert torch.allclose(Grid.fit(weight, GridSettings(bits, group_size)).round(weight), weight)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shrink", [1.0, 0.8])
@pytest.mark.parametrize("group_size", [None, 4])
def test_rounding_equals_the_textbooks(symmetric, shrink, group_size) -> None:
    weight = random_weight(5).double()
    weight[0, :4] = 0
    got = Grid.fit(weight, GridSettings(3, group_size, symmetric, shrink)).round(weight)
    size = group_size or 16
    for row in range(3):
        for start in range(0, 16, size):
            members = weight[row, start : start + size].numpy()
            grid = textbook_grid(members, 3, symmetric, shrink)
            expected = [textbook_round(value, *grid) for value in members]
            np.testing.assert_allclose(
                got[row, start : start + size], expected, atol=1e-6, rtol=1e-6
            )


@settings(max_examples=40)
@given(SEEDS, GRIDS)
def test_zero_stays_zero_and_an_all_zero_row_too(seed, grid_settings) -> None:
    weight = random_weight(seed)
    weight[0] = 0
    weight[:, 3] = 0
    rounded = Grid.fit(weight, grid_settings).round(weight)
    assert not rounded[0].any()
    assert not rounded[:, 3].any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize(
    ("group_size", "act_order", "symmetric", "shrink"),
    [
        (None, False, False, 1.0),
        (None, True, True, 1.0),
        (4, False, False, 0.8),
        (4, True, False, 1.0),
    ],
)
def test_gptq_equals_obq_column_by_column(
    seed, bits, group_size, act_order, symmetric, shrink
) -> None:
    weight, hessian = problem(seed=seed)
    grid = GridSettings(bits, group_size, symmetric, shrink)
    got = gptq(weight, hessian, grid, 0.01, act_order)
    expected = obq(weight, hessian, bits, group_size, 0.01, act_order, symmetric, shrink)
    # Values are stored in float32, the search is in float64.
    np.testing.assert_allclose(got.values, expected, atol=1e-6, rtol=1e-6)


def test_gptq_across_blocks_equals_obq() -> None:
    weight, hessian = problem(rows=2, columns=150, samples=300)
    got = gptq(weight, hessian, GridSettings(3), 0.01)
    np.testing.assert_allclose(got.values, obq(weight, hessian, 3, None, 0.01), atol=1e-6)


def test_gptq_with_a_dead_input_drops_its_column() -> None:
    weight, hessian = problem()
    hessian[3, :] = hessian[:, 3] = 0
    got = gptq(weight, hessian, GridSettings(4, 4), 0.01)
    assert not got.values[:, 3].any()
    np.testing.assert_allclose(got.values, obq(weight, hessian, 4, 4, 0.01), atol=1e-6)


@settings(max_examples=40)
@given(SEEDS, GRIDS, st.booleans())
def test_gptq_of_uncorrelated_inputs_is_rounding(seed, grid_settings, act_order) -> None:
    weight = random_weight(seed).double()
    got = gptq(weight, torch.eye(16, dtype=torch.float64), grid_settings, 0.01, act_order)
    assert torch.equal(got.values, Grid.fit(weight, grid_settings).round(weight))


@settings(max_examples=20)
@given(SEEDS)
def test_the_error_is_that_of_the_outputs(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(30, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    energy = output_energy(weight, inputs.T @ inputs)
    assert energy == pytest.approx((inputs @ weight.T).norm().item() ** 2)


def test_the_relative_error_of_a_layer_without_input_is_zero() -> None:
    assert relative(0.0, 0.0) == 0.0
    assert relative(1.0, 4.0) == 0.5


def test_gptq_beats_rounding_on_its_inputs() -> None:
    weight, hessian = problem(rows=32, columns=64, samples=200)
    grid = GridSettings(2, 16)
    rounding = output_energy(Grid.fit(weight, grid).round(weight) - weight, hessian)
    assert output_energy(gptq(weight, hessian, grid).values - weight, hessian) < 0.8 * rounding


def test_a_singular_hessian_gets_more_damping() -> None:
    rank_one = torch.ones(6, 6)
    rank_one[0, 0] = 0.5  # not positive definite without the damping
    _, damp = inverse_factor(rank_one, 0.0, "layer")
    assert damp in (0.01, 0.1, 1.0)


def test_a_hessian_no_damping_repairs_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"model\.layers\.0\.q_proj: .*singular"):
        inverse_factor(torch.eye(4) - 5 * torch.ones(4, 4), 0.01, "model.layers.0.q_proj")


@pytest.mark.parametrize("group_size", [None, 4])
@pytest.mark.parametrize("alpha", [1e-3, 1e-1])
def test_magr_solves_its_problem(group_size, alpha) -> None:
    weight, hessian = problem(rows=3, columns=8)
    # Well conditioned, so that plain proximal steps reach 1e-6.
    hessian = hessian + hessian.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    got = magr(weight, hessian, alpha, group_size, iterations=5000)
    expected = magr_by_solver(weight, hessian, alpha, group_size)
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=1e-6)


def test_magr_of_k_steps_equals_a_loop_over_rows() -> None:
    weight, hessian = problem(rows=3, columns=8)
    scaled = hessian.numpy() / np.linalg.norm(hessian.numpy(), 2)
    expected = []
    for row in weight.numpy():
        x = row.copy()
        for _ in range(7):
            v = x - scaled @ (x - row)
            # Moreau: v minus its projection on the l1 ball, by sorting (Duchi et al., 2008).
            sizes = np.sort(np.abs(v))[::-1]
            sums = (np.cumsum(sizes) - 0.05) / np.arange(1, 9)
            t = max(sums[np.nonzero(sizes > sums)[0][-1]], 0)
            x = np.clip(v, -t, t)
        expected.append(x)
    np.testing.assert_allclose(magr(weight, hessian, 0.05, None, 7), expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=20)
@given(SEEDS)
def test_magr_without_a_penalty_changes_nothing(seed) -> None:
    weight, hessian = problem(seed=seed)
    assert torch.equal(magr(weight, hessian, 0.0), weight)


def test_magr_lowers_the_largest_weight_and_hardly_changes_the_outputs() -> None:
    weight, hessian = problem(rows=16, columns=64, samples=20)
    got = magr(weight, hessian, 1e-2)
    assert (got.abs().amax(1) < weight.abs().amax(1)).all()
    assert output_energy(got - weight, hessian) < 0.01 * output_energy(weight, hessian)


def test_magr_of_a_layer_without_input_keeps_the_weight() -> None:
    weight, hessian = problem()
    assert torch.equal(magr(weight, torch.zeros_like(hessian), 1e-3), weight)


@settings(max_examples=80)
@given(SEEDS, st.floats(1e-4, 20))
def test_the_projection_on_the_l1_ball(seed, radius) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    projected = project_l1(vectors, radius)
    assert (projected.abs().sum(-1) <= radius * (1 + 1e-9)).all()
    inside = vectors.abs().sum(-1) <= radius
    assert torch.equal(projected[inside], vectors[inside])
    # The nearest point p of a convex set: <v - p, q - p> <= 0 for all its corners q.
    corners = radius * torch.cat([torch.eye(9), -torch.eye(9)]).double()
    gaps = torch.einsum("bi,bqi->bq", vectors - projected, corners - projected[:, None])
    assert (gaps <= 1e-8).all()
    assert torch.allclose(project_l1(projected, radius), projected)
    # Moreau's identity.
    assert torch.allclose(prox_max_norm(vectors, radius) + projected, vectors)


def test_nf4_gives_the_nearest_of_its_sixteen_values() -> None:
    from bitsandbytes.functional import get_4bit_type

    weight = random_weight(1, 4, 64)
    table = get_4bit_type("nf4", device="cpu")
    for row, got in zip(weight, nf4(weight), strict=True):
        top = row.abs().max()
        nearest = (row[:, None] / top - table).abs().argmin(1)
        assert torch.allclose(got, table[nearest] * top, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_loftq_alternates_as_published(bits) -> None:
    weight = random_weight(2, 24, 32)
    grid = GridSettings(bits, 8)
    quantised, down, up = loftq(weight, lambda w: Grid.fit(w, grid).round(w), 4, 3)
    target = weight.numpy().astype(np.float64)
    low_rank = np.zeros_like(target)
    for _ in range(3):
        left = torch.from_numpy(target - low_rank)
        expected = Grid.fit(left, grid).round(left).numpy()
        u, s, v = np.linalg.svd(target - expected)
        low_rank = u[:, :4] * s[:4] @ v[:4]
    np.testing.assert_allclose(quantised, expected, atol=1e-5)
    np.testing.assert_allclose(up @ down, low_rank, atol=1e-5)
    assert (weight - quantised - up @ down).norm() < (weight - quantised).norm()


def test_a_rank_beyond_the_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 9 is larger"):
        loftq(random_weight(0, 8, 16), lambda w: w.round(), 9, 1)


@settings(max_examples=20)
@given(SEEDS)
def test_wider_grids_are_no_worse_on_average(seed) -> None:
    weight = random_weight(seed, 8, 64)
    assume(weight.abs().min() > 0)
    errors = [
        (Grid.fit(weight, GridSettings(bits, 16)).round(weight) - weight).norm().item()
        for bits in (2, 4, 8)
    ]
    assert errors == sorted(errors, reverse=True)
