"""`ObjectiveHistory`: the values of the objective over a training, and whether it diverged."""

import json
import math
from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner as kt
import numpy as np

from tfplaybook import _keras

_JSON = "json"


class ObjectiveHistory(_keras.Callback):
    """Keep the epochs that measured the objective, and end a training that diverged.

    Training stops at the first epoch whose objective or training loss is NaN, infinite or absurdly
    large. A checkpoint of the training has the history as well, so that a trial which goes on in
    the middle scores its first epochs too.

    Args:
        objective: The objective of the search.
        divergence_threshold: Magnitude from which on a finite value is absurdly large.
        values: The hyperparameters of the trial. A training does not go on from a checkpoint of
            others, even if they do not show in the model.

    Attributes:
        divergence: What diverged and when, or None.
        metric_names: Every metric seen.

    Source: playbook D3 and D11.
    """

    free_arguments = frozenset({"objective", "divergence_threshold"})

    def __init__(
        self,
        objective: kt.Objective,
        *,
        divergence_threshold: float = math.inf,
        values: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.divergence_threshold = divergence_threshold
        self.objective = objective
        self.values = values
        self.divergence: str | None = None
        self.metric_names: set[str] = set()
        self._epochs: list[tuple[int, dict[str, float]]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch if it measured the objective; stop if it diverged.

        Raises:
            keras_tuner.errors.FatalValueError: The objective is an array.
        """
        numbers = {name: float(v) for name, v in (logs or {}).items() if np.ndim(v) == 0}
        self.metric_names.update(numbers)
        name = self.objective.name
        if name in (logs or {}) and name not in numbers:
            raise kt.errors.FatalValueError(
                f"`objective` must be a metric with one value. Received: {name!r} of shape "
                f"{np.shape((logs or {})[name])}. Average it, or choose one of {sorted(numbers)}."
            )
        for watched in (name, "loss"):
            # Of a NaN too.
            if watched in numbers and not abs(numbers[watched]) < self.divergence_threshold:
                step = _keras.count_updates(self.model)
                self.divergence = f"{watched} became {numbers[watched]} at step {step}"
                self.model.stop_training = True
                return
        if name in numbers:
            self._epochs.append((epoch, numbers))

    def history(self) -> keras.callbacks.History:
        """Return the epochs that measured the objective, over all calls of `fit`.

        Under `validation_freq` these are fewer than were trained, so that every metric has one
        value for each value of the objective.
        """
        history = keras.callbacks.History()
        history.epoch = [epoch for epoch, _ in self._epochs]
        for _, logs in self._epochs:
            for name, value in logs.items():
                history.history.setdefault(name, []).append(value)
        return history

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return what was seen so far, as one array of bytes."""
        content = [self.divergence, sorted(self.metric_names), self._epochs]
        return {_JSON: np.frombuffer(json.dumps(content).encode(), "uint8")}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`."""
        self.divergence, names, epochs = json.loads(state[_JSON].tobytes())
        self.metric_names = set(names)
        self._epochs = [(epoch, logs) for epoch, logs in epochs]
