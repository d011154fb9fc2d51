"""How much of an objective's range a picture shows."""

import statistics
from collections.abc import Iterable

from tfplaybook.studies._records import Objective, Study

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


def is_beyond(value: float, limit: float | None, objective: Objective) -> bool:
    """Whether `value` is worse than the limit."""
    return limit is not None and objective.cost(value) > objective.cost(limit)


def shown_range(study: Study) -> tuple[float | None, tuple[float, float] | None]:
    """Return the limit of the completed trials, and best and worst objective within it.

    All pictures of a study use it, so that they can be compared.
    """
    objectives = [trial.objective for trial in study.ranked() if trial.objective is not None]
    if not objectives:
        return None, None
    limit = clip_limit(objectives, study.objective)
    inside = [value for value in objectives if not is_beyond(value, limit, study.objective)]
    return limit, (inside[0], inside[-1])
