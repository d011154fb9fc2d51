"""`WarmupThenDecay`: a learning-rate schedule for a model that is already compiled."""

import math
import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfplaybook import _keras
from tfplaybook._arguments import check_count, check_number
from tfplaybook.callbacks._curve_log import CurveLog, UpdateFrequency
from tfplaybook.schedules import WarmupDecaySchedule


class WarmupThenDecay(_keras.Callback):
    """Warm the learning rate up and decay it over exactly the run that `fit` makes.

    The rate of update `u` is `schedule(u)` of a `tfplaybook.schedules.WarmupDecaySchedule`,
    computed inside the compiled step: exact at every update, also under `steps_per_execution`,
    `jit_compile`, `MirroredStrategy` and gradient accumulation (where an update is the step that
    applies the accumulated gradients, not a batch).

    The length is that of the run: `epochs * steps_per_epoch` updates, of which the warmup and the
    hold are part and the decay is the rest. The playbook prepends the warmup (L5): to try a warmup
    without shortening the decay, add its steps to the epochs.

    The step counts from the first epoch of the run: a second `fit` starts a new schedule, while
    `fit(initial_epoch=...)` continues one.

    What you see: `learning_rate` in `logs` and `History`, the rate of the epoch's last update; and
    a curve in the run of a `tfplaybook.runs.RunRecorder` in the same `fit`, or in `log_dir`.
    `model.optimizer.learning_rate` is the current rate.

    At train end the optimizer is as it was compiled; after a `fit` that was interrupted,
    `uninstall` or the next `fit` with a `WarmupThenDecay` sees to it. During training its
    learning-rate variable holds peak x `multiplier`: a model saved by `ModelCheckpoint` meanwhile
    loads without tfplaybook, with all of its optimizer state, and restoring it in `fit`, as
    `BackupAndRestore` does, restores the multiplier.

    Keras' SGD folds the learning rate into its velocity: with momentum it warms up more gently than
    the rule in the playbook, since a rate that grows does not lift the velocity of earlier steps.

    Examples:
        >>> import keras, numpy as np, tfplaybook as pb
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.4), "mse")
        >>> warmup = pb.callbacks.WarmupThenDecay(warmup_steps=2, decay="linear")
        >>> x, y = np.ones((8, 2)), np.ones(8)
        >>> history = model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[warmup])
        >>> [round(rate, 3) for rate in history.history["learning_rate"]]
        [0.2, 0.3, 0.1]

    Args:
        warmup_steps: Updates of the ramp, at least 0 and below the length of the run.
        peak_learning_rate: The rate after warmup, greater than 0. By default the compiled rate, so
            that a `learning_rate` tuned in `build_model` is the peak.
        hold_steps: Updates at the peak between warmup and decay, at least 0.
        total_steps: Updates of warmup, hold and decay together, at least 1. By default those of
            the run. More than the run's leaves the end of the schedule to a later one; fewer, and
            the rest of the run has the last rate, with a warning.
        decay: `"cosine"`, `"linear"`, `"constant"`, `"exponential"`, `"inverse_sqrt"`,
            `"polynomial"`, or any Keras `LearningRateSchedule`, of which the shape is used.
        final_fraction: Last rate as a fraction of the peak, in [0, 1].
        initial_fraction: First rate as a fraction of the peak, in [0, 1].
        warmup_power: Exponent of the ramp, greater than 0; 1 is linear.
        decay_power: Exponent of a `"polynomial"` decay, greater than 0.
        log_dir: TensorBoard directory for the rate. By default the run directory of the
            `RunRecorder`, when there is one.
        update_freq: `"epoch"`, `"batch"` for every update, or an integer: every so many updates.
        keep_installed: Leave the schedule in the optimizer after training. It is taken out by the
            next `WarmupThenDecay` that trains the model.

    Raises:
        ValueError: At construction for a bad argument; when `fit` starts if the optimizer was
            compiled with a schedule, its rate is not a finite number above 0, the warmup and hold
            do not leave a step for the decay, or the length of the run is unknown (an endless
            dataset without `steps_per_epoch`).

    Source: playbook L1-L7, H8.
    """

    # The length may grow when a run goes on.
    free_arguments = _keras.Callback.free_arguments | {"total_steps"}

    def __init__(
        self,
        *,
        warmup_steps: int,
        peak_learning_rate: float | None = None,
        hold_steps: int = 0,
        total_steps: int | None = None,
        decay: str | LearningRateSchedule = "cosine",
        final_fraction: float = 0.0,
        initial_fraction: float = 0.0,
        warmup_power: float = 1.0,
        decay_power: float = 1.0,
        log_dir: str | os.PathLike[str] | None = None,
        update_freq: UpdateFrequency = "epoch",
        keep_installed: bool = False,
    ):
        super().__init__()
        self.peak_learning_rate = peak_learning_rate
        self.total_steps = total_steps
        self.log_dir = log_dir
        self.keep_installed = keep_installed
        self._shape: dict[str, Any] = {
            "warmup_steps": warmup_steps,
            "hold_steps": hold_steps,
            "decay": decay,
            "final_fraction": final_fraction,
            "initial_fraction": initial_fraction,
            "warmup_power": warmup_power,
            "decay_power": decay_power,
        }
        # Refuses bad arguments now; the peak and the length may be known only in `fit`.
        WarmupDecaySchedule(
            peak_learning_rate=1.0 if peak_learning_rate is None else peak_learning_rate,
            decay_steps=1,
            **self._shape,
        )
        if total_steps is not None:
            self._decay_steps(check_count("total_steps", total_steps, minimum=1), "total_steps")
        self._curves = CurveLog(log_dir, update_freq)
        self._schedule: WarmupDecaySchedule | None = None
        self._installed: _keras.InstalledRate | None = None
        self._multiplier = 1.0
        self._loaded: float | None = None
        self._origin: int | None = None
        self._recorded = 0
        self._last_rate: float | None = None

    @classmethod
    def from_schedule(cls, schedule: WarmupDecaySchedule, **options: Any) -> "WarmupThenDecay":
        """Return a callback that trains on exactly `schedule`, such as a lengthened one (H7).

        Args:
            schedule: Gives the peak, the length and the shape.
            **options: `log_dir`, `update_freq`, `keep_installed`.

        Raises:
            TypeError: `schedule` is of another class.
        """
        if not isinstance(schedule, WarmupDecaySchedule):
            raise TypeError(
                "`schedule` must be a tfplaybook.schedules.WarmupDecaySchedule. Received: "
                f"{schedule!r}. Of any other schedule, pass the shape as `decay`."
            )
        shape = schedule.get_config()
        del shape["name"], shape["decay_steps"]
        shape["decay"] = schedule.decay
        return cls(total_steps=schedule.total_steps, **shape, **options)

    @property
    def schedule(self) -> WarmupDecaySchedule:
        """The schedule of the run, from the beginning of training on."""
        if self._schedule is None:
            raise ValueError("The schedule is known once training has begun: call model.fit first.")
        return self._schedule

    @property
    def multiplier(self) -> float:
        """A factor on the whole schedule, 1.0 at train begin; assign it from a callback.

        `keras.callbacks.ReduceLROnPlateau` works too: what it assigns to
        `model.optimizer.learning_rate` is taken as the rate at that step, and the rest of the
        schedule is scaled with it.
        """
        return self._multiplier

    @multiplier.setter
    def multiplier(self, value: float) -> None:
        value = check_number("multiplier", value, minimum=0.0)
        if self._installed is None:
            raise ValueError("`multiplier` can be assigned during training: it starts at 1.0.")
        self._record_rates(self.model)
        self._multiplier = value
        self._installed.assign(self.schedule.peak_learning_rate * value)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return what decides about the next rates beside the step, as plain arrays."""
        return {"multiplier": np.array(self._multiplier, "float64")}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`: at once during training, or in the next `fit`.

        Raises:
            ValueError: `state` is not a `state_dict` of this class.
        """
        shapes = {name: np.shape(value) for name, value in state.items()}
        expected = {"multiplier": ()}
        if shapes != expected:
            raise ValueError(
                f"`state` must be the state_dict of a {type(self).__name__}: {expected}. "
                f"Received: {shapes}."
            )
        multiplier = check_number("multiplier", float(state["multiplier"]), minimum=0.0)
        if self._installed is None or self._schedule is None:
            self._loaded = multiplier
        else:
            self.multiplier = multiplier

    def set_model(self, model: keras.Model) -> None:
        """Put the schedule into the optimizer, before Keras compiles the train step."""
        super().set_model(model)
        self._schedule = None
        self._origin = None
        self._installed = _keras.InstalledRate(model, self._fraction, type(self).__name__)

    def _fraction(self, updates: Any) -> Any:
        if self._schedule is None or self._origin is None:
            return ops.ones((), "float32")
        return self._schedule.fraction(updates - self._origin)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Fix the schedule, now that the length of the run is known."""
        super().on_train_begin(logs)
        model = self.model
        installed = self._installed
        if _keras.registry(model).get("learning_rate") is not installed or installed is None:
            raise ValueError(
                f"Two learning-rate schedules in one `fit`: pass one {type(self).__name__}."
            )
        try:
            peak = self._peak(installed.compiled_rate)
            self._schedule = WarmupDecaySchedule(
                peak_learning_rate=peak,
                decay_steps=self._decay_steps(*self._schedule_length(model)),
                **self._shape,
            )
        except ValueError:
            installed.uninstall(model)
            raise
        restored = installed.written_by_others()
        self._multiplier = 1.0 if restored is None else restored / peak
        if self._loaded is not None:
            self._multiplier, self._loaded = self._loaded, None
        installed.assign(peak * self._multiplier)
        self._curves.begin_attempt(_keras.count_updates(model))

    def _peak(self, compiled_rate: float) -> float:
        if self.peak_learning_rate is not None:
            return self.peak_learning_rate
        if not (math.isfinite(compiled_rate) and compiled_rate > 0):
            raise ValueError(
                "The compiled learning rate is the peak, so it must be a finite number greater "
                f"than 0. Received: {compiled_rate}. Compile with the rate to use after warmup, "
                "or pass `peak_learning_rate`."
            )
        return compiled_rate

    def _schedule_length(self, model: keras.Model) -> tuple[int | None, str]:
        """Return the updates of the schedule, warmup included, and where that number is from."""
        run, source = self._run_length(model)
        if self.total_steps is None:
            return run, source
        if run is not None:
            self._decay_steps(run, source)
            if self.total_steps < run:
                warnings.warn(
                    f"The schedule ends after {self.total_steps} of the {run} updates of this run "
                    f"({source}); the others keep its last rate. Leave `total_steps` out to use "
                    "the whole run.",
                    stacklevel=2,
                )
        return self.total_steps, "total_steps"

    def _run_length(self, model: keras.Model) -> tuple[int | None, str]:
        """Return the updates that `fit` makes, None if it does not know, and their arithmetic."""
        epochs, steps = self.params["epochs"], self.params["steps"]
        if steps is None:
            return None, "fit"
        accumulation = _keras.accumulation_steps(model)
        source = f"epochs={epochs} x steps_per_epoch={steps}"
        if accumulation > 1:
            source += f" / gradient_accumulation_steps={accumulation}"
        return epochs * steps // accumulation, source

    def _decay_steps(self, total_steps: int | None, source: str) -> int | None:
        """Return what warmup and hold leave of the run, or None for a decay without end."""
        decay = self._shape["decay"]
        if total_steps is None:
            if decay == "constant":
                return None
            raise ValueError(
                "The length of the run is unknown, so the learning rate cannot be decayed over it. "
                "Received: data whose number of batches `fit` does not know. Pass "
                "`steps_per_epoch` to `fit` (a pipelines.TrainingPipeline has it as an attribute), "
                "or `total_steps` to this callback."
            )
        before = self._shape["warmup_steps"] + self._shape["hold_steps"]
        if before >= total_steps:
            raise ValueError(
                "`warmup_steps` + `hold_steps` must be less than the steps of the run, which "
                f"include them (L4: warm up for at most a tenth of it). Received: {before} of "
                f"{total_steps} ({source}). Train longer or warm up less."
            )
        return total_steps - before

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Find where in the schedule the run starts; follow a rate that others have assigned."""
        model = self.model
        if self._origin is not None:
            self._follow_assigned_rate(model)
            return
        updates = _keras.count_updates(model)
        steps = self.params["steps"]
        if epoch and steps is None:
            raise ValueError(
                f"Training starts at epoch {epoch} of data whose number of batches `fit` does not "
                "know, so the position in the schedule is unknown. Pass `steps_per_epoch` to `fit`."
            )
        self._origin = updates - (epoch * steps // _keras.accumulation_steps(model) if epoch else 0)
        self._recorded = updates
        assert self._installed is not None
        restored = self._installed.written_by_others()
        if restored is not None:
            # Assigned before the first step, as by a checkpoint: it held peak x multiplier.
            self.multiplier = restored / self.schedule.peak_learning_rate

    def _follow_assigned_rate(self, model: keras.Model) -> None:
        assert self._installed is not None
        assigned = self._installed.written_by_others()
        if assigned is None:
            return
        scheduled = self.schedule.peak_learning_rate * float(
            self._fractions(_keras.count_updates(model), 1)[0]
        )
        if scheduled == 0.0 or assigned == 0.0:
            raise ValueError(
                f"Another callback assigned the learning rate {assigned:g} where the schedule has "
                f"{scheduled:g}, and the schedule cannot be scaled by that. Use one of the two: a "
                "`keras.callbacks.LearningRateScheduler` is a schedule of its own. A callback of "
                "yours can assign `multiplier` instead."
            )
        self.multiplier = assigned / scheduled

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put `learning_rate` into the logs and the curves."""
        model = self.model
        self._record_rates(model)
        if self._last_rate is None:
            # No update yet, as under accumulation: the rate that the first one will have.
            first = float(self._fractions(self._recorded, 1)[0])
            self._last_rate = self.schedule.peak_learning_rate * self._multiplier * first
        if logs is not None:
            logs["learning_rate"] = self._last_rate
        for writer in self._curves.writers(self):
            if self._curves.every is None:
                writer.scalar("learning_rate", _keras.count_updates(model), self._last_rate)
            writer.flush()

    def _record_rates(self, model: keras.Model) -> None:
        """Note the rates of the updates since the last call, which all had one multiplier."""
        first, last = self._recorded, _keras.count_updates(model)
        if last <= first:
            return
        every = self._curves.every
        if every is None:
            first = last - 1
        peak = self.schedule.peak_learning_rate * self._multiplier
        rates = peak * self._fractions(first, last - first)
        self._recorded = last
        self._last_rate = float(rates[-1])
        if every is None:
            return
        for writer in self._curves.writers(self):
            for step, rate in enumerate(rates.tolist(), start=first + 1):
                if (step - (self._origin or 0)) % every == 0:
                    writer.scalar("learning_rate", step, rate)

    def _fractions(self, first: int, count: int) -> np.ndarray:
        """Return the share of the peak for `count` updates from `first` on, float32 (count,)."""
        updates = np.arange(first, first + count)
        if isinstance(self.schedule.decay, LearningRateSchedule):
            # A schedule of the user's may take one step at a time only.
            return np.array([ops.convert_to_numpy(self._fraction(update)) for update in updates])
        return ops.convert_to_numpy(self._fraction(updates))

    def uninstall(self) -> None:
        """Give the optimizer back with the rate it was compiled with.

        Training that ends does this by itself. Call it when `fit` was interrupted or failed and
        the model is to train on without the schedule, or to end `keep_installed`.
        """
        if self._installed is not None:
            self._installed.uninstall(self.model)
            self._installed = None

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Give the optimizer back with the rate it was compiled with."""
        if self.keep_installed:
            self._follow_assigned_rate(self.model)
        else:
            self.uninstall()
