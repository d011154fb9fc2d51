"""Where a value lies in the range that was searched, on the scale on which it was sampled."""

import math

import numpy as np

from tfplaybook.studies._records import Hyperparameter, Study, Trial, Value


def position(hyperparameter: Hyperparameter, value: Value) -> float:
    """Return where `value` lies in its range: 0 at the lower end, 1 at the upper.

    NaN for a value that has no place on the scale, such as 0 on a logarithmic one.

    >>> rate = Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0)
    >>> position(rate, 1e-2)
    0.5
    """
    low, high = hyperparameter.min_value, hyperparameter.max_value
    if low is None or high is None or isinstance(value, bool | str):
        return math.nan
    if hyperparameter.sampling == "log":
        return math.log(value / low) / math.log(high / low) if value > 0 else math.nan
    if hyperparameter.sampling == "reverse_log":
        mirrored = low + high - value
        return 1 - math.log(mirrored / low) / math.log(high / low) if mirrored > 0 else math.nan
    return (value - low) / (high - low)


def value_at(hyperparameter: Hyperparameter, at: float) -> float:
    """Return the value at a position, which may lie outside the range; inverse of `position`.

    >>> rate = Hyperparameter("learning_rate", "float", "log", 1e-4, 1.0)
    >>> round(value_at(rate, 1.25), 6)
    10.0
    """
    low, high = hyperparameter.min_value, hyperparameter.max_value
    if low is None or high is None:
        raise ValueError(f"`hyperparameter` must have a range. Received: {hyperparameter!r}.")
    if hyperparameter.sampling == "log":
        return low * (high / low) ** at
    if hyperparameter.sampling == "reverse_log":
        return low + high - low * (high / low) ** (1 - at)
    return low + at * (high - low)


def ranged(study: Study) -> tuple[Hyperparameter, ...]:
    """Return the varied hyperparameters that have a lower and an upper end."""
    return tuple(h for h in study.varied if h.min_value is not None and h.max_value is not None)


def positions(hyperparameter: Hyperparameter, trials: tuple[Trial, ...]) -> np.ndarray:
    """Return the position of each trial, float64 (n,); NaN where it does not exist."""
    name = hyperparameter.name
    return np.array(
        [
            position(hyperparameter, trial.values[name]) if name in trial.values else math.nan
            for trial in trials
        ],
        dtype=np.float64,
    )


def costs(study: Study, trials: tuple[Trial, ...]) -> np.ndarray:
    """Return the objectives of completed trials, lower is better, float64 (n,)."""
    return np.array(
        [study.objective.cost(t.objective) for t in trials if t.objective is not None],
        dtype=np.float64,
    )
