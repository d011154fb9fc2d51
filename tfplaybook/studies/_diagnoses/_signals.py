"""What a training curve does, told apart from its noise."""

import dataclasses
import math

import numpy as np

from tfplaybook.studies._records import Objective, Study, Trial

FEWEST_POINTS = 8
_SMOOTHED_FRACTION = 0.1
_START_FRACTION = 0.05
_MAD_TO_SD = 1.4826


@dataclasses.dataclass(frozen=True, eq=False)
class Signal:
    """A finite curve of which lower is better.

    Args:
        steps: Optimizer updates, int64 (n,), ascending, n at least 8.
        values: Values, float64 (n,).
    """

    steps: np.ndarray
    values: np.ndarray

    @property
    def window(self) -> int:
        """Number of points that a mean is taken over: a tenth of all, at least 2."""
        return max(2, round(_SMOOTHED_FRACTION * len(self.values)))

    def smoothed(self) -> np.ndarray:
        """Return the running mean over `window` points, float64 (n - window + 1,)."""
        return np.convolve(self.values, np.ones(self.window) / self.window, "valid")

    def noise(self) -> float:
        """Return the standard deviation of the values around a curve without bends.

        From second differences, whose standard deviation is sqrt(6) times that of independent
        noise; by their median, so that a few jumps do not count.
        """
        return second_difference_noise(self.values)

    def drop(self) -> float:
        """Return how far the curve comes down from the first twentieth of training, at least 0."""
        start = self.values[max(0, math.ceil(_START_FRACTION * len(self.values)) - 1)]
        return max(float(start - self.smoothed().min()), 0.0)

    def rise(self) -> float:
        """Return how far the end of the smoothed curve is above its lowest point, at least 0."""
        smoothed = self.smoothed()
        return float(smoothed[-1] - smoothed.min())

    def rise_score(self) -> float:
        """Return the rise over its standard error."""
        return over(self.rise(), self.noise() * math.sqrt(2 / self.window))

    def tail(self, fraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the points of the last `fraction` of the steps, as fractions of all steps."""
        at = self.steps / self.steps[-1]
        kept = at >= 1 - fraction
        kept[-4:] = True
        return at[kept], self.values[kept]


def second_difference_noise(values: np.ndarray) -> float:
    """Return the standard deviation of noise on a smooth curve of at least 3 values."""
    bends = np.abs(np.diff(values, 2))
    return float(_MAD_TO_SD * np.median(bends) / math.sqrt(6))


def over(value: float, error: float) -> float:
    """Return `value / error`, infinite for a positive value without error and 0 for none."""
    if error > 0:
        return value / error
    return math.inf if value > 0 else 0.0


def signals(trial: Trial, name: str, objective: Objective) -> list[Signal]:
    """Return the finite part of the curve `name` of every run, long ones only.

    Args:
        trial: The trial.
        name: Name of the curve.
        objective: Says which direction is better.
    """
    found = []
    for curve in trial.curves(name):
        bad = np.flatnonzero(~np.isfinite(curve.values))
        end = int(bad[0]) if len(bad) else len(curve.values)
        if end >= FEWEST_POINTS:
            sign = objective.cost(1.0)
            found.append(Signal(curve.steps[:end], sign * curve.values[:end]))
    return found


def training_name(study: Study) -> str:
    """Return the training counterpart of the objective: `"loss"` of `"val_loss"`."""
    return study.objective.name.removeprefix("val_")


def no_curves(study: Study, trials: tuple[Trial, ...], name: str) -> str:
    """Return why nothing can be said about the curves `name` of `trials`."""
    if not trials:
        return "No trial is completed"
    if any(trial.curves(name) for trial in trials):
        return f"The curves of {name} have fewer than {FEWEST_POINTS} finite points"
    return f"No trial has a curve of {name}"
