"""`QuasiRandomOracle`: a KerasTuner oracle that suggests the points of a Halton sequence."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras_tuner as kt

from tfplaybook import _keras_tuner
from tfplaybook._arguments import check_count, check_number
from tfplaybook._keras_tuner import Fixed, SearchSpace, Trial, TrialStatus
from tfplaybook.search._definition import (
    defined_space,
    late_hyperparameters,
    points_of,
    with_enqueued,
)
from tfplaybook.search._halton import check_seed
from tfplaybook.search._identity import refuse_ambiguous_names
from tfplaybook.search._objective import resolve_objective
from tfplaybook.search._outcome import best_first, has_ended, has_failed
from tfplaybook.search._roles import Roles
from tfplaybook.search._sequence import Point, PointSequence
from tfplaybook.search._study_file import StudyFile, read_study_file, refuse_other_project
from tfplaybook.search._study_oracle import StudyOracle
from tfplaybook.search._study_trial import read_trials
from tfplaybook.search._values import Value


class QuasiRandomOracle(StudyOracle):
    """Suggest the points of a scrambled Halton sequence.

    Trial i has the point `start_index + i`: its values are a function of the seed, that index and
    the place of each hyperparameter in the search space, and of nothing that happened before. A
    search that is interrupted, extended or repeated meets the same points. A space of at most
    10,000 configurations is enumerated: each comes once, and then the search ends.

    A trial whose objective is NaN, infinite or absurdly large is *infeasible*: it is kept with its
    message, never run again, and the search goes on. A trial that raised an exception has failed;
    `max_consecutive_failed_trials` of them in a row end the search. The next search runs failed
    trials again, each at its own point, after all others.

    Use it as `tfplaybook.search.QuasiRandomSearch`, or in any `keras_tuner.Tuner`. The search
    space has to be complete before trial 0: hyperparameters belong into `HyperModel.build`, or
    into `hyperparameters`. One that exists for some values of another only is declared under
    `conditional_scope` or with `parent_name`; another of the same name, with a range of its own,
    may exist for other values (C4).

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
        roles: What each hyperparameter is for. Fixed ones get their values, and scientific ones
            are sampled uniformly (C5).
        hyperparameters: Search space to declare in advance or to override with.
        tune_new_entries: Whether hyperparameters that the hypermodel declares beyond
            `hyperparameters` are searched; otherwise they keep their defaults.
        allow_new_entries: Whether the hypermodel may declare such hyperparameters at all.
        divergence_threshold: Magnitude, above 0, from which on a finite objective counts as
            diverged.
        max_retries_per_trial: How often, at least 0, a search runs a trial that failed once more.
        max_consecutive_failed_trials: After how many failed trials in a row the search stops with
            the last traceback; None for never. Infeasible trials do not count.
        lease_seconds: In a search of many processes, for how many seconds, above 0, a worker may be
            silent before its trial is given to another.
        goal: What the study is to find out (B2); kept in `study.json`.
        note: Free text; kept in `study.json`.

    Raises:
        ValueError: An argument is outside its range, the objective's direction is not known, or
            two hyperparameters of one name may exist in the same trial.

    Source: playbook C4, G1, G2, D3.
    """

    def __init__(
        self,
        objective: str | kt.Objective | None = None,
        max_trials: int = 10,
        *,
        seed: int = 0,
        start_index: int = 0,
        roles: Roles | None = None,
        hyperparameters: kt.HyperParameters | None = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        divergence_threshold: float = 1e30,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = 3,
        lease_seconds: float = 60.0,
        goal: str = "",
        note: str = "",
    ):
        if max_consecutive_failed_trials is not None:
            check_count("max_consecutive_failed_trials", max_consecutive_failed_trials, minimum=1)
        seed = check_seed(seed)
        _check_type("roles", roles, Roles)
        _check_type("hyperparameters", hyperparameters, kt.HyperParameters)
        super().__init__(
            objective=resolve_objective(objective),
            max_trials=check_count("max_trials", max_trials, minimum=1),
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            # The base class replaces 0 with a number drawn from the global generator.
            seed=seed or 1,
            max_retries_per_trial=check_count(
                "max_retries_per_trial", max_retries_per_trial, minimum=0
            ),
            max_consecutive_failed_trials=max_consecutive_failed_trials,
            divergence_threshold=check_number(
                "divergence_threshold", divergence_threshold, above=0.0
            ),
            lease_seconds=check_number("lease_seconds", lease_seconds, above=0.0),
        )
        self.seed = seed
        self.start_index = check_count("start_index", start_index, minimum=0)
        self.roles = roles
        self.executions_per_trial = 1
        self.goal = goal
        self.note = note
        refuse_ambiguous_names(self.hyperparameters.space)
        self._given_in_advance = {h.name for h in self.hyperparameters.space}
        self._study: StudyFile | None = None
        self._begun = False
        self._sequence: PointSequence | None = None
        self._enqueued: dict[str, Point] = {}

    @property
    def num_points(self) -> int:
        """How many trials the search can have: `max_trials`, or fewer in a small space."""
        return self._points().length(at_most=self.max_trials)

    def point(self, index: int) -> dict[str, Value]:
        """Return the values of the hyperparameters that are active at trial `index`.

        Raises:
            ValueError: The space is enumerated, and has no point of this index.
        """
        point = self._points().point(check_count("index", index, minimum=0))
        if point is None:
            raise ValueError(
                f"`index` must be below {self._points().length(at_most=index)}: all configurations "
                f"of the search space are met by then. Received: {index}."
            )
        return dict(point)

    def enqueue(self, values: Mapping[str, Value]) -> None:
        """Have a trial with these values run next, before the other points.

        It is one of the `max_trials`, takes the values that are not given from its own point of
        the sequence, and moves no other trial. The study remembers it: to enqueue the same values
        again, when a script is run again, does nothing.

        Args:
            values: Values of hyperparameters by name; the names that `hp.get` takes.

        Raises:
            ValueError: A name or a value is not in the search space, a hyperparameter does not
                exist beside the other values, or all trials are taken.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"`values` must be a dict from names to values. Received: {values!r}.")
        with self.lock:
            if not self.hyperparameters.space:
                raise ValueError(
                    "The search space is not known yet. Enqueue values once the tuner is made."
                )
            if values in self._enqueued.values():
                return
            number = self._queue.first_free(self._enqueued)
            study = with_enqueued(self._describe(), number, values)
            *_, given = study.enqueued.values()
            if given in self._enqueued.values():
                return
            if number >= self.max_trials:
                raise ValueError(
                    f"`max_trials` must be greater than {number} for another trial. Received: "
                    f"{self.max_trials}."
                )
            self._enqueued = study.enqueued
            self._sequence = None
            if self._study is not None:
                self._study = study
            if self._begun:
                study.write(_keras_tuner.project_directory(self))

    def get_space(self) -> SearchSpace:
        """Return a copy of the search space, in which no range can be declared in another way."""
        space = self.hyperparameters.copy()
        fixed = {h.name for h in space.space if self.roles is not None and isinstance(h, Fixed)}
        space.overrides = self._given_in_advance | fixed
        return space

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the point of a trial in the form that KerasTuner asks for."""
        return {"status": TrialStatus.RUNNING, "values": self.point(int(trial_id))}

    def update_space(self, hyperparameters: kt.HyperParameters, found_in: str = "a trial") -> None:
        """Add hyperparameters to the search space, until the study has begun."""
        new = _keras_tuner.new_entries(self.hyperparameters, hyperparameters)
        if new and self._study and self.allow_new_entries and self.tune_new_entries:
            raise kt.errors.FatalValueError(late_hyperparameters(new, found_in))
        super().update_space(hyperparameters)
        if new:
            refuse_ambiguous_names(self.hyperparameters.space)
            self._sequence = None

    def reload(self) -> None:
        """Go on with the study in the project directory, if there is one, and with its space.

        KerasTuner calls this in place of asking the hypermodel for the space.
        """
        stored = read_study_file(_keras_tuner.project_directory(self))
        if stored is not None:
            self.update_space(stored.search_space())
        self.resume()

    def resume(self, *, retry_failed: bool = True) -> None:
        """Go on with the study in the project directory, if there is one.

        Args:
            retry_failed: Whether to run trials that failed once more.

        Raises:
            ValueError: It is not a study of these points, or one of its files is damaged.
        """
        with self.lock:
            directory = _keras_tuner.project_directory(self)
            stored = read_study_file(directory)
            if stored is None:
                refuse_other_project(directory)
                return
            asked = list(self._enqueued.values())
            self._freeze(self._describe().continued(stored))
            self._begin_with(read_trials(directory))
            for values in asked:
                self.enqueue(values)
            if retry_failed:
                self.retry_failed_trials()

    def join(self) -> None:
        """Take over the study that the chief has written, without a claim on its trials.

        Raises:
            ValueError: There is none, or it is not a study of these points.
        """
        directory = _keras_tuner.project_directory(self)
        stored = read_study_file(directory)
        if stored is None:
            raise ValueError(
                f"Chief and workers must share the project directory. {directory} of this worker "
                "holds no study.json, although the chief is there. Give all of them the same "
                "`directory` on a file system that they share, and the same `project_name`."
            )
        self._freeze(self._describe().continued(stored))

    def best_on_disk(self, num_trials: int) -> list[Trial]:
        """Return up to `num_trials` completed trials as their files have them, the best first."""
        trials = read_trials(_keras_tuner.project_directory(self))
        return best_first(trials.values(), self.objective)[:num_trials]

    def remaining_on_disk(self) -> int:
        """Return how many trials the files give no outcome, or one that is to be run again."""
        done = {
            int(trial_id)
            for trial_id, trial in read_trials(_keras_tuner.project_directory(self)).items()
            if has_ended(trial) and not has_failed(trial)
        }
        return len(set(range(self.num_points)) - done)

    def begin(self) -> None:
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
        if self._study is None:
            self._freeze(self._describe())
        self._describe().write(_keras_tuner.project_directory(self))
        self._begun = True

    def _describe(self) -> StudyFile:
        if self._study is not None:
            return dataclasses.replace(self._study, max_trials=self.max_trials)
        return StudyFile(
            objective={"name": self.objective.name, "direction": self.objective.direction},
            seed=self.seed,
            start_index=self.start_index,
            max_trials=self.max_trials,
            executions_per_trial=self.executions_per_trial,
            goal=self.goal,
            note=self.note,
            enqueued=self._enqueued,
            **defined_space(self.hyperparameters, self.roles),
        )

    def _freeze(self, study: StudyFile) -> None:
        """Take over what a study has decided, its space as well."""
        self._study, self._enqueued = study, study.enqueued
        self.hyperparameters = study.search_space()
        self._sequence = None

    def _points(self) -> PointSequence:
        self._sequence = self._sequence or points_of(self._describe())
        return self._sequence


def _check_type(name: str, value: Any, wanted: type) -> None:
    if value is not None and not isinstance(value, wanted):
        raise ValueError(f"`{name}` must be a `{wanted.__name__}` or None. Received: {value!r}.")
