"""What a checkpoint of a `fit` holds: the model's state, that of our callbacks, and the history."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfplaybook import _keras_state
from tfplaybook.callbacks._evaluation_history import EvaluationHistory

_CALLBACKS = "callbacks/"
_HISTORY = "history/"

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A copy of what decides the next step, in the host's memory.

    Attributes:
        step: Optimizer updates made.
        arrays: Name to array; overwritten by the next snapshot but one.
    """

    step: int
    arrays: Arrays

    def with_present_rate(self, model: keras.Model) -> "Snapshot":
        """Return the snapshot with the learning rate that the optimizer has now."""
        return dataclasses.replace(
            self, arrays={**self.arrays, **_keras_state.capture_rates(model)}
        )


class Camera:
    """Takes snapshots of a model, in the memory of the last but one.

    New memory costs as much as the copy; of the last snapshot, the writer may still have need.
    """

    def __init__(self) -> None:
        self._memory: tuple[Arrays, Arrays] = ({}, {})

    def take(self, model: keras.Model, step: int) -> Snapshot:
        """Average the batch statistics over replicas (J2) and copy the state."""
        _keras_state.average_batch_norm(model)
        arrays = _keras_state.capture(model, self._memory[0])
        self._memory = (self._memory[1], arrays)
        return Snapshot(step, arrays)


def pack(snapshot: Snapshot, callbacks: Mapping[str, Any], history: EvaluationHistory) -> Arrays:
    """Return everything as one dictionary of arrays.

    Args:
        snapshot: The model's state.
        callbacks: Name to callback with a `state_dict`.
        history: The evaluations so far.
    """
    arrays = dict(snapshot.arrays)
    for name, callback in callbacks.items():
        for key, value in callback.state_dict().items():
            arrays[f"{_CALLBACKS}{name}/{key}"] = np.asarray(value)
    for key, value in history.arrays().items():
        arrays[f"{_HISTORY}{key}"] = value
    return arrays


def unpack(
    model: keras.Model, callbacks: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> EvaluationHistory:
    """Put back what `pack` returned, and return the history.

    Raises:
        ValueError: Model, optimizer or a callback is another.
    """
    _keras_state.restore(model, arrays)
    for name, callback in callbacks.items():
        callback.load_state_dict(_part(arrays, f"{_CALLBACKS}{name}/"))
    return EvaluationHistory.from_arrays(_part(arrays, _HISTORY))


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
