"""`QuasiRandomSearch`: train a model at every point of a quasi-random sequence."""

import contextlib
import inspect
import math
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt
import numpy as np
import rich.console

from tfplaybook import _keras, _keras_tuner
from tfplaybook._arguments import check_count
from tfplaybook._keras_tuner import Trial
from tfplaybook.runs import RunRecorder
from tfplaybook.search._chief import read_marker, serve, write_marker
from tfplaybook.search._execution_callbacks import check_callbacks, copies_for
from tfplaybook.search._objective import unknown_objective
from tfplaybook.search._objective_history import ObjectiveHistory
from tfplaybook.search._oracle import QuasiRandomOracle
from tfplaybook.search._outcome import failure_report, has_failed
from tfplaybook.search._progress import progress_line
from tfplaybook.search._roles import Roles
from tfplaybook.search._trial_files import INFEASIBLE, execution_folder, trial_folder
from tfplaybook.search._values import Value
from tfplaybook.search._worker import StopWhenLost, work, worker_client


class _PreemptedError(BaseException):
    """Ends a search as an interrupt does, and is no exception of a trial."""


class QuasiRandomSearch(_keras_tuner.ExecutionTuner):
    """Search hyperparameters by quasi-random points, and keep what every trial did.

    A `keras_tuner.Tuner` whose trials are those of `QuasiRandomOracle`. Each trial is trained
    `executions_per_trial` times; an execution scores the best value of the objective over its
    training, and the trial their mean. Run the script again and the search goes on where it was
    stopped, at the same points; what is finished is not run again.

    An execution leaves a run directory, `trial_<id>/execution_<k>/`, with its curves. It starts
    from a seed of its own, made of the study's seed, the index of the point and k, which is set
    with `keras.utils.set_random_seed` and written down. Training stops, and the trial is
    infeasible, as soon as the objective or the training loss of an epoch is NaN, infinite or
    absurdly large.

    Examples:
        >>> import tempfile, keras, numpy as np, tfplaybook as pb
        >>> def build_model(hp):
        ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        ...     learning_rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
        ...     model.compile(keras.optimizers.SGD(learning_rate), "mse")
        ...     return model
        >>> tuner = pb.search.QuasiRandomSearch(
        ...     build_model, objective="loss", max_trials=2, seed=0,
        ...     directory=tempfile.mkdtemp(), project_name="round1")
        >>> tuner.search(np.ones((8, 1)), np.ones(8), epochs=2, verbose=0)
        >>> len(tuner.get_best_hyperparameters(2))
        2

    Args:
        hypermodel: `keras_tuner.HyperModel`, or a function from `hp` to a compiled model. It
            declares every hyperparameter when it builds the model. With a `fit` of its own the
            model need not be compiled.
        objective: The metric to optimize, or a `keras_tuner.Objective` to say its direction.
        max_trials: Number of trials, at least 1.
        seed: Seed of the points and of the trainings, from 0 to 2^63 - 1.
        start_index: Place of trial 0 in the sequence.
        roles: What each hyperparameter is for (C1).
        executions_per_trial: Trainings per trial, at least 1.
        directory: Where projects are; made if missing.
        project_name: The folder of this study in `directory`.
        overwrite: Whether to delete the study that is there instead of going on with it. It is
            deleted when the hypermodel has built its first model. Of many processes the chief
            deletes it, when it does not start again within the same search.
        hyperparameters: Search space to declare in advance or to override with.
        tune_new_entries: Whether hyperparameters beyond `hyperparameters` are searched.
        allow_new_entries: Whether the hypermodel may declare such hyperparameters at all.
        divergence_threshold: Magnitude, above 0, from which on a finite objective or training loss
            counts as diverged.
        max_retries_per_trial: How often, at least 0, to run a trial that failed once more.
        max_consecutive_failed_trials: After how many exceptions in a row to stop; None for never.
            The next search runs failed trials again, after all others.
        lease_seconds: In a search of many processes, for how many seconds, above 0, a worker may be
            silent before its trial is given to another.
        goal: What the study is to find out (B2); kept in `study.json`.
        note: Free text; kept in `study.json`.
        **kwargs: Further arguments of `keras_tuner.Tuner`, such as `max_model_size`.

    Raises:
        ValueError: An argument is outside its range, the hypermodel builds no compiled model or
            declares no hyperparameter, two hyperparameters of one name may exist in the same
            trial, a role does not fit the space, or the project directory holds a study with other
            points, a project of another tuner or a damaged file.
        RuntimeError: Only some of KerasTuner's environment variables for many processes are set.

    Source: playbook C1, C4, G1, G2, D3, D11, J1.
    """

    def __init__(
        self,
        hypermodel: kt.HyperModel | Callable[[kt.HyperParameters], keras.Model] | None,
        *,
        objective: str | kt.Objective | None,
        max_trials: int,
        directory: str | os.PathLike[str],
        project_name: str,
        seed: int = 0,
        start_index: int = 0,
        roles: Roles | None = None,
        executions_per_trial: int = 1,
        overwrite: bool = False,
        hyperparameters: kt.HyperParameters | None = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        divergence_threshold: float = 1e30,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = 3,
        lease_seconds: float = 60.0,
        goal: str = "",
        note: str = "",
        **kwargs: Any,
    ):
        if hypermodel is not None or type(self).run_trial is QuasiRandomSearch.run_trial:
            _check_hypermodel(hypermodel)
        executions_per_trial = check_count("executions_per_trial", executions_per_trial, minimum=1)
        _check_directory(directory, project_name)
        oracle = self.make_oracle(
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            start_index=start_index,
            roles=roles,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            divergence_threshold=divergence_threshold,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
            lease_seconds=lease_seconds,
            goal=goal,
            note=note,
        )
        oracle.executions_per_trial = executions_per_trial
        self._progress: rich.console.Console | None = None
        self._fit_verbose = 0
        # A hypermodel with a `fit` of its own may train without `compile`, and KerasTuner compiles
        # when it is given an optimizer.
        self._wants_compiled = "optimizer" not in kwargs and (
            not isinstance(hypermodel, kt.HyperModel) or type(hypermodel).fit is kt.HyperModel.fit
        )
        super().__init__(
            oracle,
            hypermodel,
            directory=os.fspath(directory),
            project_name=project_name,
            # KerasTuner would delete what is there before the hypermodel is known to work.
            overwrite=False,
            executions_per_trial=executions_per_trial,
            **kwargs,
        )
        if not oracle.hyperparameters.space:
            raise ValueError(
                "The search space is empty: `hypermodel` declared no hyperparameter. Declare "
                'some, such as `hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")`.'
            )
        self._role = _keras_tuner.role()
        if self._role == "worker":
            self.oracle = worker_client(oracle, overwrites=overwrite)
            return
        project = _keras_tuner.project_directory(oracle)
        is_restart = self._role == "chief" and read_marker(project).is_of_this_search
        if overwrite and not is_restart:
            _empty(project)
        if self._role == "chief":
            oracle.use_leases()
        oracle.resume(retry_failed=not is_restart)
        if self._role == "chief":
            write_marker(project, has_ended=False)

    def search(self, *fit_args: Any, verbose: str | int = "auto", **fit_kwargs: Any) -> None:
        """Run the trials that the study lacks.

        Args:
            *fit_args: Passed to `HyperModel.fit`, that is to `model.fit`.
            verbose: "auto" prints one line per trial and trains silently; 0 prints nothing; 1 and
                2 print KerasTuner's tables and are passed on to `model.fit`.
            **fit_kwargs: Passed to `HyperModel.fit`. Callbacks are copied for each execution, so
                none may write into a directory of its own: the search records every execution.

        Raises:
            ValueError: The objective is not among the metrics that training reports, a callback
                cannot be used, or a hyperparameter appeared after trial 0.
            RuntimeError: Too many trials failed in a row, or all of them did.
        """
        if verbose not in ("auto", 0, 1, 2):
            raise ValueError(f'`verbose` must be "auto", 0, 1 or 2. Received: {verbose!r}.')
        check_callbacks(fit_kwargs.get("callbacks"))
        self._progress = rich.console.Console() if verbose == "auto" else None
        self._fit_verbose = 0 if verbose == "auto" else int(verbose)
        shown = contextlib.nullcontext() if self._fit_verbose else _keras_tuner.without_tracebacks()
        if self._role == "worker":
            with shown, contextlib.suppress(_PreemptedError):
                work(self.oracle, partial(super().search, *fit_args, **fit_kwargs))
            return
        self.oracle.verbose = self._fit_verbose
        if self._role == "alone":
            self.oracle.retry_failed_trials()
        if not self.remaining_trials:
            self._say(
                f"nothing to run: trials done: {len(self.oracle.end_order)}, max_trials: "
                f"{self.oracle.max_trials}; raise `max_trials` for more"
                if self.oracle.num_points == self.oracle.max_trials
                else self._exhausted()
            )
        had_trials = self.remaining_trials > 0
        if self._role == "chief":
            self.oracle.begin()
            serve(self.oracle, self._say_outcome)
        else:
            with shown, contextlib.suppress(_PreemptedError):
                super().search(*fit_args, **fit_kwargs)
        if (
            had_trials
            and not self.remaining_trials
            and self.oracle.num_points < self.oracle.max_trials
        ):
            self._say(self._exhausted())
        if self.oracle.failure is not None:
            raise RuntimeError(self.oracle.failure)
        trials = [self.oracle.trials[trial_id] for trial_id in self.oracle.end_order]
        if trials and all(map(has_failed, trials)):
            what = "Every trial failed" if len(trials) > 1 else "The only trial failed"
            raise RuntimeError(failure_report(what, trials))

    def make_oracle(self, **options: Any) -> QuasiRandomOracle:
        """Return the oracle with these options."""
        return QuasiRandomOracle(**options)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> list[Any] | dict[str, float]:
        """Train the model of a trial, once per execution, into run directories of their own."""
        callbacks = kwargs.pop("callbacks", None) or []
        # One for all executions: it keeps the best epoch among them.
        checkpoint = self.best_epoch_checkpoint(trial)
        if _accepts(self.hypermodel.fit, "verbose"):
            kwargs["verbose"] = self._fit_verbose
        results = []
        for execution in range(self.executions_per_trial):
            seed = self._seed(trial, execution)
            values = trial.hyperparameters.values
            watched = ObjectiveHistory(
                self.oracle.objective,
                divergence_threshold=self.oracle.divergence_threshold,
                values=values,
            )
            directory = self.run_directory(trial, execution)
            recorder = RunRecorder(directory, configuration=values, seed=seed)
            ours = [recorder, watched, checkpoint]
            if self._role == "worker":
                ours.append(StopWhenLost(self.oracle))
            with copies_for(callbacks, directory) as copied:
                result = self.execute(
                    trial,
                    execution,
                    *args,
                    seed=seed,
                    callbacks=[*copied, *ours],
                    **kwargs,
                )
            if any(getattr(callback, "preempted", False) for callback in copied):
                raise _PreemptedError
            if watched.divergence:
                trial.message = f"{INFEASIBLE} {watched.divergence}"
                return {self.oracle.objective.name: math.nan}
            if isinstance(result, keras.callbacks.History):
                if watched.metric_names:
                    result = watched.history()
                if self.oracle.objective.name not in result.history:
                    available = watched.metric_names or set(result.history)
                    raise kt.errors.FatalValueError(
                        unknown_objective(self.oracle.objective, available)
                    )
            results.append(result)
        return results

    def enqueue(self, values: Mapping[str, Value]) -> None:
        """Have a trial with these values run next: `QuasiRandomOracle.enqueue`.

        In a search of many processes that is the chief's, and a worker passes over it.

        Raises:
            ValueError: The values are not in the search space, or all trials are taken.
        """
        if self._role != "worker":
            self.oracle.enqueue(values)

    def run_directory(self, trial: Trial, execution: int) -> Path:
        """Return where an execution of a trial is recorded."""
        project = _keras_tuner.project_directory(self.oracle)
        return execution_folder(trial_folder(project, trial.trial_id), execution)

    def on_trial_end(self, trial: Trial) -> None:
        """Record how the trial ended, and say so."""
        super().on_trial_end(trial)
        if self._role == "alone":
            self._say_outcome(trial)

    def save(self) -> None:
        """Do nothing: the oracle's files hold the whole state."""

    def reload(self) -> None:
        """Ask the hypermodel for the space; `oracle.resume` compares it with what is there."""
        self.populate_space()

    def check_built(self, model: Any) -> None:
        """Raise unless the hypermodel has built a model that can be trained."""
        if model is None:
            raise ValueError(
                "`hypermodel` must return the model that it builds. Received: None. End the "
                "function with `return model`."
            )
        if self._wants_compiled or not isinstance(model, keras.Model):
            _keras.check_model(model, "`QuasiRandomSearch`")

    def _seed(self, trial: Trial, execution: int) -> int:
        index = self.oracle.start_index + int(trial.trial_id)
        sequence = np.random.SeedSequence(self.oracle.seed, spawn_key=(index, execution))
        return int(sequence.generate_state(1, np.uint32)[0])

    def _exhausted(self) -> str:
        count, asked = self.oracle.num_points, self.oracle.max_trials
        return f"all configurations of the search space are tried: {count} trials of {asked}"

    def _say_outcome(self, trial: Trial) -> None:
        self._say(progress_line(self.oracle, trial))

    def _say(self, line: str) -> None:
        if self._progress:
            self._progress.print(line, highlight=False, markup=False, soft_wrap=True)


def _accepts(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _check_hypermodel(hypermodel: Any) -> None:
    wanted = (
        "`hypermodel` must be a `keras_tuner.HyperModel` or a function from `hp` to a compiled "
        f"model. Received: {hypermodel!r}"
    )
    if hypermodel is None:
        raise ValueError(f"{wanted}. Only a subclass with its own `run_trial` can do without.")
    if isinstance(hypermodel, keras.Model):
        raise ValueError(f"{wanted}, a model. Pass the function that builds and compiles it.")
    if isinstance(hypermodel, type) and issubclass(hypermodel, kt.HyperModel):
        raise ValueError(f"{wanted}, a class. Pass an instance: `{hypermodel.__name__}()`.")
    if not isinstance(hypermodel, kt.HyperModel) and not callable(hypermodel):
        raise ValueError(f"{wanted}.")


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_directory(directory: str | os.PathLike[str], project_name: str) -> None:
    if not isinstance(directory, str | os.PathLike):
        raise ValueError(f"`directory` must be a path. Received: {directory!r}.")
    if "://" in os.fspath(directory):
        raise ValueError(
            f"`directory` must be a path of the local file system. Received: {directory!r}."
        )
    if not isinstance(project_name, str) or not project_name:
        raise ValueError(f"`project_name` must be a non-empty string. Received: {project_name!r}.")
    path = Path(directory) / project_name
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(
                f"`directory` and `project_name` must name a folder. {part} is a file."
            )
