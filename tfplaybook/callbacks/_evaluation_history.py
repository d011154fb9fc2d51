"""What a run has measured, evaluation by evaluation."""

import math
from collections.abc import Mapping

import numpy as np

from tfplaybook.callbacks._best import BestCheckpoint
from tfplaybook.callbacks._monitors import Monitor

_STEPS = "steps/"
_VALUES = "values/"


class EvaluationHistory:
    """Metrics against the step, in the order of the steps.

    As arrays, for each metric: `steps/<name>`, int64 of shape (measurements,), and
    `values/<name>`, float64 of the same shape.
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

    def best(self, monitor: Monitor) -> BestCheckpoint | None:
        """Return the best finite measurement, the earliest of equal ones, or None."""
        sign = 1.0 if monitor.mode == "min" else -1.0
        curve = self.curve(monitor.name)
        finite = [(step, value) for step, value in curve if math.isfinite(value)]
        if not finite:
            return None
        step, value = min(finite, key=lambda row: (sign * row[1], row[0]))
        return BestCheckpoint(
            monitor=monitor.name,
            mode=monitor.mode,
            value=value,
            step=step,
            last_step=self.steps[-1],
            evaluations=len(curve),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as plain arrays."""
        names = sorted({name for row in self._rows.values() for name in row})
        arrays = {}
        for name in names:
            steps, values = zip(*self.curve(name), strict=True)
            arrays[f"{_STEPS}{name}"] = np.array(steps, "int64")
            arrays[f"{_VALUES}{name}"] = np.array(values, "float64")
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "EvaluationHistory":
        """Return the history that `arrays` describes."""
        history = cls()
        for key, steps in arrays.items():
            if key.startswith(_STEPS):
                name = key.removeprefix(_STEPS)
                values = arrays[f"{_VALUES}{name}"]
                for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                    history._rows.setdefault(step, {})[name] = value
        return history
