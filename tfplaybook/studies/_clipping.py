"""How much of an objective's range a picture shows."""

import statistics
from collections.abc import Iterable

from tfplaybook.studies._records import Objective

_SPREADS = 3.0


def clip_limit(values: Iterable[float], objective: Objective) -> float | None:
    """Return the worst value to show in full, or None if all are to be shown.

    The limit is `best + 3 (median - best)`: fewer than half of the values may be arbitrarily bad
    without a say in it, so that one trial with a loss of 1e6 leaves the good region readable.

    Args:
        values: Finite values, at least one.
        objective: Says which direction is bad.

    >>> clip_limit([0.1, 0.2, 0.3, 50.0, 0.2], Objective("val_loss", "min"))
    0.4
    """
    costs = sorted(objective.cost(value) for value in values)
    best, median = costs[0], statistics.median(costs)
    limit = best + _SPREADS * (median - best)
    # When half of the values equal the best, nothing tells a bad one from a good one.
    return objective.cost(limit) if best < limit < costs[-1] else None
