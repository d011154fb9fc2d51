"""Functions to minimize whose minimum is known, and one that diverges in a part of its space."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def branin(u: Points) -> Points:
    """Return the regret of Branin's function on the unit square; u has shape (n, 2)."""
    x, y = 15 * u[:, 0] - 5, 15 * u[:, 1]
    parabola = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
    return parabola + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10 - 0.397887


_PEAKS = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_WIDTHS = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)


def hartmann6(u: Points) -> Points:
    """Return the regret of Hartmann's function; u has shape (n, 6)."""
    distances = (_WIDTHS * (u[:, None, :] - _PEAKS) ** 2).sum(axis=-1)
    return 3.32237 - (np.array([1, 1.2, 3, 3.2]) * np.exp(-distances)).sum(axis=-1)


def network(u: Points) -> Points:
    """Return an error above 6%, or NaN where training diverges; u has shape (n, 5)."""
    rate, decay, momentum = 5 * u[:, 0] - 5, 5 * u[:, 1] - 6, 3 * u[:, 2] - 3
    warmup, dropout = 0.2 * u[:, 3], 0.5 * u[:, 4]
    effective = rate - momentum  # log10 of rate / (1 - momentum)
    edge = 3 * np.minimum(warmup, 0.1) - 0.35
    slope = np.where(effective < -1.2, 0.35, 1.6)
    error = (
        1.9 * slope * (effective + 1.2) ** 2
        + 0.21 * (decay + rate + 6.2) ** 2
        + 0.4 * (momentum + 1) ** 2
        + 6 * (dropout - 0.15) ** 2
        + 20 * np.maximum(0, 0.03 - warmup)
        + 8 * np.exp(4 * (effective - edge))
    )
    return np.where(effective > edge, np.nan, np.minimum(error, 84.0))


SURFACES: dict[str, tuple[Callable[[Points], Points], int]] = {
    "Branin": (branin, 2),
    "Hartmann6": (hartmann6, 6),
    "network": (network, 5),
}
