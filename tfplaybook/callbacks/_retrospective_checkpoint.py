"""`RetrospectiveCheckpoint`: keeps the best checkpoints of a run, and resumes it exactly."""

import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfplaybook import _keras, _keras_state
from tfplaybook._arguments import check_count
from tfplaybook.callbacks import _run_notices as notices
from tfplaybook.callbacks._best import BestCheckpoint
from tfplaybook.callbacks._data_position import DataPosition
from tfplaybook.callbacks._evaluation import Evaluation
from tfplaybook.callbacks._evaluation_history import EvaluationHistory
from tfplaybook.callbacks._fit_hold import FitHold, gives_back_on_error, release_unused
from tfplaybook.callbacks._monitors import check_reported, make_monitors, scalars, stale_monitor
from tfplaybook.callbacks._periodic_evaluation import PeriodicEvaluation, check_evaluation
from tfplaybook.callbacks._preemption import PreemptionNotice
from tfplaybook.callbacks._resumable_run import ResumableRun, describe_configuration
from tfplaybook.callbacks._step_count import StepCount
from tfplaybook.callbacks._training_state import Camera, Snapshot, pack, unpack
from tfplaybook.hosts import Host, current_host
from tfplaybook.runs import AnyOf, BestN, LatestN, RetentionPolicy
from tfplaybook.runs._retention import check_policy


class RetrospectiveCheckpoint(_keras.Callback):
    """Keep the best checkpoints of a run to choose from afterwards, and resume it bit for bit.

    Train for a fixed number of steps, save at each evaluation, choose when training is over (I8):
    that needs no early stopping, and another metric can still be chosen by. At the end of every
    epoch everything that decides the next step is saved in `directory/checkpoints`, and what
    `keep_best` and `keep` do not ask for is deleted, except the latest. Make an epoch an evaluation
    interval with `tfplaybook.callbacks.plan_epochs`.

    **Resume.** Run the same script again and training goes on after the last whole epoch on disk;
    with `data` at the exact example, so that weights, curves and best checkpoints are those of a
    run that was never stopped. A run that has ended is not trained again. With more `epochs` it is
    continued; a learning-rate schedule whose length is that of the run is then stretched over the
    new length from there on (H7). A changed model, optimizer, callback or pipeline is an error
    that shows the difference. A second process on the directory is refused. SIGTERM, the notice of
    preemption, ends `fit` after the present step; the epoch that it interrupts is repeated.

    What is saved: weights and statistics (those of batch norm averaged over replicas, J2),
    optimizers with slots, averages, accumulators and loss scale, the seeds of Keras, NumPy and
    Python, the state of our other callbacks, the position in `data`, and all evaluations. What is
    not: the state of callbacks that are not of tfplaybook, of TensorFlow's own generators, and of
    data that is not passed as `data`.

    Saving stops training only for the copy to the host's memory; files are written meanwhile. They
    appear by rename when they are on the disk, with checksums; a damaged checkpoint is skipped with
    a warning, and the one before it taken.

    Examples:
        >>> import tempfile, keras, numpy as np, tfplaybook as pb
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> checkpoint = pb.callbacks.RetrospectiveCheckpoint(
        ...     tempfile.mkdtemp(), monitor="loss", keep_best=2, restore_best=True)
        >>> history = model.fit(np.ones((8, 2)), np.ones(8), batch_size=4, epochs=5, verbose=0,
        ...                     callbacks=[checkpoint])
        >>> checkpoint.best.step
        10

    Args:
        directory: The run directory, which may be that of a `tfplaybook.runs.RunRecorder`. Inside
            `tfplaybook.search.QuasiRandomSearch` each execution has its own, and this is not used.
        monitor: The metric that ranks checkpoints, such as `"val_loss"`; or several, each of which
            keeps its own best ones.
        mode: `"min"`, `"max"`, or `"auto"` for what the name says; one word, or one per monitor.
        keep_best: Checkpoints to keep for each monitor, at least 0.
        keep: A policy of `tfplaybook.runs`, such as `EveryNSteps(10_000)`, for more to keep.
        data: The pipeline that is passed to `fit`: an object with a variable `start_step`, read
            when an iteration begins, such as a `pipelines.TrainingPipeline`.
        evaluation: A `PeriodicEvaluation`, not in `callbacks` as well, whose evaluations are ranked
            and saved instead of the epochs' metrics.
        restore_best: Whether to give the model the best weights, by the first monitor, at train
            end.
        host: Who this process is among those that train together; found out by default. Only the
            first writes. All must see the same directory.

    Raises:
        ValueError: At construction for a bad argument. When `fit` starts: the configuration has
            changed or is missing, the model is not built or does not fit the checkpoint, no
            checkpoint is whole, or this is a copy that was given no directory of its own. At the
            first evaluation: `monitor` is not among its metrics. At the end of an epoch: it is of
            an earlier step, by a `PeriodicEvaluation` in `callbacks`.
        RuntimeError: When `fit` starts: another process writes there.
        OSError: A checkpoint could not be written; raised at the next save, or at train end.

    Source: playbook I1, I8, J1-J3, D11, H2.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        monitor: str | Sequence[str],
        mode: str | Sequence[str] = "auto",
        keep_best: int = 3,
        keep: RetentionPolicy | None = None,
        data: Any = None,
        evaluation: PeriodicEvaluation | None = None,
        restore_best: bool = False,
        host: Host | None = None,
    ):
        super().__init__()
        self.directory = None if directory is None else Path(directory)
        self._others_directory: Path | None = None
        self.restore_best = restore_best
        self._monitors = make_monitors(monitor, mode)
        self._described_monitors = [monitor._asdict() for monitor in self._monitors]
        check_count("keep_best", keep_best, minimum=0)
        self._keep = AnyOf(
            [
                LatestN(1) if keep is None else check_policy("keep", keep),
                *(BestN(keep_best, m.name, m.mode) for m in self._monitors if keep_best),
            ]
        )
        self._data = data
        self._position = DataPosition(data)
        self._evaluation = check_evaluation(evaluation)
        self._host = host
        self._notice = PreemptionNotice()
        # In a search, whole runs are no mistake, and the study says what many of them show.
        self._is_alone = True
        self._run: ResumableRun | None = None
        self.hold: FitHold | None = None
        self._history = EvaluationHistory()
        self._begin()

    def _begin(self) -> None:
        self._resumed = False
        self._resumed_step: int | None = None
        self._obsolete_after: int | None = None
        self._first_epoch = self._epoch = self._batches = 0
        self._validation_is_whole = True
        self._pending: Snapshot | None = None
        self._logs: Mapping[str, Any] = {}
        self._camera = Camera()

    def __deepcopy__(self, memo: dict[int, Any]) -> "RetrospectiveCheckpoint":
        # A dataset cannot be copied, and is the same for all trials of a search.
        memo[id(self._data)] = self._data
        copied = super().__deepcopy__(memo)
        copied._others_directory = self.directory
        return copied

    def for_execution(self, directory: Path) -> None:
        """Use the run directory of one execution of a search."""
        self.directory = directory
        self._is_alone = False

    def end_execution(self) -> None:
        """Let go of directory, data and signal, which a `fit` that was interrupted still holds."""
        if self.hold is not None:
            self.hold.release()

    @property
    def best(self) -> BestCheckpoint | None:
        """The best evaluation by the first monitor, or None before there is one."""
        return self._history.best(self._monitors[0])

    @property
    def resumed_step(self) -> int | None:
        """Updates that the run had made when it was resumed, or None for a new one."""
        return self._resumed_step

    @property
    def preempted(self) -> bool:
        """Whether a SIGTERM has ended the last `fit`."""
        return self._notice.received

    def set_model(self, model: keras.Model) -> None:
        """Announce that this callback puts back the state of a run."""
        super().set_model(model)
        self._begin()
        _keras.registry(model)["resumer"] = weakref.ref(self)
        if self._evaluation is not None:
            self._evaluation.on_evaluation = self._on_evaluation
            self._evaluation.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of `fit`."""
        super().set_params(params)
        if self._evaluation is not None:
            self._evaluation.set_params(params)

    @gives_back_on_error
    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Listen for a notice of preemption."""
        super().on_train_begin(logs)
        if not self._resumed:
            _keras.registry(self.model)["resumer"]().end_execution()
            raise ValueError(
                f"Two {type(self).__name__} in one `fit`: pass one, with several monitors."
            )
        self._notice.listen()
        if self._evaluation is not None:
            self._evaluation.owners_directory = self.directory
            self._evaluation.owners_host = self._host
            self._evaluation.on_train_begin(logs)

    @gives_back_on_error
    def resume(self) -> None:
        """Open the run and go on where it was stopped, before any callback of ours begins."""
        if self._resumed:
            return
        self._resumed = True
        self._run = self._open()
        self._put_back(self.model, self._run)
        self._run.host.barrier("resumed")

    def _open(self) -> ResumableRun:
        if self.directory is None:
            raise ValueError(
                f"{type(self).__name__} needs a `directory`, except inside `QuasiRandomSearch`, "
                "which has one for each execution."
            )
        if self.directory == self._others_directory:
            raise ValueError(notices.copied(type(self).__name__, self.directory))
        release_unused()
        run = ResumableRun(self.directory, self._keep, self._host or current_host())
        self.hold = FitHold(run, self._notice, self._position)
        return run

    def _put_back(self, model: keras.Model, run: ResumableRun) -> None:
        _keras_state.check_built(model, type(self).__name__)
        _keras_state.build_optimizer(model)
        _keras_state.check_optimizers_built(model, type(self).__name__)
        callbacks = _keras.stateful_callbacks(self)
        configuration = describe_configuration(model, callbacks, self._data, self.params["steps"])
        self._position.begin()
        self._history = EvaluationHistory()
        checkpoint = run.load_latest()
        if checkpoint is None:
            run.start(configuration)
            self._obsolete_after = -1
        else:
            run.check_configuration(configuration)
            self._history = unpack(model, callbacks, checkpoint.arrays)
            self._resumed_step = checkpoint.entry.step
            self._first_epoch = checkpoint.record["epoch"]
            epochs = self.params["epochs"]
            has_ended = run.has_ended(checkpoint, epochs)
            self._obsolete_after = None if has_ended else checkpoint.entry.step
            _keras.begin_at_epoch(model, epochs if has_ended else self._first_epoch)
            if has_ended and checkpoint.record["monitors"] == self._described_monitors:
                run.collect()  # by other monitors, it would delete what the run was to keep
            if has_ended and self._is_alone:
                ended = notices.ended(self.directory, self._first_epoch, checkpoint.entry.step)
                warnings.warn(ended, stacklevel=2)
            elif not has_ended and not self._position.seek(checkpoint.record["data_step"]):
                anew = notices.data_starts_anew(self.directory, self._first_epoch)
                warnings.warn(anew, stacklevel=2)
        self._steps = StepCount(model, self._resumed_step or 0)
        self._epoch = self._first_epoch

    @gives_back_on_error
    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the epoch before, which all callbacks have seen by now."""
        _keras.begin_at_epoch(self.model, None)
        if self._obsolete_after is not None and self._run is not None:
            # Not before all callbacks have accepted the run.
            self._run.discard(after=self._obsolete_after)
            self._obsolete_after = None
        self._save_pending()
        self._epoch = epoch
        self._batches = 0
        self._validation_is_whole = True
        if self._evaluation is not None:
            self._evaluation.on_epoch_begin(epoch, logs)

    @gives_back_on_error
    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate when it is time, and stop after a notice of preemption."""
        self._batches = batch + 1
        if self._notice.received:
            self.model.stop_training = True
            if self._batches != self.params["steps"]:
                return  # the epoch is repeated, and this evaluation with it
        if self._evaluation is not None:
            self._evaluation.on_train_batch_end(batch, logs)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Average the batch statistics over replicas before they are used (J2)."""
        _keras_state.average_batch_norm(self.model)

    # At the end of a batch it would make Keras wait for the metrics of each one.
    def on_test_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the validation after a notice of preemption."""
        if self._notice.received:
            self._validation_is_whole = False
            self.model.stop_evaluating = True

    def _on_evaluation(self, evaluation: Evaluation) -> None:
        is_last_batch = self._batches == self.params["steps"]
        if is_last_batch or self._pending is not None:
            return  # saved as what the epoch ends with
        snapshot = self._camera.take(self.model, evaluation.step)
        self._save(snapshot, evaluation.metrics, epoch=None)

    @gives_back_on_error
    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Copy what decides the next step."""
        is_preempted = self._notice.received
        is_whole = not is_preempted or (
            self._batches == self.params["steps"] and self._validation_is_whole
        )
        if is_preempted:
            self.model.stop_training = True
        if self._evaluation is not None:
            is_last = is_whole and epoch + 1 == self.params["epochs"]
            if is_preempted and not is_last:
                self._evaluation.abandon()
            self._evaluation.on_epoch_end(epoch, logs)
        if not is_whole:
            return  # it is repeated: the data can be sought to the beginning of an epoch
        self._position.advance(self._batches)
        step = self._steps.end_epoch(self.model, self._batches)
        self._epoch = epoch + 1
        # The optimizer puts the averages into the weights when `fit` ends, so the copy is made
        # now; but callbacks further down the list are still to see the epoch.
        self._pending = self._camera.take(self.model, step)
        self._logs = {} if logs is None else logs

    def _save_pending(self, *, is_last: bool = False) -> None:
        """Save the end of an epoch, with what callbacks further down have done to rate and logs."""
        snapshot, self._pending = self._pending, None
        if snapshot is None:
            return
        metrics: Mapping[str, float]
        stale = ""
        if self._evaluation is None:
            callbacks = _keras.stateful_callbacks(self).values()
            stale = stale_monitor(self._monitors, callbacks, snapshot.step)
            metrics = {} if stale else scalars(self._logs)
        else:
            # Not only of this epoch, which may have made no update.
            latest = self._evaluation.evaluations[-1:]
            metrics = latest[0].metrics if latest and latest[0].step == snapshot.step else {}
        self._save(
            snapshot.with_present_rate(self.model), metrics, epoch=self._epoch, is_last=is_last
        )
        if stale:
            raise ValueError(stale)
        if self._evaluation is None or metrics:
            missing = check_reported(self._monitors, metrics)
            if missing and self._epoch == self._first_epoch + 1:
                warnings.warn(f"The first epoch is not ranked. {missing}", stacklevel=2)

    def _save(
        self,
        snapshot: Snapshot,
        metrics: Mapping[str, float],
        *,
        epoch: int | None,
        is_last: bool = False,
    ) -> None:
        assert self._run is not None
        if metrics:
            self._history.add(snapshot.step, metrics)
        self._run.save(
            snapshot.step,
            pack(snapshot, _keras.stateful_callbacks(self), self._history),
            metrics=metrics,
            resumable=epoch is not None,
            record={
                "epoch": epoch,
                # Training may end before its last epoch, and the process right after this.
                "finished_epochs": self.params["epochs"] if is_last else None,
                "data_step": None if epoch is None else self._position.step,
                "monitors": self._described_monitors,
                "uses_average": self._evaluation is not None and self._evaluation.uses_average,
            },
        )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Wait for the last checkpoint; choose the best."""
        model = self.model
        _keras.begin_at_epoch(model, None)
        try:
            if self._evaluation is not None:
                self._evaluation.on_train_end(logs)
            self._save_pending(is_last=not self._notice.received)
            assert self._run is not None
            if self._notice.received:
                warnings.warn(notices.preempted(self._epoch, self.params["epochs"]), stacklevel=2)
            else:
                self._run.finish(self.params["epochs"], self._steps.step)
            # The others read what the first has written.
            self._run.host.barrier("saved")
            if self.restore_best and not self._notice.received:
                self._run.restore_best(model, self._monitors[0])
        finally:
            self.end_execution()
        if self._epoch > self._first_epoch and not self._notice.received:
            notices.warn_of_unseen(self._monitors, self._history)
        best = self.best
        if self._is_alone and best is not None and best.is_early and not self._notice.received:
            warnings.warn(str(best), stacklevel=2)
