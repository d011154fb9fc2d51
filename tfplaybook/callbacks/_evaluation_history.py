"""What a run has measured, evaluation by evaluation."""

import math
from collections.abc import Mapping

import numpy as np

from tfplaybook.callbacks._monitors import Monitor

_STEPS = "steps"
_VALUES = "values/"


class EvaluationHistory:
    """Metrics against the step, in the order of the steps.

    As arrays: `steps`, int64 of shape (evaluations,), and for each metric `values/<name>`,
    float64 of the same shape, NaN where it was not measured.
    """

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, float]] = {}

    @property
    def steps(self) -> list[int]:
        """The steps with an evaluation."""
        return sorted(self._rows)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note what was measured after `step` updates."""
        self._rows[step] = dict(metrics)

    def curve(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of a metric, which may be not finite."""
        return [(step, self._rows[step][name]) for step in self.steps if name in self._rows[step]]

    def best(self, monitor: Monitor) -> tuple[int, float] | None:
        """Return step and value of the best finite measurement, the earliest of equal ones."""
        sign = 1.0 if monitor.mode == "min" else -1.0
        finite = [(step, value) for step, value in self.curve(monitor.name) if math.isfinite(value)]
        return min(finite, key=lambda row: (sign * row[1], row[0]), default=None)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as plain arrays."""
        names = sorted({name for row in self._rows.values() for name in row})
        columns = {
            f"{_VALUES}{name}": np.array(
                [self._rows[step].get(name, math.nan) for step in self.steps], "float64"
            )
            for name in names
        }
        return {_STEPS: np.array(self.steps, "int64"), **columns}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "EvaluationHistory":
        """Return the history that `arrays` describes."""
        history = cls()
        for row, step in enumerate(arrays[_STEPS].tolist()):
            history.add(
                step,
                {
                    name.removeprefix(_VALUES): float(values[row])
                    for name, values in arrays.items()
                    if name.startswith(_VALUES)
                },
            )
        return history
