"""`StudyOracle`: hands out the trials of a study, to one process or to many, and keeps its books.

KerasTuner's own bookkeeping rewrites one file with the whole search at every event, counts trials
to name them, and stops for good after three NaNs. This one keeps one small file per trial, replaced
by rename. A trial belongs to one worker at a time; what others say about it is ignored, so that any
call may come twice, late, or from a worker that was given up.
"""

import threading
from collections.abc import Mapping
from typing import Any

import keras_tuner as kt

from tfplaybook import _keras_tuner
from tfplaybook._files import replace_json
from tfplaybook._keras_tuner import SearchSpace, Trial, TrialStatus
from tfplaybook.search._leases import Leases
from tfplaybook.search._objective import unknown_objective
from tfplaybook.search._outcome import (
    best_first,
    failure_report,
    has_ended,
    has_failed,
    is_infeasible,
    record_metrics,
)
from tfplaybook.search._study_trial import StudyTrial
from tfplaybook.search._trial_files import FILE_NAME, INFEASIBLE, trial_folder
from tfplaybook.search._trial_queue import TrialQueue


class StudyOracle(kt.Oracle):
    """The trials of a study; a subclass says how many there are and which points they have.

    Args:
        divergence_threshold: Magnitude, above 0, from which on a finite objective counts as
            diverged.
        lease_seconds: For how many seconds a worker may be silent before its trial is another's.
        **kwargs: Arguments of `keras_tuner.Oracle`.
    """

    def __init__(self, *, divergence_threshold: float, lease_seconds: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.divergence_threshold = divergence_threshold
        self.lease_seconds = lease_seconds
        self.hyperparameters: SearchSpace = SearchSpace.of(self.hyperparameters)
        # What ended the search before its time.
        self.failure: str | None = None
        self._leases: Leases | None = None
        self._queue = TrialQueue()
        self._failures_in_a_row = 0
        # For whoever reads while workers call. Not KerasTuner's `synchronized`, which stays locked
        # after an exception.
        self.lock = threading.RLock()
        self._news = threading.Condition(self.lock)

    @property
    def num_points(self) -> int:
        """How many trials the search can have."""
        raise NotImplementedError

    def begin(self) -> None:
        """Go on with the study on disk, or start one."""
        raise NotImplementedError

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial to run, or one with status STOPPED when there is none.

        In a search of many processes the status is IDLE while others still run a trial, which may
        have to be run again. A worker that asks again without having ended its trial gets the same.
        """
        with self.lock:
            self.begin()
            self._hear(tuner_id)
            self.tuner_ids.add(tuner_id)
            trial = None
            if self.failure is None:
                trial = self.ongoing_trials.get(tuner_id) or self._next_trial()
            if trial is None:
                return self._no_trial(tuner_id)
            trial.begin(tuner_id)
            # First, so that no trial is lost when the disk is full.
            self.ongoing_trials[tuner_id] = trial
            self._write_trial(trial)
            self._news.notify_all()
            _keras_tuner.show_begin(self, trial)
            return trial

    def update_trial(
        self,
        trial_id: str,
        metrics: Mapping[str, float],
        step: int = 0,
        *,
        tuner_id: str | None = None,
    ) -> Trial:
        """Record the metrics of a trial; an objective that diverged makes it infeasible.

        Args:
            trial_id: The trial.
            metrics: Values by the names of the metrics.
            step: Where the best of them was.
            tuner_id: Who says so, if it is known.
        """
        with self.lock:
            trial = self.trials[trial_id]
            if not self._is_held(trial, tuner_id):
                return trial
            name = self.objective.name
            if name not in metrics:
                raise kt.errors.FatalValueError(unknown_objective(self.objective, set(metrics)))
            record_metrics(trial, metrics, step, self.objective)
            # Of a NaN too.
            if not abs(metrics[name]) < self.divergence_threshold and not is_infeasible(trial):
                trial.message = f"{INFEASIBLE} {name} was {float(metrics[name])}"
            if self._leases is not None:
                # The chief may be killed before it hears that the trial has ended.
                self._write_trial(trial)
            return trial

    def end_trial(self, trial: Trial, *, tuner_id: str | None = None) -> None:
        """Record how a trial ended, and stop the search if too many failed in a row."""
        with self.lock:
            # In a search of many processes, `trial` is a copy.
            ended = self.trials[trial.trial_id]
            if not self._is_held(ended, tuner_id):
                return
            ended.hyperparameters = trial.hyperparameters
            ended.status, ended.message = trial.status, trial.message or ended.message
            self.update_space(trial.hyperparameters, found_in=f"`fit` of trial {trial.trial_id}")
            if ended.status == TrialStatus.COMPLETED and is_infeasible(ended):
                ended.status = TrialStatus.FAILED
            elif ended.status == TrialStatus.COMPLETED:
                self.score_trial(ended)
            else:
                # KerasTuner's FAILED means that another attempt would fail as well.
                if ended.status == TrialStatus.INVALID:
                    self._queue.retry(ended.trial_id, at_most=self.max_retries_per_trial)
                ended.status = TrialStatus.FAILED
            self._write_trial(ended)
            self.end_order.append(ended.trial_id)
            for holder, ongoing in list(self.ongoing_trials.items()):
                if ongoing is ended:
                    del self.ongoing_trials[holder]
            _keras_tuner.show_end(self, ended)
            self._news.notify_all()
            self._count_failures(ended)

    def update_space(self, hyperparameters: kt.HyperParameters, found_in: str = "a trial") -> None:
        """Add hyperparameters to the search space."""
        super().update_space(hyperparameters)

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Return up to `num_trials` completed trials, the best first.

        Unlike KerasTuner's, never one that is infeasible, failed or unfinished.
        """
        return best_first(self.trials.values(), self.objective)[:num_trials]

    def save(self) -> None:
        """Do nothing: every trial is on disk from the moment it is handed out."""

    def remaining_trials(self) -> int:
        """Return how many trials have not ended, or have failed and are to be run again."""
        if not self.hyperparameters.space:
            return self.max_trials
        ended = {
            int(trial_id)
            for trial_id, trial in self.trials.items()
            if has_ended(trial) and not self._queue.is_to_run_again(trial_id)
        }
        return len(set(range(self.num_points)) - ended)

    def retry_failed_trials(self) -> None:
        """Have the trials that failed run once more, after all others; infeasible ones stay."""
        with self.lock:
            self.failure = None
            failed = [i for i, trial in self.trials.items() if has_failed(trial)]
            self._queue.run_again(i for i in failed if int(i) < self.max_trials)

    def use_leases(self) -> None:
        """Take a trial from a worker that is silent for too long, from now on."""
        self._leases = Leases(self.lease_seconds)

    def hold(self, trial_id: str, tuner_id: str) -> bool:
        """Note that a worker is alive; return whether the trial is still its own."""
        with self.lock:
            self._hear(tuner_id)
            trial = self.trials.get(trial_id)
            if trial is None:
                return False
            if tuner_id not in self.ongoing_trials and self._queue.take_back(trial_id):
                self.ongoing_trials[tuner_id] = trial
                self.tuner_ids.add(tuner_id)
                trial.tuner_id = tuner_id
                self._write_trial(trial)
            return self.ongoing_trials.get(tuner_id) is trial

    def wait_for_news(self, timeout: float) -> bool:
        """Wait until a trial ends or a worker leaves; return whether the search is over."""
        with self.lock:
            if not self._is_over():
                self._news.wait(timeout)
            return self._is_over()

    def _is_over(self) -> bool:
        """Whether there is nothing to run, and no worker that could ask for it."""
        self._take_from_silent()
        is_done = self.failure is not None or not self.remaining_trials()
        return is_done and not self.ongoing_trials and not self.tuner_ids

    def _begin_with(self, trials: Mapping[str, StudyTrial]) -> None:
        """Take over the trials on disk; those that run are their workers' for one more lease."""
        self.trials = dict(trials)
        self.start_order = list(self.trials)
        self.end_order = [i for i, trial in self.trials.items() if has_ended(trial)]
        open_trials = {
            i: trial
            for i, trial in self.trials.items()
            if not has_ended(trial) and int(i) < self.max_trials
        }
        self.ongoing_trials: dict[str, StudyTrial] = {}
        if self._leases is not None:
            for trial in open_trials.values():
                if trial.tuner_id is not None:
                    self.ongoing_trials.setdefault(trial.tuner_id, trial)
                    self.tuner_ids.add(trial.tuner_id)
                    self._leases.hear(trial.tuner_id)
        held = {trial.trial_id for trial in self.ongoing_trials.values()}
        self._queue = TrialQueue(self.trials, (i for i in open_trials if i not in held))

    def _next_trial(self) -> StudyTrial | None:
        if (trial_id := self._queue.take_interrupted()) is not None:
            return self.trials[trial_id]
        if (trial_id := self._queue.take_new(self.num_points)) is not None:
            trial = StudyTrial(self.get_space(), trial_id=trial_id)
            try:
                trial.hyperparameters.values = self.populate_space(trial_id)["values"]
            except BaseException:
                self._queue.give_back(trial_id)
                raise
            self.trials[trial_id] = trial
            self.start_order.append(trial_id)
            return trial
        if (trial_id := self._queue.take_again()) is not None:
            self.end_order.remove(trial_id)
            return self.trials[trial_id]
        return None

    def _no_trial(self, tuner_id: str) -> Trial:
        is_waiting = self._leases is not None and self.failure is None and self.ongoing_trials
        if is_waiting:
            return Trial(self.get_space(), trial_id="", status=TrialStatus.IDLE)
        self.ongoing_trials.pop(tuner_id, None)
        self.tuner_ids.discard(tuner_id)
        self._news.notify_all()
        return Trial(self.get_space(), trial_id="", status=TrialStatus.STOPPED)

    def _is_held(self, trial: Trial, tuner_id: str | None) -> bool:
        """Whether the trial runs, and by whom it is said to if that is known."""
        if tuner_id is not None:
            return self.hold(trial.trial_id, tuner_id)
        return any(ongoing is trial for ongoing in self.ongoing_trials.values())

    def _hear(self, tuner_id: str) -> None:
        if self._leases is not None:
            self._leases.hear(tuner_id)
            self._take_from_silent()

    def _take_from_silent(self) -> None:
        if self._leases is None:
            return
        for tuner_id in self._leases.silent():
            self._leases.forget(tuner_id)
            self.tuner_ids.discard(tuner_id)
            trial = self.ongoing_trials.pop(tuner_id, None)
            if trial is not None:
                trial.tuner_id = None
                self._queue.put_back(trial.trial_id)
                self._write_trial(trial)

    def _write_trial(self, trial: Trial) -> None:
        folder = trial_folder(_keras_tuner.project_directory(self), trial.trial_id)
        folder.mkdir(exist_ok=True)
        # Twice in every trial, and the space is the most of it.
        replace_json(folder / FILE_NAME, trial.get_state(), indent=None)

    def _count_failures(self, trial: Trial) -> None:
        self._failures_in_a_row = self._failures_in_a_row + 1 if has_failed(trial) else 0
        if self._failures_in_a_row == self.max_consecutive_failed_trials:
            self._failures_in_a_row = 0
            failed = [self.trials[i] for i in self.end_order[-self.max_consecutive_failed_trials :]]
            self.failure = failure_report(f"{len(failed)} trials in a row failed", failed)
            if self._leases is None:
                raise RuntimeError(self.failure)
