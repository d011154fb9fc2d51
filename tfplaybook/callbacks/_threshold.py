"""Where a clipping threshold comes from: rules that compute it from the norms, inside the step.

A rule is data. Its state is a dict of named arrays, and `update` is a pure function from state and
norm to new state and threshold, written with `keras.ops`: the compiled step calls it, and so can a
test with plain numbers.
"""

import dataclasses
import math
import os
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from tfplaybook._arguments import check_count, check_number
from tfplaybook.runs import Run, load_run

State = dict[str, Any]

NORM_CURVE = "gradient_norm"


class ThresholdRule(Protocol):
    """How the threshold of one update follows from the norms so far."""

    def initial_state(self) -> dict[str, np.ndarray]:
        """Return the state before the first update."""

    def update(self, state: State, norm: Any, percentile: float) -> tuple[State, Any]:
        """Return the state after an update with this norm, and the threshold of that update.

        Args:
            state: Arrays with the names and shapes of `initial_state`.
            norm: The gradient's norm before clipping, float32 of shape (); may be not finite.
            percentile: In (0, 100).

        Returns:
            The new state; and the threshold, float32 of shape (), infinite if nothing is clipped.
        """


@dataclasses.dataclass(frozen=True)
class Rolling:
    """The percentile of the last `window` norms, the current one included (AutoClip).

    It follows the norms while they drift, and clips about `100 - percentile` percent of the updates
    whatever they are. So the share of clipped updates says little about the learning rate (N2): to
    judge that, use `Calibrated` or a fixed threshold.

    Args:
        window: Most norms in the history, at least 2; only finite norms enter it.
        min_history: Nothing is clipped before the history has so many norms, from 1 to `window`.
            The percentile of a few norms says little: at the default, two of them lie above the
            90th. The default is `window` if that is smaller than 20.

    Raises:
        ValueError: A bad argument.

    Source: playbook M3, M6; Seetharaman et al., AutoClip, 2020, who have no window and no minimum.
    """

    window: int = 1000
    min_history: int | None = None

    def __post_init__(self) -> None:
        window = check_count("window", self.window, minimum=2)
        wanted = min(20, window) if self.min_history is None else self.min_history
        minimum = check_count("min_history", wanted, minimum=1)
        if minimum > window:
            raise ValueError(
                "`min_history` must be at most `window`, which is all that is kept. Received: "
                f"min_history={minimum}, window={window}."
            )
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "min_history", minimum)

    def initial_state(self) -> dict[str, np.ndarray]:
        """Return an empty history: `history` (window,) and the `count` of its norms, ()."""
        return _empty_history(self.window)

    def update(self, state: State, norm: Any, percentile: float) -> tuple[State, Any]:
        """Put the norm into the history and take the percentile of it."""
        state = _remember(state, norm)
        count = state["count"]
        threshold = ops.where(
            count >= self.min_history,
            percentile_of(state["history"], ops.minimum(count, self.window), percentile),
            math.inf,
        )
        return state, threshold


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """Observe `steps` norms without clipping, set the threshold at their percentile, keep it.

    The playbook's own reading. The share of updates that it clips informs (M5): if norms grow, more
    and more are clipped; over half of them is extremely aggressive. Norms are often largest at the
    very start, while these are observed: let a warmup pass first, or take the threshold from an
    earlier run by `threshold_from`.

    Args:
        steps: Updates with a finite norm to observe, at least 2. A tenth of the run is plenty; 100
            norms put ten above the 90th percentile.

    Raises:
        ValueError: A bad argument.

    Source: playbook M3, M5.
    """

    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", check_count("steps", self.steps, minimum=2))

    def initial_state(self) -> dict[str, np.ndarray]:
        """Return an empty history, `history` (steps,) and `count` (), and no `threshold` yet."""
        return {**_empty_history(self.steps), "threshold": np.array(math.inf, "float32")}

    def update(self, state: State, norm: Any, percentile: float) -> tuple[State, Any]:
        """Observe the norm, or keep the threshold that the observed ones gave."""
        threshold = state["threshold"]
        observing = state["count"] < self.steps
        observed = _remember(
            {"history": state["history"], "count": state["count"]},
            ops.where(observing, norm, np.nan),
        )
        finished = ops.logical_and(observing, observed["count"] >= self.steps)
        kept = ops.cond(
            finished,
            lambda: percentile_of(observed["history"], observed["count"], percentile),
            lambda: threshold,
        )
        # The norm that completes the history is observed like the others: it is not clipped yet.
        return {**observed, "threshold": kept}, threshold


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A threshold that is given, as a float."""

    value: float

    def initial_state(self) -> dict[str, np.ndarray]:
        """Return no state."""
        return {}

    def update(self, state: State, norm: Any, percentile: float) -> tuple[State, Any]:
        """Return the given threshold."""
        return state, ops.convert_to_tensor(self.value, "float32")


def _empty_history(length: int) -> dict[str, np.ndarray]:
    # Empty places sort below every norm, so that `percentile_of` need not mask them.
    return {"history": np.full(length, -math.inf, "float32"), "count": np.array(0, "int32")}


def _remember(state: State, norm: Any) -> State:
    """Write a finite norm over the oldest one of the ring."""
    history, count = state["history"], state["count"]
    length = history.shape[0]
    finite = ops.isfinite(norm)
    written = ops.logical_and(ops.equal(ops.arange(length), ops.mod(count, length)), finite)
    return {
        "history": ops.where(written, norm, history),
        "count": count + ops.cast(finite, "int32"),
    }


def percentile_of(history: Any, count: Any, percentile: float) -> Any:
    """Return `numpy.percentile` of the norms in `history`; infinite when it is 0.

    The percentile lies between two norms that are found among the few largest ones, so the history
    is not sorted as a whole. At a threshold of 0, which a stretch of zero gradients leaves, nothing
    would ever be learnt; it means that nothing is clipped.

    Args:
        history: Norms in any order and -inf in empty places, float32 of shape (length,), at
            least 2.
        count: Number of norms in it, integer of shape ().
        percentile: In (0, 100).
    """
    length = history.shape[0]
    fraction_above = 1.0 - percentile / 100.0
    largest = ops.top_k(history, min(length, math.ceil(fraction_above * (length - 1)) + 2))[0]
    position = fraction_above * ops.cast(ops.maximum(count, 1) - 1, "float32")
    above = ops.minimum(ops.floor(position), float(length - 2))  # in float32, 1 - 1e-9 is 1
    weight = position - above
    pair = _pair_at(largest, ops.cast(above, "int32"))
    # A single norm has an empty place below it.
    below = ops.where(weight > 0.0, weight * (pair[0] - pair[1]), 0.0)
    value = pair[0] - below
    return ops.where(value > 0.0, value, math.inf)


def _pair_at(values: Any, place: Any) -> Any:
    """Return the values at `place` and after it, shape (2,)."""
    if keras.backend.backend() != "tensorflow":
        return ops.slice(values, ops.reshape(place, (1,)), (2,))
    import tensorflow as tf

    # XLA on TensorFlow compiles a slice anew for every place, which takes seconds a step.
    return tf.gather(values, tf.stack([place, place + 1]))


def threshold_from(run: str | os.PathLike[str] | Run, *, percentile: float = 90.0) -> float:
    """Return the percentile of the gradient norms of an earlier run, as a fixed threshold.

    The playbook's own sequence: train once and look at the norms, set the threshold just above the
    typical one, train again. It is the only way that also clips the very first steps.

    Examples:
        >>> import tempfile, keras, numpy as np, tfplaybook as pb
        >>> directory = tempfile.mkdtemp()
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> _ = model.fit(np.ones((8, 2)), np.ones(8), batch_size=1, verbose=0, callbacks=[
        ...     pb.callbacks.PercentileClipping(monitor_only=True),
        ...     pb.runs.RunRecorder(directory)])
        >>> threshold = pb.callbacks.threshold_from(directory, percentile=90)
        >>> clipping = pb.callbacks.PercentileClipping(threshold=threshold)

    Args:
        run: A run directory that `tfplaybook.runs.RunRecorder` wrote beside `PercentileClipping`,
            or the loaded run. Its norms are those before clipping, so that run may have clipped.
        percentile: In (0, 100), interpolated linearly between norms as `numpy.percentile` does.

    Raises:
        ValueError: A bad percentile, or a run without finite gradient norms above 0.

    Source: playbook M3, figure 9.
    """
    percentile = check_percentile(percentile)
    loaded = run if isinstance(run, Run) else load_run(run)
    curve = loaded.curves.get(NORM_CURVE)
    if curve is None:
        raise ValueError(
            f"The run must have recorded the curve {NORM_CURVE!r}. {loaded.path} has "
            f"{sorted(loaded.curves) or 'no curves'}. Train with PercentileClipping(monitor_only="
            "True) and RunRecorder in the same `fit` to record it."
        )
    norms = curve.values[np.isfinite(curve.values)]
    threshold = float(np.percentile(norms, percentile)) if len(norms) else 0.0
    if not threshold > 0.0:
        raise ValueError(
            f"The {percentile:g}th percentile of the run's gradient norms must be greater than 0. "
            f"{loaded.path} has {len(norms)} finite norms out of {len(curve.values)}, and their "
            f"percentile is {threshold:g}."
        )
    return threshold


def check_percentile(percentile: float) -> float:
    """Return `percentile` as a float in (0, 100), or raise `ValueError`."""
    number = check_number("percentile", percentile, above=0.0)
    if number >= 100.0:
        raise ValueError(
            "`percentile` must be less than 100, which would clip nothing. "
            f"Received: {percentile!r}."
        )
    return number


def make_rule(threshold: Any) -> ThresholdRule:
    """Return the rule that the argument `threshold` of a callback means."""
    if isinstance(threshold, Rolling | Calibrated):
        return threshold
    if isinstance(threshold, type) and issubclass(threshold, Rolling | Calibrated):
        raise ValueError(
            f"`threshold` must be an object, not a class. Received: {threshold.__name__}. "
            f"Call it: threshold={threshold.__name__}(...)."
        )
    try:
        return Fixed(check_number("threshold", threshold, above=0.0))
    except ValueError as error:
        raise ValueError(
            "`threshold` must be Rolling(...), Calibrated(...) or a finite number greater than 0. "
            f"Received: {threshold!r}."
        ) from error
