"""Expected improvement under a Gaussian process: where to look next for a minimum."""

import warnings

import numpy as np
from numpy.typing import NDArray

_LENGTHS = (0.05, 20.0)
_NOISE = (1e-6, 0.3)
_RESTARTS = 1
_SPREADS = 3.0


def expected_improvement(
    points: NDArray[np.float64],
    costs: NDArray[np.float64],
    pending: NDArray[np.float64],
    candidates: NDArray[np.float64],
    *,
    seed: int,
) -> NDArray[np.float64]:
    r"""Return how much lower than the lowest cost each candidate is expected to be, shape (m,).

    $E[\max(0, c^* - c(x))]$ under a process with a Matérn kernel of smoothness 5/2, a length per
    coordinate and noise, fitted by maximum likelihood (Snoek et al., 2012).

    A cost that is NaN counts as the worst: the region is avoided as any bad one is, and a search
    does not stall in it (D3). Costs above `best + 3 (median - best)` count as that, so that a
    single enormous one does not flatten all others. A pending point counts with the mean of the
    process there, so that parallel workers look elsewhere.

    Args:
        points: Where costs are known, shape (n, d), n at least 1, coordinates from 0 to 1.
        costs: The costs, shape (n,).
        pending: Where a cost will be known soon, shape (k, d).
        candidates: Where to look, shape (m, d).
        seed: Seed of the fit.
    """
    from scipy.special import ndtr
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    costs = _bounded(costs)
    dimensions = points.shape[1]
    kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(
        np.full(dimensions, 0.5), _LENGTHS, nu=2.5
    ) + WhiteKernel(1e-3, _NOISE)
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=_RESTARTS, random_state=seed
    )
    with warnings.catch_warnings():
        # A length at its bound means that the coordinate does not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points, costs)
        if len(pending):
            points = np.concatenate([points, pending])
            costs = np.concatenate([costs, process.predict(pending)])
            process = GaussianProcessRegressor(process.kernel_, normalize_y=True, optimizer=None)
            process.fit(points, costs)
        mean, deviation = process.predict(candidates, return_std=True)
    deviation = np.maximum(deviation, 1e-12)
    # The lowest of the means and not of the costs, which are noisy.
    gain = process.predict(points).min() - mean
    z = gain / deviation
    return gain * ndtr(z) + deviation * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def _bounded(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = costs[np.isfinite(costs)]
    if not len(finite):
        return np.zeros_like(costs)
    best, median = finite.min(), np.median(finite)
    limit = best + _SPREADS * (median - best)
    worst = finite.max() if limit <= best else min(limit, finite.max())
    return np.where(np.isfinite(costs), np.minimum(costs, worst), worst)
