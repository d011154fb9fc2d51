"""`InputMonitor`: how long training waits for its data, measured inside `fit`."""

import dataclasses
import math
import os
import statistics
import time
import warnings

import keras

from tfplaybook import _keras
from tfplaybook._arguments import check_count, check_number
from tfplaybook._input_trace import InputTrace, close_stale_trace
from tfplaybook.callbacks._curve_log import CurveLog

# The first steps compile, and fill buffers.
_WARM_CALLS = 2
FRACTION = "input_wait_fraction"


@dataclasses.dataclass(frozen=True)
class InputWait:
    """How long some steps of training waited for data.

    Args:
        step: Updates made when the measurement ended.
        seconds: Length of the measurement.
        waited_seconds: Time of it in which a step waited for its batch.
    """

    step: int
    seconds: float
    waited_seconds: float

    @property
    def fraction(self) -> float:
        """Share of the time that was waited."""
        return min(1.0, self.waited_seconds / self.seconds)


class InputMonitor(_keras.Callback):
    """Measure the share of the training time that goes by in waiting for the next batch (I9).

        input_wait_fraction = time in which a step waits for its batch / time

    Near 0 the input keeps up; near 1 the model is idle, and `pipelines.profile` says why. Training
    is what it would be without: weights, metrics and the order of the data have the same bits.

    The measurement is a short trace by TensorFlow's own profiler, since a compiled step asks for
    its batch where Python cannot look at the clock. It holds for `steps_per_execution` as well, and
    under `tf.distribute` a time counts once however many replicas wait. A trace is taken early in
    the run, after the first two steps or the first epoch if that is shorter, and again whenever the
    cost of the last one has become small enough. The batches that a
    `keras.callbacks.TensorBoard(profile_batch=...)` of the same `fit` profiles are left to it, and
    while another profiler is at work no trace is taken; a `fit` in which none could be taken warns.

    The mean of an epoch is in its `logs` as `input_wait_fraction`; if no trace fell into it, the
    value of the last one, and nan before the first. TensorBoard gets every trace as a point of the
    curve of that name.

    Examples:
        >>> import keras, numpy as np, tfplaybook as pb
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> monitor = pb.callbacks.InputMonitor()
        >>> history = model.fit(
        ...     np.ones((640, 2)), np.ones(640), batch_size=16, verbose=0, callbacks=[monitor])
        >>> 0.0 <= history.history["input_wait_fraction"][0] <= 1.0
        True

    Args:
        window_steps: Batches in one trace, at least 1 and by default 10; under
            `steps_per_execution` at least one execution.
        overhead_fraction: Most of the time that traces may take, in (0, 1]; the first one is taken
            in any case. 0.01 by default.
        log_dir: TensorBoard directory for the curve, beside the run of a `RunRecorder`.

    Warns:
        UserWarning: When `fit` ends and another profiler was at work whenever a trace was due.

    Raises:
        ValueError: At construction for a bad argument; when `fit` starts on a backend other than
            TensorFlow.

    Source: playbook I9, A3.
    """

    free_arguments = _keras.Callback.free_arguments | {"window_steps", "overhead_fraction"}

    def __init__(
        self,
        *,
        window_steps: int = 10,
        overhead_fraction: float = 0.01,
        log_dir: str | os.PathLike[str] | None = None,
    ):
        super().__init__()
        self.window_steps = check_count("window_steps", window_steps, minimum=1)
        self.overhead_fraction = check_number(
            "overhead_fraction", overhead_fraction, above=0.0, maximum=1.0
        )
        self._curves = CurveLog(log_dir, "batch")
        self._waits: list[InputWait] = []
        self._trace: InputTrace | None = None

    @property
    def waits(self) -> tuple[InputWait, ...]:
        """What was measured in this `fit`, in order."""
        return tuple(self._waits)

    def set_model(self, model: keras.Model) -> None:
        """Accept a compiled model on TensorFlow."""
        super().set_model(model)
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "InputMonitor reads TensorFlow's profiler. Received a model on the backend "
                f"{keras.backend.backend()!r}; profile the input with `pipelines.profile` instead."
            )

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Forget an earlier `fit`, which may have been interrupted within a trace."""
        super().on_train_begin(logs)
        close_stale_trace()
        self._trace = None
        self._profiled = _keras.profiled_batches(self)
        self._was_started = self._was_refused = self._had_epoch = False
        self._curves.begin_attempt(_keras.count_updates(self.model))
        self._waits = []
        self._calls = 0
        self._not_before = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note which traces belong to the epoch."""
        self._epoch_from = len(self._waits)

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Begin a trace if it is time."""
        warm = self._calls >= _WARM_CALLS or self._had_epoch
        self._calls += 1
        if not warm or self._trace is not None or time.perf_counter() < self._not_before:
            return
        if self._is_free():
            self._trace = InputTrace.start()
            self._first_batch = batch
        self._was_started |= self._trace is not None
        self._was_refused |= self._trace is None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """End the trace if it is long enough."""
        if self._trace is not None and batch + 1 - self._first_batch >= self.window_steps:
            self._end_trace()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the mean of the epoch into the logs, in every epoch as Keras' history needs it."""
        self._end_trace()
        self._had_epoch = True
        found = self._waits[self._epoch_from :] or self._waits[-1:]
        if logs is not None:
            fractions = [wait.fraction for wait in found]
            logs[FRACTION] = statistics.fmean(fractions) if fractions else math.nan

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Warn if nothing was measured because something else was tracing."""
        if self._was_refused and not self._was_started:
            warnings.warn(
                "InputMonitor has measured nothing in this `fit`: TensorFlow runs one profiler at "
                "a time, and another one was at work, or about to be, whenever a trace was due. "
                "Stop it, or give `keras.callbacks.TensorBoard` a shorter `profile_batch`.",
                stacklevel=2,
            )

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """End a trace before an evaluation, whose batches are not those of training."""
        self._end_trace()

    def _is_free(self) -> bool:
        """Return whether a trace from this call on meets no batch that TensorBoard profiles."""
        return all(
            self._calls > last or self._calls + self.window_steps <= first
            for first, last in self._profiled
        )

    def _end_trace(self) -> None:
        trace, self._trace = self._trace, None
        if trace is None:
            return
        begin = time.perf_counter()
        waited = trace.stop()
        end = time.perf_counter()
        self._not_before = end + (end - begin) / self.overhead_fraction
        if waited is None:
            return
        wait = InputWait(_keras.count_updates(self.model), trace.seconds, waited)
        self._waits.append(wait)
        for writer in self._curves.writers(self):
            writer.scalar(FRACTION, wait.step, wait.fraction)
            writer.flush()
