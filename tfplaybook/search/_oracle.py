"""`QuasiRandomOracle`: a KerasTuner oracle that suggests the points of a Halton sequence.

KerasTuner's own bookkeeping rewrites one file with the whole search at every event, counts trials
to name them, and stops for good after three NaNs. This oracle keeps one small file per trial,
replaced by rename, and can tell everything else from (seed, index).
"""

import json
import math
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import keras_tuner as kt

from tfplaybook import _keras_tuner
from tfplaybook._arguments import check_count
from tfplaybook._files import replace_json
from tfplaybook._keras_tuner import Fixed, Trial, TrialStatus
from tfplaybook.search._halton import check_seed, dimension_of, halton, prime
from tfplaybook.search._objective import resolve_objective, unknown_objective
from tfplaybook.search._outcome import failure_report, has_failed, is_infeasible, read_trials
from tfplaybook.search._study_file import StudyFile, read_study_file, refuse_other_project
from tfplaybook.search._trial_files import FILE_NAME, INFEASIBLE, trial_folder
from tfplaybook.search._values import Value, value_at


class QuasiRandomOracle(kt.Oracle):
    """Suggest the points of a scrambled Halton sequence.

    Trial i has the point `start_index + i`: its values are a function of the seed, that index and
    the place of each hyperparameter in the search space, and of nothing that happened before. A
    search that is interrupted, extended or repeated meets the same points.

    A trial whose objective is NaN or infinite is *infeasible*: it is kept with its message, never
    run again, and the search goes on. A trial that raised an exception has failed;
    `max_consecutive_failed_trials` of them in a row end the search. The next search runs failed
    trials again, each at its own point, after all others.

    Use it as `tfplaybook.search.QuasiRandomSearch`, or in any `keras_tuner.Tuner`. The search
    space has to be complete before trial 0: hyperparameters belong into `HyperModel.build` (under
    `conditional_scope` or `parent_name` if they exist for some values of another only), or into
    `hyperparameters`.

    Examples:
        >>> import keras_tuner as kt, tfplaybook as pb
        >>> space = kt.HyperParameters()
        >>> _ = space.Boolean("nesterov")
        >>> _ = space.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        >>> oracle = pb.search.QuasiRandomOracle("val_loss", max_trials=8, hyperparameters=space)
        >>> sum(oracle.point(i)["nesterov"] for i in range(8))
        4

    Args:
        objective: The metric to optimize, or a `keras_tuner.Objective` to say its direction. None
            when `run_trial` or `HyperModel.fit` returns a single number to minimize.
        max_trials: Number of trials, at least 1.
        seed: Seed of the points, from 0 to 2^63 - 1.
        start_index: Place of trial 0 in the sequence. A later round can go on where an earlier one
            with the same space stopped.
        hyperparameters: Search space to declare in advance or to override with.
        tune_new_entries: Whether hyperparameters that the hypermodel declares beyond
            `hyperparameters` are searched; otherwise they keep their defaults.
        allow_new_entries: Whether the hypermodel may declare such hyperparameters at all.
        max_consecutive_failed_trials: After how many failed trials in a row the search stops with
            the last traceback; None for never. Infeasible trials do not count.
        goal: What the study is to find out (B2); kept in `study.json`.
        note: Free text; kept in `study.json`.

    Raises:
        ValueError: An argument is outside its range, or the objective's direction is not known.
        NotImplementedError: A hyperparameter is declared under two different parents.

    Source: playbook G1, G2, D3.
    """

    def __init__(
        self,
        objective: str | kt.Objective | None = None,
        max_trials: int = 10,
        *,
        seed: int = 0,
        start_index: int = 0,
        hyperparameters: kt.HyperParameters | None = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_consecutive_failed_trials: int | None = 3,
        goal: str = "",
        note: str = "",
    ):
        if max_consecutive_failed_trials is not None:
            check_count("max_consecutive_failed_trials", max_consecutive_failed_trials, minimum=1)
        seed = check_seed(seed)
        super().__init__(
            objective=resolve_objective(objective),
            max_trials=check_count("max_trials", max_trials, minimum=1),
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            # The base class replaces 0 with a number drawn from the global generator.
            seed=seed or 1,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self.seed = seed
        self.start_index = check_count("start_index", start_index, minimum=0)
        self.executions_per_trial = 1
        self.goal = goal
        self.note = note
        self._study: StudyFile | None = None
        self._begun = False
        self._interrupted: deque[str] = deque()
        self._to_retry: deque[str] = deque()
        self._failures_in_a_row = 0
        # Not KerasTuner's `synchronized`, which stays locked after an exception.
        self._lock = threading.RLock()
        _refuse_repeated_names(self.hyperparameters)

    def point(self, index: int) -> dict[str, Value]:
        """Return the values of the hyperparameters that are active at trial `index`."""
        primes = self._primes()
        dimensions = [dimension_of(base) for base in primes.values()]
        coordinates = halton(self.start_index + index, dimensions, seed=self.seed)[0].tolist()
        coordinate_of = dict(zip(primes, coordinates, strict=True))
        point = kt.HyperParameters()
        for hyperparameter in self.hyperparameters.space:
            point.merge([hyperparameter])
            if point.is_active(hyperparameter):
                name = hyperparameter.name
                point.values[name] = value_at(hyperparameter, coordinate_of.get(name, 0.0))
        return point.values

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the point of a trial in the form that KerasTuner asks for."""
        return {"status": TrialStatus.RUNNING, "values": self.point(int(trial_id))}

    def update_space(self, hyperparameters: kt.HyperParameters) -> None:
        """Add hyperparameters to the search space, until the study has begun."""
        new = _keras_tuner.new_entries(self.hyperparameters, hyperparameters)
        if new and self._study and self.allow_new_entries and self.tune_new_entries:
            raise kt.errors.FatalValueError(
                f"The search space must be complete before trial 0. Received {new} later. Declare "
                "every hyperparameter in every call of `HyperModel.build`, not in `fit` and not "
                "behind an `if` or in a loop that depends on another one. One that exists for some "
                'values of another says so: `hp.Int("units_1", 4, 64, parent_name="layers", '
                "parent_values=[2, 3])`, or `hp.conditional_scope`. Then start afresh with a new "
                "`project_name` or `overwrite=True`."
            )
        super().update_space(hyperparameters)
        _refuse_repeated_names(self.hyperparameters)

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial to run, or one with status STOPPED when there is none."""
        with self._lock:
            self._begin()
            self.tuner_ids.add(tuner_id)
            if tuner_id in self.ongoing_trials:
                trial = self.ongoing_trials[tuner_id]
            elif self._interrupted:
                trial = self.trials[self._interrupted.popleft()]
            elif (trial_id := self._new_trial_id()) is not None:
                trial = Trial(self.get_space(), trial_id=trial_id)
                trial.hyperparameters.values = self.populate_space(trial_id)["values"]
                self.trials[trial_id] = trial
                self.start_order.append(trial_id)
            elif self._to_retry:
                # Last, so that trials which fail each time do not keep a search from the others.
                trial = self.trials[self._to_retry.popleft()]
                self.end_order.remove(trial.trial_id)
            else:
                self.tuner_ids.discard(tuner_id)
                return Trial(self.get_space(), trial_id="", status=TrialStatus.STOPPED)

            # A trial that is run again starts from nothing; KerasTuner refuses to report a metric
            # twice.
            trial.status, trial.message, trial.score = TrialStatus.RUNNING, None, None
            trial.metrics = type(trial.metrics)()
            self._write_trial(trial)
            self.ongoing_trials[tuner_id] = trial
            _keras_tuner.show_begin(self, trial)
            return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Record the metrics of a trial; a non-finite objective makes it infeasible."""
        with self._lock:
            trial = self.trials[trial_id]
            name = self.objective.name
            if name not in metrics:
                raise kt.errors.FatalValueError(unknown_objective(self.objective, set(metrics)))
            for metric, value in metrics.items():
                if math.isfinite(value):
                    if not trial.metrics.exists(metric):
                        direction = self.objective.direction if metric == name else None
                        trial.metrics.register(metric, direction=direction)
                    trial.metrics.update(metric, value, step=step)
            if not math.isfinite(metrics[name]) and not is_infeasible(trial):
                trial.message = f"{INFEASIBLE} {name} was {float(metrics[name])}"
            return trial

    def end_trial(self, trial: Trial) -> None:
        """Record how a trial ended, and stop the search if too many failed in a row."""
        with self._lock:
            # In a search of many processes, `trial` is a copy.
            ended = self.trials[trial.trial_id]
            ended.hyperparameters = trial.hyperparameters
            ended.status, ended.message = trial.status, trial.message or ended.message
            self.update_space(trial.hyperparameters)
            if ended.status == TrialStatus.COMPLETED and is_infeasible(ended):
                ended.status = TrialStatus.FAILED
            elif ended.status == TrialStatus.COMPLETED:
                self.score_trial(ended)
            else:
                ended.status = TrialStatus.FAILED
            self._write_trial(ended)
            self.end_order.append(ended.trial_id)
            for tuner_id, ongoing in list(self.ongoing_trials.items()):
                if ongoing is ended:
                    del self.ongoing_trials[tuner_id]
            _keras_tuner.show_end(self, ended)
            self._count_failures(ended)

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Return up to `num_trials` completed trials, the best first.

        Unlike KerasTuner's, never one that is infeasible, failed or unfinished.
        """
        completed = [t for t in self.trials.values() if t.status == TrialStatus.COMPLETED]
        sign = -1.0 if self.objective.direction == "max" else 1.0
        completed.sort(key=lambda trial: (sign * trial.score, int(trial.trial_id)))
        return completed[:num_trials]

    def save(self) -> None:
        """Do nothing: every trial is on disk from the moment it is handed out."""

    def remaining_trials(self) -> int:
        """Return how many trials have not ended, or have failed and are to be run again."""
        return len(set(range(self.max_trials)) - self._ended())

    def retry_failed_trials(self) -> None:
        """Have the trials that failed run once more, after all others; infeasible ones stay."""
        with self._lock:
            failed = [i for i, trial in self.trials.items() if has_failed(trial)]
            self._to_retry = deque(i for i in failed if int(i) < self.max_trials)

    def reload(self) -> None:
        """Go on with the study in the project directory, if there is one, and with its space.

        KerasTuner calls this in place of asking the hypermodel for the space.
        """
        stored = read_study_file(_keras_tuner.project_directory(self))
        if stored is not None:
            config = json.loads(json.dumps({"space": stored.space, "values": {}}))
            self.update_space(kt.HyperParameters.from_config(config))
        self.resume()

    def resume(self) -> None:
        """Go on with the study in the project directory, if there is one.

        Raises:
            ValueError: It is not a study of these points, or one of its files is damaged.
        """
        with self._lock:
            directory = _keras_tuner.project_directory(self)
            stored = read_study_file(directory)
            if stored is None:
                refuse_other_project(directory)
                return
            self._study = self._describe().continued(stored)
            self.trials = read_trials(directory)
            self.start_order = list(self.trials)
            self.retry_failed_trials()
            ended = (TrialStatus.COMPLETED, TrialStatus.FAILED)
            self.end_order = [i for i, trial in self.trials.items() if trial.status in ended]
            self._interrupted = deque(
                i for i in self.trials if i not in self.end_order and int(i) < self.max_trials
            )

    def _ended(self) -> set[int]:
        return {
            int(trial_id)
            for trial_id, trial in self.trials.items()
            if trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)
            and trial_id not in self._to_retry
        }

    def _begin(self) -> None:
        """Go on with the study on disk, or start one with the search space as it is now."""
        if self._begun:
            return
        if self._study is None:
            self.resume()
        if not self.hyperparameters.space:
            raise ValueError(
                "The search space is empty. Declare hyperparameters in the function that builds "
                'the model, such as `hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")`, or '
                "pass `hyperparameters`."
            )
        self._study = self._study or self._describe()
        self._study.write(_keras_tuner.project_directory(self))
        self._begun = True

    def _describe(self) -> StudyFile:
        return StudyFile(
            objective={"name": self.objective.name, "direction": self.objective.direction},
            seed=self.seed,
            start_index=self.start_index,
            max_trials=self.max_trials,
            executions_per_trial=self.executions_per_trial,
            space=json.loads(json.dumps(self.hyperparameters.get_config()["space"])),
            primes=self._primes(),
            goal=self.goal,
            note=self.note,
        )

    def _primes(self) -> dict[str, int]:
        if self._study:
            return self._study.primes
        varied = [hp.name for hp in self.hyperparameters.space if not isinstance(hp, Fixed)]
        return {name: prime(number) for number, name in enumerate(varied)}

    def _new_trial_id(self) -> str | None:
        # By index and not by count: a trial whose folder was deleted leaves a hole, filled here.
        used = {int(trial_id) for trial_id in self.trials}
        free = (index for index in range(self.max_trials) if index not in used)
        index = next(free, None)
        return None if index is None else f"{index:04d}"

    def _write_trial(self, trial: Trial) -> None:
        folder = trial_folder(_keras_tuner.project_directory(self), trial.trial_id)
        folder.mkdir(exist_ok=True)
        replace_json(folder / FILE_NAME, trial.get_state())

    def _count_failures(self, trial: Trial) -> None:
        self._failures_in_a_row = self._failures_in_a_row + 1 if has_failed(trial) else 0
        if self._failures_in_a_row == self.max_consecutive_failed_trials:
            self._failures_in_a_row = 0
            failed = [self.trials[i] for i in self.end_order[-self.max_consecutive_failed_trials :]]
            raise RuntimeError(failure_report(f"{len(failed)} trials in a row failed", failed))


def _refuse_repeated_names(hyperparameters: kt.HyperParameters) -> None:
    names = [hyperparameter.name for hyperparameter in hyperparameters.space]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise NotImplementedError(
            f"Hyperparameter names must be unique. Received {repeated} under several parents, "
            "which KerasTuner cannot tell apart. Name each one after its parent, such as "
            '"adam_learning_rate" and "sgd_learning_rate": they are different hyperparameters '
            "with ranges of their own (C4)."
        )
