"""E5: the best of k trials drawn with replacement, in closed form."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class BestOf:
    """Distribution of the best of `k` trials drawn with replacement.

    Args:
        values: The costs in ascending order, float64 (n,).
        weights: Probability that each is the best, float64 (n,).
    """

    values: np.ndarray
    weights: np.ndarray

    def deviation(self) -> float | None:
        """Return its standard deviation; None of nothing."""
        if not len(self.values):
            return None
        mean = float(self.weights @ self.values)
        return math.sqrt(max(float(self.weights @ (self.values - mean) ** 2), 0.0))

    def beats(self, other: "BestOf") -> float:
        """Return the probability to be better than an independent other; a tie counts half."""
        below = (self.values[:, None] < other.values[None, :]) + 0.5 * (
            self.values[:, None] == other.values[None, :]
        )
        return float(self.weights @ below @ other.weights)


def best_of(costs: np.ndarray, k: int) -> BestOf:
    """Return the distribution of the best of `k` draws from `costs`, float64 (n,).

    P(best <= x_(i)) = 1 - ((n - i) / n)^k.

    >>> best_of(np.array([3.0, 1.0]), 2).weights
    array([0.75, 0.25])
    """
    n = len(costs)
    survival = (np.arange(n, -1, -1) / max(n, 1)) ** k
    return BestOf(np.sort(costs), -np.diff(survival))
