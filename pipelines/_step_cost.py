"""Whether training waits for its input: real steps beside the same steps on one batch."""

import dataclasses
import functools
import inspect
import statistics
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
        ValueError: If it is not known what `step_fn` changes, or if it makes variables.
    """
    state = _Variables(step_fn, variables)
    batches = iter(dataset.repeat())
    kept = next(batches)
    try:
        _run(step_fn, kept)
        state.check_unchanged_in_number()
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

    Args:
        step_fn: The step.
        variables: Its variables; None to find them.
    """

    def __init__(self, step_fn: Callable[[Any], Any], variables: Iterable[Any] | None) -> None:
        self._step_fn = step_fn
        self._given = None if variables is None else list(variables)
        self._all = self._find()
        if self._given is None and not self._all:
            raise ValueError(
                "`step_fn` must refer to the model, optimizer or variables that it changes, so "
                "that they can be put back. Received a function in which none were found: pass "
                "`variables=[...]`, or `variables=[]` if it changes nothing."
            )
        self._values = [np.array(variable.numpy()) for variable in self._all]

    def _find(self) -> list[Any]:
        found = self._given
        if found is None:
            found = [v for thing in _reached(self._step_fn) for v in _variables_of(thing)]
        return list({id(variable): variable for variable in found}.values())

    def check_unchanged_in_number(self) -> None:
        """Raise `ValueError` if the first step made variables."""
        made = len(self._find()) - len(self._all)
        if made:
            raise ValueError(
                f"`step_fn` must not make variables, since they cannot be put back. Its first call "
                f"made {made}. Build the model and the optimizer before, as in "
                "`model.optimizer.build(model.trainable_variables)`, or take a step."
            )

    def restore(self) -> None:
        """Give all variables the values that they had."""
        for variable, value in zip(self._all, self._values, strict=True):
            variable.assign(value)


def _reached(step_fn: Any) -> Iterator[Any]:
    """Yield the objects that a function refers to: closure, globals, bound object, arguments."""
    while isinstance(step_fn, functools.partial):
        yield from (*step_fn.args, *step_fn.keywords.values())
        step_fn = step_fn.func
    function = getattr(step_fn, "python_function", step_fn)  # of a `tf.function`
    yield getattr(function, "__self__", None)
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not inspect.isfunction(function):
        yield step_fn
        return
    referred = inspect.getclosurevars(function)
    yield from (*referred.nonlocals.values(), *referred.globals.values())


def _variables_of(thing: Any) -> Iterator[Any]:
    if hasattr(thing, "assign") and hasattr(thing, "numpy"):
        yield thing
        return
    if inspect.ismodule(thing) or inspect.isclass(thing):
        return
    for owner in (thing, getattr(thing, "optimizer", None)):
        variables = getattr(owner, "variables", ())
        for found in (variables() if callable(variables) else variables) or ():
            if hasattr(found, "assign") and hasattr(found, "numpy"):
                yield found
    for metric in getattr(thing, "metrics", None) or ():
        yield from getattr(metric, "variables", ())
