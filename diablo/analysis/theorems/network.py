"""Theorem 2 in a small nonlinear network: train the blocks to a stationary point, measure all of it.

Outputs are φ(X (W + D) P) Q with φ(z) = z + tanh z, the loss is half the squared distance to noisy
targets: not convex in D, and without a minimum at infinity. The inputs have rank r1; the gradient of the
layer's output passes through P (m2, r2), so it has rank r2 wherever it does not vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from diablo.analysis.theorems.least_squares import generic
from diablo.analysis.theorems.linear import block_diagonal, diagonal_blocks
from diablo.analysis.theorems.stationary import (
    System,
    needed_blocks,
    relative_gradients,
    row_space_of,
)

#: L-BFGS ends where rounding of the loss ends its line search; a restart forgets its wrong curvature.
RESTARTS = 20


@dataclass(frozen=True)
class Network:
    """X (b, m1), W (m1, m2), P (m2, r2), Q (r2, r2), targets (b, r2); all but W + D is frozen."""

    inputs: np.ndarray
    weight: np.ndarray
    head: np.ndarray
    mix: np.ndarray
    targets: np.ndarray

    @classmethod
    def draw(cls, rows: int, width: int, rank1: int, rank2: int, seed: int) -> Network:
        """A network of one width (m1 = m2) with Gaussian weights, inputs of rank r1, targets of noise."""
        random = np.random.default_rng(seed)
        return cls(
            inputs=generic(rows, width, rank1, random) / rank1**0.5,
            weight=random.standard_normal((width, width)) / width**0.5,
            head=random.standard_normal((width, rank2)) / width**0.5,
            mix=random.standard_normal((rank2, rank2)) / rank2**0.5,
            targets=random.standard_normal((rows, rank2)),
        )

    def loss_and_gradient(self, update: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss at W + update, and the gradient g_Y (b, m2) of the layer's output."""
        hidden = self.inputs @ (self.weight + update) @ self.head
        bent = np.tanh(hidden)
        error = (hidden + bent) @ self.mix - self.targets
        output_gradient = ((error @ self.mix.T) * (2 - bent**2)) @ self.head.T
        return 0.5 * float(np.sum(error**2)), output_gradient

    def train(self, blocks: int) -> np.ndarray:
        """The update (m1, m2) of a stationary point of the blocks, from zero by L-BFGS.

        Raises:
            ValueError: if N is no common factor of m1 and m2.
        """
        width = len(self.weight)
        shape = diagonal_blocks(self.weight, blocks).shape

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.loss_and_gradient(block_diagonal(flat.reshape(shape)))
            return value, diagonal_blocks(self.inputs.T @ gradient, blocks).ravel()

        point = np.zeros(width * width // blocks)
        options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-14}
        best = np.linalg.norm(loss(point)[1])
        for _ in range(RESTARTS):
            found = scipy.optimize.minimize(
                loss, point, jac=True, method="L-BFGS-B", options=options
            )
            if (norm := np.linalg.norm(found.jac)) >= best:
                break
            best, point = norm, found.x
        return block_diagonal(point.reshape(shape))


def train_and_measure(network: Network, blocks: int) -> dict[str, float | int | bool]:
    """Gradients before and after training the blocks, the ranks found there, and Theorem 2's condition.

    `blocks_*` and `full_*` are norms relative to ||X|| · ||g_Y||; `ratio` is full over blocks at the end and
    `bound` the most it can be with the row spaces found there (inf where the system is deficient).

    Raises:
        ValueError: if N is no common factor of the widths.
        FloatingPointError: if a rank is not clear.
    """
    width = len(network.weight)
    _, before = network.loss_and_gradient(np.zeros((width, width)))
    blocks_start, full_start = relative_gradients(network.inputs, before, blocks)
    loss, after = network.loss_and_gradient(network.train(blocks))
    blocks_end, full_end = relative_gradients(network.inputs, after, blocks)
    system = System.of(row_space_of(network.inputs), row_space_of(after), blocks)
    rank1, rank2 = len(system.left), len(system.right)
    needed = needed_blocks(width, width, blocks, rank1, rank2)
    return {
        "params": width * width // blocks,
        "rank1": rank1,
        "rank2": rank2,
        "needed": needed,
        "inside": blocks >= needed,
        "loss": loss,
        "blocks_start": blocks_start,
        "full_start": full_start,
        "blocks_end": blocks_end,
        "full_end": full_end,
        "ratio": full_end / blocks_end,
        "bound": system.bound,
    }
