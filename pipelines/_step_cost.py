"""Whether training waits for its input: real steps beside the same steps on one batch."""

import dataclasses
import gc
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# Steps of one kind before those of the other; in turns, so that a busy machine troubles both.
_TURN_STEPS = 5
_TURNS = 6
_BOUND_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class StepComparison:
    """Training steps with their input, and on one batch that is kept; times are medians.

    Args:
        real_seconds: Time of a step, its input included.
        cached_seconds: Time of the same step on a batch that is there already.
        waiting_seconds: Time per step for which the next batch was waited for.
    """

    real_seconds: float
    cached_seconds: float
    waiting_seconds: float

    @property
    def input_fraction(self) -> float:
        """Share of a real step that the input costs: waiting, and cores that it takes away."""
        return max(0.0, 1.0 - self.cached_seconds / self.real_seconds)

    @property
    def input_bound(self) -> bool:
        """Whether that share is above a tenth."""
        return self.input_fraction > _BOUND_FRACTION

    def __str__(self) -> str:
        verdict = "input-bound" if self.input_bound else "not input-bound"
        return (
            f"{verdict}: a step takes {1e3 * self.real_seconds:.3g} ms, on a batch that is kept "
            f"{1e3 * self.cached_seconds:.3g} ms; it waits {1e3 * self.waiting_seconds:.3g} ms "
            "for data"
        )


def compare_steps(
    dataset: tf.data.Dataset,
    step_fn: Callable[[Any], Any],
    *,
    seconds: float,
    variables: Iterable[Any] | None,
) -> StepComparison:
    """Return the times of steps with and without input, and leave all variables as they were.

    Raises:
        ValueError: If it is not known what `step_fn` changes, or if it makes variables or changes
            others than `variables`.
    """
    state = _Variables(variables)
    batches = iter(dataset.repeat())
    kept = next(batches)
    try:
        _run(step_fn, kept)
        state.check()
        state.check_known()
        real, cached, waiting = [], [], []
        start = time.perf_counter()
        turn = 0
        while turn < 2 or (turn < _TURNS and time.perf_counter() - start < seconds):
            begin, waited = time.perf_counter(), 0.0
            for _ in range(_TURN_STEPS):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                _run(step_fn, batch)
            middle = time.perf_counter()
            for _ in range(_TURN_STEPS):
                _run(step_fn, kept)
            end = time.perf_counter()
            # The first turn is not counted: batches were made while the step was compiled.
            if turn:
                real.append((middle - begin) / _TURN_STEPS)
                cached.append((end - middle) / _TURN_STEPS)
                waiting.append(waited / _TURN_STEPS)
            turn += 1
        state.check()
    finally:
        state.restore()
    return StepComparison(*map(statistics.median, (real, cached, waiting)))


def _run(step_fn: Callable[[Any], Any], batch: Any) -> None:
    """Make one step and wait until the device has done it."""
    for result in tf.nest.flatten(step_fn(batch)):
        if isinstance(result, tf.Tensor):
            result.numpy()


class _Variables:
    """The values of what a step changes.

    Which variables a function reaches, through attributes, helpers and containers, cannot be read
    off it; all that are alive in this process include them.

    Args:
        variables: The variables to put back; None for all.
    """

    def __init__(self, variables: Iterable[Any] | None) -> None:
        self._given = None if variables is None else list(variables)
        if self._given is None and gc.get_freeze_count():
            raise ValueError(
                "`variables` must be given after `gc.freeze()`, since the variables that `step_fn` "
                "may change cannot be found. Received None: pass `variables=[...]`, or call "
                "`gc.unfreeze()` before."
            )
        self._before = _alive()
        saved = self._before
        if self._given is not None:
            saved = {_key(part): part for variable in self._given for part in _parts(variable)}
        # An uninitialized one has no value to put back.
        self._saved = [(v, _read(v)) for v in saved.values() if _has_value(v)]
        self._digests = {
            key: _digest(v)
            for key, v in self._before.items()
            if key not in saved or not _has_value(v)
        }

    def check(self) -> None:
        """Raise `ValueError` if steps have changed what cannot be put back."""
        made = self._alive_and_new()
        if made:
            # Variables in cycles of garbage have been left, not made.
            gc.collect()
            made = self._alive_and_new()
        if made:
            raise ValueError(
                "`step_fn` must not make variables, since they cannot be put back. Its first calls "
                f"made {_names(made)}. Build the model and the optimizer before, as in "
                "`model.optimizer.build(model.trainable_variables)`, or take a step."
            )
        others = [v for k, v in self._before.items() if k in self._digests]
        changed = [v for v in others if _digest(v) != self._digests[_key(v)]]
        if changed:
            raise ValueError(
                "`variables` must be all variables that `step_fn` changes, each with a value. It "
                f"has changed others, which stay as they are now: {_names(changed)}. Add them, or "
                "leave `variables` out."
            )

    def check_known(self) -> None:
        """Raise `ValueError` if the first step seems to have changed nothing."""
        if self._given is None and all(_digest(v) == _digest_of(old) for v, old in self._saved):
            raise ValueError(
                "`step_fn` must change variables of TensorFlow or Keras, so that they can be put "
                "back. Received a function that changed none, as far as can be seen: pass "
                "`variables=[...]`, or `variables=[]` if it changes nothing."
            )

    def restore(self) -> None:
        """Give all variables the values that they had."""
        for variable, value in self._saved:
            variable.assign(value)

    def _alive_and_new(self) -> list[Any]:
        return [v for key, v in _alive().items() if key not in self._before]


def _alive() -> dict[int, Any]:
    """Return the variables of this process by their keys."""
    kinds: tuple[type, ...] = (tf.Variable,)
    keras = sys.modules.get("keras")
    if keras is not None and keras.backend.backend() != "tensorflow":
        kinds = (tf.Variable, keras.Variable)
    # Not `isinstance`, which asks proxies of all kinds for their class.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]
    parts = [part for variable in found for part in _parts(variable)]
    return {_key(part): part for part in parts}


def _parts(variable: Any) -> Iterator[Any]:
    """Yield the variables of the replicas, or the variable itself if it can be read here."""
    inner = getattr(variable, "value", None)
    if isinstance(inner, tf.Variable | tf.distribute.DistributedValues):
        variable = inner  # of a Keras variable
    if isinstance(variable, tf.distribute.DistributedValues):
        yield from variable.values
    elif not isinstance(variable, tf.Variable) or _is_readable(variable):
        yield variable


def _is_readable(variable: tf.Variable) -> bool:
    """Return False for one that is half made, or of a graph under construction."""
    handle = getattr(variable, "handle", None)
    return handle is not None and not tf.is_symbolic_tensor(handle)


def _key(variable: Any) -> int:
    """Return what all objects of one state share; the result of an assignment is another object."""
    return id(variable.handle) if isinstance(variable, tf.Variable) else id(variable)


def _has_value(variable: Any) -> bool:
    return not isinstance(variable, tf.Variable) or bool(variable.is_initialized())


def _read(variable: Any) -> np.ndarray:
    return np.array(variable.numpy())


def _digest(variable: Any) -> bytes:
    return _digest_of(_read(variable)) if _has_value(variable) else b""


def _digest_of(value: np.ndarray) -> bytes:
    strings = value.dtype == object
    return hashlib.blake2b(repr(value.tolist()).encode() if strings else value.tobytes()).digest()


def _names(variables: list[Any]) -> str:
    names = [f"{variable.name!r}" for variable in variables[:3]]
    return ", ".join(names) + (f" and {len(variables) - 3} more" if len(variables) > 3 else "")
