"""Theorem 2: when do vanishing diagonal blocks of a gradient make the whole gradient vanish?

X (b, m1) and g_Y (b, m2) have ranks r1 and r2; X = U A and g_Y = V B with orthonormal rows in A (r1, m1) and
B (r2, m2). The gradient of the weight is X^T g_Y = A^T C B with the core C = U^T V (r1, r2), and as large as
C. Its n-th diagonal block is A_n^T C B_n, linear in C; the blocks stacked are the paper's system (9). If
it has full column rank, no core but zero makes the blocks vanish. If not, its null space holds cores
whose blocks vanish and whose gradient does not: counter-examples.

Rank, and not genericity of X and g_Y as a whole, is what such an experiment can vary: a vanishing gradient
makes the columns of X and g_Y orthogonal, which independent draws never are (and which needs r1 + r2 <= b).
So A and B are drawn, and C follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diablo.analysis.theorems.linear import check_blocks, clear_rank, diagonal_blocks


def needed_blocks(inputs: int, outputs: int, blocks: int, rank1: int, rank2: int) -> int:
    """⌈r1 N / m1⌉ · ⌈r2 N / m2⌉; the theorem's condition is that N is no less."""
    return -(-rank1 * blocks // inputs) * -(-rank2 * blocks // outputs)


def row_space(rank: int, width: int, random: np.random.Generator) -> np.ndarray:
    """An orthonormal basis (rank, width) of a uniformly drawn row space."""
    return np.linalg.qr(random.standard_normal((width, rank)))[0].T


def row_space_of(matrix: np.ndarray) -> np.ndarray:
    """An orthonormal basis (r, width) of a matrix' row space.

    Raises:
        FloatingPointError: if its rank is not clear.
    """
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    return right[: clear_rank(values)]


def kronecker_system(left: np.ndarray, right: np.ndarray, blocks: int) -> np.ndarray:
    """The stacked system (m1 · m2 / N, r1 · r2): C, row by row, to the entries of all A_n^T C B_n.

    Block n is the Kronecker product of A_n^T and B_n^T (the paper stacks C's columns, and so has them the
    other way round). The entries' type is kept: integers stay integers.

    Args:
        left: A (r1, m1).
        right: B (r2, m2).

    Raises:
        ValueError: if N is no common factor of m1 and m2.
    """
    (rank1, m1), (rank2, m2) = left.shape, right.shape
    check_blocks(m1, m2, blocks)
    a, b = left.reshape(rank1, blocks, -1), right.reshape(rank2, blocks, -1)
    return np.einsum("inp,jnq->npqij", a, b).reshape(-1, rank1 * rank2)


@dataclass(frozen=True)
class System:
    """The stacked system of two row spaces, decomposed.

    Attributes:
        left, right: A (r1, m1) and B (r2, m2), with orthonormal rows.
        blocks: N.
        values: singular values of the system, falling, at most 1.
        vectors: its right singular vectors, a row each.
        rank: its rank, clear by :func:`~diablo.analysis.theorems.linear.clear_rank`.
    """

    left: np.ndarray
    right: np.ndarray
    blocks: int
    values: np.ndarray
    vectors: np.ndarray
    rank: int

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, blocks: int) -> System:
        """Decompose the system of two bases with orthonormal rows.

        Raises:
            FloatingPointError: if its rank is not clear.
        """
        matrix = kronecker_system(left, right, blocks)
        _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
        return cls(left, right, blocks, values, vectors, clear_rank(values))

    @property
    def unknowns(self) -> int:
        """r1 · r2, the entries of the core."""
        return len(self.left) * len(self.right)

    @property
    def equations(self) -> int:
        """m1 · m2 / N, the entries of the blocks."""
        return self.left.shape[1] * self.right.shape[1] // self.blocks

    @property
    def full(self) -> bool:
        """Whether vanishing blocks force the whole gradient to vanish."""
        return self.rank == self.unknowns

    @property
    def bound(self) -> float:
        """The most that the norm of the whole gradient can be, in norms of its blocks; inf if not `full`.

        One over the least singular value: with orthonormal rows the gradient is as large as the core. It
        holds for every gradient with these row spaces, stationary or not.
        """
        return 1 / float(self.values[-1]) if self.full else float("inf")

    def null_core(self, random: np.random.Generator) -> np.ndarray:
        """A random core (r1, r2) of norm 1 whose blocks vanish.

        Raises:
            ValueError: if there is none.
        """
        if self.full:
            raise ValueError(
                "the system has full column rank: no core but zero has vanishing blocks"
            )
        core, kept = random.standard_normal(self.unknowns), self.vectors[: self.rank]
        for _ in range(2):  # the second time takes off what the first one's rounding left
            core = core - kept.T @ (kept @ core)
            core /= np.linalg.norm(core)
        return core.reshape(len(self.left), len(self.right))

    def realise(
        self, core: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """X (b, m1) and g_Y (b, m2) of ranks r1 and r2 with X^T g_Y = A^T C B / σ, b = r1 + r2.

        U = [I; 0] and V = [C / σ; I], σ the core's largest singular value, turned by one random rotation.
        """
        rank1, rank2 = core.shape
        columns1 = np.eye(rank1 + rank2, rank1)
        columns2 = np.vstack([core / np.linalg.norm(core, 2), np.eye(rank2)])
        rotation = row_space(rank1 + rank2, rank1 + rank2, random)
        return rotation @ columns1 @ self.left, rotation @ columns2 @ self.right


def relative_gradients(
    inputs: np.ndarray, output_gradient: np.ndarray, blocks: int
) -> tuple[float, float]:
    """Norms of X^T g_Y's diagonal blocks and of all of it, relative to ||X|| · ||g_Y|| (Frobenius).

    Raises:
        ValueError: if N is no common factor of m1 and m2.
    """
    gradient = inputs.T @ output_gradient
    scale = float(np.linalg.norm(inputs) * np.linalg.norm(output_gradient))
    of_blocks = float(np.linalg.norm(diagonal_blocks(gradient, blocks)))
    return of_blocks / scale, float(np.linalg.norm(gradient)) / scale
