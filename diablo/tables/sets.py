"""F1 and Matthews' correlation: statistics of a whole set of (gold, read) pairs, and their bootstrap.

They are no means over examples, so a resample is decided by how often each pair occurs in it. What could
not be read is a label of its own, which is never right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[str, str | None]


@dataclass(frozen=True)
class Statistic:
    """A statistic of pairs.

    Attributes:
        metric: `f1` or `matthews`.
        positive: the label that F1 is about; None for Matthews' correlation.
    """

    metric: str
    positive: str | None = None

    def of(self, pairs: Sequence[Pair]) -> float:
        """The statistic of these pairs, between -1 and 1."""
        codes, labels = encode([{str(number): pair for number, pair in enumerate(pairs)}])
        counts = np.zeros((len(labels), len(labels)))
        np.add.at(counts, (codes[0], codes[1]), 1)
        return float(self._of_counts(counts, labels))

    def draws(
        self, runs: Sequence[Mapping[str, Pair]], rng: np.random.Generator, resamples: int
    ) -> np.ndarray:
        """Statistics of `resamples` samples of the examples, drawn with replacement.

        All runs are given the same examples in every resample, so differences of the columns are a
        paired bootstrap.

        Args:
            runs: by example id the pair of each run; all have the same ids.

        Returns:
            Shape (resamples, runs).
        """
        codes, labels = encode(runs)
        kinds, times = np.unique(codes, axis=1, return_counts=True)
        n, size = int(times.sum()), len(labels)
        drawn = rng.multinomial(n, times / n, size=resamples)
        found = np.empty((resamples, len(runs)))
        for index, read in enumerate(kinds[1:]):
            cells = np.zeros((len(times), size * size))
            cells[np.arange(len(times)), kinds[0] * size + read] = 1
            counts = (drawn @ cells).reshape(resamples, size, size)
            found[:, index] = self._of_counts(counts, labels)
        return found

    def _of_counts(self, counts: np.ndarray, labels: Sequence[str | None]) -> np.ndarray:
        """The statistic of tables of counts, shape (..., gold, read); 0 where it is undefined."""
        gold, read = counts.sum(axis=-1), counts.sum(axis=-2)
        right = np.diagonal(counts, axis1=-2, axis2=-1)
        if self.metric == "f1":
            if self.positive not in labels:
                return np.zeros(counts.shape[:-2])
            at = labels.index(self.positive)
            return _ratio(2 * right[..., at], gold[..., at] + read[..., at])
        # Gorodkin (2004), which is Matthews' for two labels.
        total = gold.sum(axis=-1)
        above = right.sum(axis=-1) * total - (gold * read).sum(axis=-1)
        below = (total**2 - (gold**2).sum(axis=-1)) * (total**2 - (read**2).sum(axis=-1))
        return _ratio(above, np.sqrt(below))


def encode(runs: Sequence[Mapping[str, Pair]]) -> tuple[np.ndarray, list[str | None]]:
    """Pairs as numbers: (codes, labels).

    Returns:
        codes of shape (1 + runs, examples), the gold labels, which all runs share, first; and the label
        of each code.
    """
    ids = list(runs[0])
    lines: list[list[str | None]] = [[runs[0][one][0] for one in ids]]
    lines += [[run[one][1] for one in ids] for run in runs]
    # What could not be read has no place in the alphabet.
    labels = sorted(
        {label for line in lines for label in line}, key=lambda one: (one is None, one or "")
    )
    code = {label: number for number, label in enumerate(labels)}
    return np.array([[code[label] for label in line] for line in lines]), labels


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below, dtype=float), where=below > 0)
