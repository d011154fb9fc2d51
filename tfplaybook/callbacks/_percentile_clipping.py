"""`PercentileClipping`: clips gradients at a percentile of their own norms."""

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfplaybook import _keras, _keras_clipping
from tfplaybook.callbacks._clipping_advice import ClippingAdvice, advise
from tfplaybook.callbacks._curve_log import CurveLog, UpdateFrequency
from tfplaybook.callbacks._threshold import (
    NORM_CURVE,
    Calibrated,
    Fixed,
    Rolling,
    check_percentile,
    make_rule,
)
from tfplaybook.runs._norms_plot import is_clipped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_PERCENTILE = 90.0


class PercentileClipping(_keras.Callback):
    """Clip the gradient at a percentile of the norms that the gradients of this run have.

    The gradient `g` of an update becomes `g * threshold / |g|` when `|g| > threshold`, where `|g|`
    is the L2 norm of all weights' gradients together, aggregated over replicas and accumulated
    batches, and unscaled. It is computed inside the compiled step: exact at every update, also
    under `steps_per_execution`, `jit_compile`, `MirroredStrategy`, loss scaling and gradient
    accumulation, where an update is the step that applies the accumulated gradients.

    Where the threshold comes from is said by `threshold`:

    | `threshold` | what it is |
    |---|---|
    | `Rolling(window=1000)` | the percentile of the last norms; follows them, clips about 10% |
    | `Calibrated(steps=500)` | the percentile of the first norms, not clipped; then kept |
    | `threshold_from("runs/first")` | the percentile of an earlier run; clips the first steps too |
    | a number | that number |

    What you see: in `logs` and `History` the `gradient_norm` before clipping and the
    `clip_threshold` of the last update of the epoch (infinite while nothing is clipped), and the
    `clipped_fraction` of the epoch's updates; the same as curves, by default with every update, in
    the run of a `tfplaybook.runs.RunRecorder` in the same `fit`, or in `log_dir`; there also, at
    train end, the histogram `gradient_norm_log10` of all norms, and in TensorBoard's tab "Custom
    Scalars" norm and threshold in one chart. `norms`, `thresholds` and `steps`
    have one entry per update, `plot()` draws them, and `advice` says what they mean; it is also
    given as a warning at train end.

    Every `fit` starts with an empty history. `load_state_dict(state_dict())` goes on with one
    instead, so that a resumed run clips as if it had never stopped. At train end the optimizer is
    as it was compiled, and a model saved by `ModelCheckpoint` meanwhile loads without tfplaybook,
    with all of its optimizer state.

    A gradient whose norm is not finite is left as it is and counted; its norm never enters a
    history. A threshold of 0, which zero gradients leave, clips nothing.

    Examples:
        >>> import keras, numpy as np, tfplaybook as pb
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.compile(keras.optimizers.SGD(0.0), "mae")
        >>> clipping = pb.callbacks.PercentileClipping(threshold=2.0)
        >>> x, y = np.array([[1.0], [4.0], [2.0], [1.0]]), np.full(4, 100.0)
        >>> history = model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[clipping])
        >>> clipping.norms
        array([1., 4., 2., 1.])
        >>> history.history["clipped_fraction"]
        [0.25]

    Args:
        percentile: Where in the norms the threshold lies, in (0, 100), interpolated linearly as
            `numpy.percentile` does. 90 by default. Not to be given with a number as `threshold`.
        threshold: Where the threshold comes from, see above. `Rolling()` by default.
        monitor_only: Record without clipping; `clipped_fraction` then is what would be clipped.
        log_dir: TensorBoard directory for the curves. By default the run directory of the
            `RunRecorder`, when there is one.
        update_freq: Points of the curves: `"batch"` for every update, `"epoch"`, or an integer:
            every so many updates.
        keep_installed: Go on clipping after training. It is taken out by the next
            `PercentileClipping` that trains the model.

    Raises:
        ValueError: At construction for a bad argument; when `fit` starts if the optimizer clips by
            itself (`clipnorm`, `clipvalue` or `global_clipnorm`) or is not one of Keras 3, or for
            a combination with `tf.distribute` that Keras itself cannot train.

    Source: playbook M1-M6, N2, K5; Seetharaman et al., AutoClip, 2020.
    """

    def __init__(
        self,
        *,
        percentile: float | None = None,
        threshold: Rolling | Calibrated | float | None = None,
        monitor_only: bool = False,
        log_dir: str | os.PathLike[str] | None = None,
        update_freq: UpdateFrequency = "batch",
        keep_installed: bool = False,
    ):
        super().__init__()
        self._rule = make_rule(Rolling() if threshold is None else threshold)
        if percentile is not None and isinstance(self._rule, Fixed):
            raise ValueError(
                "`percentile` has no meaning for a threshold that is given as a number. Received: "
                f"percentile={percentile!r}, threshold={threshold!r}. Leave one of them out, or "
                "pass threshold=Rolling() or Calibrated(...)."
            )
        self.percentile = check_percentile(DEFAULT_PERCENTILE if percentile is None else percentile)
        self.monitor_only = monitor_only
        self.log_dir = log_dir
        self.keep_installed = keep_installed
        self._curves = CurveLog(log_dir, update_freq)
        self._installed: _keras_clipping.InstalledClipping | None = None
        self._recording = False
        self._loaded: dict[str, np.ndarray] | None = None
        self._last_state = self._rule.initial_state()
        self._begin(0)

    def _begin(self, updates: int) -> None:
        """Forget what was recorded; the next update is number `updates + 1`."""
        self._first = self._recorded = self._epoch_start = updates
        self._records: list[np.ndarray] = []
        self._batches_pending = 0
        self._last_batch = -1

    @property
    def norms(self) -> np.ndarray:
        """The norm before clipping of every update, float64 (updates,); may be not finite."""
        return self._table()[:, 0]

    @property
    def thresholds(self) -> np.ndarray:
        """The threshold of every update, float64 (updates,); infinite where nothing is clipped."""
        return self._table()[:, 1]

    @property
    def steps(self) -> np.ndarray:
        """The number of every update, counted by the optimizer from 1 on, int64 (updates,)."""
        return np.arange(self._first, self._recorded) + 1

    def _table(self) -> np.ndarray:
        if self._recording:
            self._drain(self.model)
        rows = np.concatenate([np.empty((0, 2)), *self._records])
        self._records = [rows]
        return rows

    @property
    def advice(self) -> tuple[ClippingAdvice, ...]:
        """What the norms of this run say about its stability, with the evidence; often nothing."""
        table = self._table()
        return advise(self.steps, table[:, 0], table[:, 1], clips=not self.monitor_only)

    def plot(self) -> "Figure":
        """Draw norm and threshold against the step, and the histogram of all norms (M2).

        Returns:
            A matplotlib figure, which a notebook shows; save it with `.savefig("clipping.png")`.
        """
        from tfplaybook.callbacks._clipping_plot import plot_clipping

        table = self._table()
        return plot_clipping(self.steps, table[:, 0], table[:, 1], clips=not self.monitor_only)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return what decides about the next updates, as plain arrays."""
        if self._installed is not None:
            _ = self.model  # on JAX this writes the step's results back to the variables
            return self._installed.state()
        state = self._last_state if self._loaded is None else self._loaded
        return {name: value.copy() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`: at once during training, or in the next `fit`.

        Raises:
            ValueError: The state is that of another `threshold`.
        """
        expected = self._rule.initial_state()
        arrays = {name: np.asarray(value) for name, value in state.items()}
        if _describe(arrays) != _describe(expected):
            raise ValueError(
                f"`state` must be the state_dict of a {type(self).__name__} with the same "
                f"threshold, {self._rule}: {_describe(expected)}. Received: {_describe(arrays)}."
            )
        state = {name: arrays[name].astype(like.dtype) for name, like in expected.items()}
        self._loaded = state
        if self._recording and self._installed is not None:
            _ = self.model
            self._installed.assign(state)

    def set_model(self, model: keras.Model) -> None:
        """Put the clipping into the optimizer, before Keras compiles the train step."""
        super().set_model(model)
        self._installed = _keras_clipping.InstalledClipping(
            model,
            self._rule.initial_state() if self._loaded is None else self._loaded,
            lambda state, norm: self._rule.update(state, norm, self.percentile),
            clips=not self.monitor_only,
            caller=type(self).__name__,
        )
        self._loaded = None
        self._recording = True
        self._begin(_keras.count_updates(model))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Check that this is the only one of its kind."""
        super().on_train_begin(logs)
        installed = _keras_clipping.installed_clipping(self.model)
        if installed is not self._installed:
            if installed is not None:
                installed.uninstall(self.model)
            raise ValueError(f"Two clippings in one `fit`: pass one {type(self).__name__}.")
        self._begin(_keras.count_updates(self.model))  # a run that is resumed has made some
        self._curves.begin_attempt(self._first)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start counting the updates of the epoch."""
        updates = _keras.count_updates(self.model)
        if self._recorded == self._first:
            self._begin(updates)  # another callback may have restored a checkpoint
        self._epoch_start = updates
        self._last_batch = -1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Read the recorded norms before the ring that holds them wraps."""
        if self._installed is None or not self._recording:
            return
        batches = max(1, batch - self._last_batch)
        self._last_batch = batch
        self._batches_pending += batches
        not_seen_yet = not self._installed.called  # the first step calls it, while it is traced
        if not_seen_yet or self._batches_pending + batches > self._installed.capacity:
            self._drain(self.model)

    def _drain(self, model: keras.Model) -> None:
        """Take the norms and thresholds of the updates since the last call."""
        installed = self._installed
        if installed is None or _keras_clipping.installed_clipping(model) is not installed:
            return
        first, last = self._recorded, _keras.count_updates(model)
        self._batches_pending = 0
        if last <= first:
            return
        if not installed.called:
            raise ValueError(
                f"{type(self).__name__} clipped nothing: {type(model.optimizer).__name__} was "
                f"updated without calling the method that is replaced in it, so it does not apply "
                "gradients as the optimizers of Keras do."
            )
        if last - first > installed.capacity:
            raise ValueError(
                f"The norms of {last - first - installed.capacity} updates are lost: only the last "
                f"{installed.capacity} are kept in the step. Call `on_train_batch_end(batch)` of "
                "the callback after each `train_on_batch`."
            )
        rows = installed.records(first, last).astype("float64")
        self._records.append(rows)
        self._recorded = last
        if self._curves.every is None:
            return
        for writer in self._curves.writers(self):
            for step, (norm, threshold) in enumerate(rows.tolist(), start=first + 1):
                if (step - self._first) % self._curves.every == 0:
                    _write(writer, step, norm, threshold)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the numbers of the epoch into the logs and the curves."""
        table = self._table()
        updates = self._recorded - self._epoch_start
        if not updates:
            return
        norm, threshold = table[-1].tolist()
        clipped_fraction = float(np.mean(is_clipped(*table[-updates:].T)))
        if logs is not None:
            logs[NORM_CURVE] = norm
            logs["clip_threshold"] = threshold
            logs["clipped_fraction"] = clipped_fraction
        for writer in self._curves.writers(self):
            if self._curves.every is None:
                _write(writer, self._recorded, norm, threshold)
            if self._epoch_start == self._first:
                writer.chart("Gradient clipping", (NORM_CURVE, "clip_threshold"))
            writer.scalar("clipped_fraction", self._recorded, clipped_fraction)
            writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Write the histogram, give the optimizer back as it was, and give advice."""
        norms = self._table()[:, 0]
        drawn = norms[np.isfinite(norms) & (norms > 0.0)]
        for writer in self._curves.writers(self) if len(drawn) else []:
            writer.histogram(f"{NORM_CURVE}_log10", self._recorded, np.log10(drawn))
            writer.flush()
        self._recording = False
        self._loaded = None
        if not self.keep_installed:
            self.uninstall()
        for advice in self.advice:
            warnings.warn(str(advice), stacklevel=2)

    def uninstall(self) -> None:
        """Give the optimizer back as it was compiled.

        Training that ends does this by itself. Call it when `fit` was interrupted or failed and
        the model is to train on without clipping, or to end `keep_installed`.
        """
        if self._installed is None:
            return
        self._table()
        self._recording = False
        self._last_state = self.state_dict()
        self._installed.uninstall(self.model)
        self._installed = None


def _write(writer: _keras.RunWriter, step: int, norm: float, threshold: float) -> None:
    writer.scalar(NORM_CURVE, step, norm)
    if np.isfinite(threshold):
        writer.scalar("clip_threshold", step, threshold)


def _describe(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the arrays, in the order of the names."""
    return {name: arrays[name].shape for name in sorted(arrays)}
