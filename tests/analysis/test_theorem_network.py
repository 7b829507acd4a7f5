"""Theorem 2 in a network: its gradient, and what is left of it where the blocks' is gone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from diablo.analysis.theorems.linear import diagonal_blocks
from diablo.analysis.theorems.network import Network, train_and_measure


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.draw(rows=16, width=12, rank1=4, rank2=4, seed=0)


def test_the_gradient_is_that_of_finite_differences(network: Network) -> None:
    update = 0.1 * np.random.default_rng(0).standard_normal((12, 12))
    _, output_gradient = network.loss_and_gradient(update)
    numeric = approx_fprime(
        update.ravel(), lambda flat: network.loss_and_gradient(flat.reshape(12, 12))[0], 1e-7
    )
    np.testing.assert_allclose(
        (network.inputs.T @ output_gradient).ravel(), numeric, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("blocks", [1, 2, 4, 6])
def test_inside_the_condition_nothing_is_left(network: Network, blocks) -> None:
    found = train_and_measure(network, blocks)
    assert (found["rank1"], found["rank2"]) == (4, 4)
    assert found["inside"]
    assert found["full_start"] > 0.01
    assert found["full_end"] <= 1e-7
    assert found["ratio"] <= found["bound"]


def test_outside_the_blocks_alone_come_to_rest(network: Network) -> None:
    found = train_and_measure(network, 12)
    assert not found["inside"]
    assert found["blocks_end"] <= 1e-7
    assert found["full_end"] >= 1e-3
    assert np.isinf(found["bound"])


def test_training_moves_the_blocks_alone_and_lowers_the_loss(network: Network) -> None:
    update = network.train(4)
    outside = update.copy().reshape(4, 3, 4, 3)
    outside[np.arange(4), :, np.arange(4)] = 0
    assert not outside.any()
    assert np.abs(diagonal_blocks(update, 4)).max() > 0
    before, after = (network.loss_and_gradient(one)[0] for one in (np.zeros((12, 12)), update))
    assert after < before
