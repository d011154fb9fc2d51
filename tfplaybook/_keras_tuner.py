"""The only place that touches private parts of KerasTuner.

Checked on keras-tuner 1.4.8. `tests/search/test_keras_tuner.py` fails with the name of the part
when a version has lost one. What is public, but whose path has moved between versions, is imported
here too.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt
from keras_tuner.engine.hyperparameters import Boolean as Boolean
from keras_tuner.engine.hyperparameters import Choice as Choice
from keras_tuner.engine.hyperparameters import Fixed as Fixed
from keras_tuner.engine.hyperparameters import Float as Float
from keras_tuner.engine.hyperparameters import HyperParameter as HyperParameter
from keras_tuner.engine.hyperparameters import Int as Int
from keras_tuner.engine.trial import Trial as Trial
from keras_tuner.engine.trial import TrialStatus as TrialStatus
from keras_tuner.src import config
from keras_tuner.src.engine import tuner_utils

PRIVATE_PARTS: tuple[tuple[Any, str], ...] = (
    (kt.Oracle, "_project_dir"),
    (kt.HyperParameters, "_exists"),
    (kt.Tuner, "_build_and_fit_model"),
    (kt.Tuner, "_build_hypermodel"),
    (kt.Tuner, "_configure_tensorboard_dir"),
    (kt.Tuner, "_get_checkpoint_fname"),
    (kt.Tuner, "_populate_initial_space"),
    (config, "DEBUG"),
    (tuner_utils, "SaveBestEpoch"),
    (tuner_utils, "TunerCallback"),
)


def project_directory(oracle: kt.Oracle) -> Path:
    """Return the directory of the oracle's project; it exists."""
    return Path(oracle._project_dir)


def new_entries(known: kt.HyperParameters, declared: kt.HyperParameters) -> list[str]:
    """Return the names of the hyperparameters in `declared` that `known` lacks."""
    return [hp.name for hp in declared.space if not known._exists(hp.name, hp.conditions)]


def show_begin(oracle: kt.Oracle, trial: Trial) -> None:
    """Print KerasTuner's table of a trial that begins, if the oracle is verbose."""
    oracle._display.on_trial_begin(trial)


def show_end(oracle: kt.Oracle, trial: Trial) -> None:
    """Print KerasTuner's summary of a trial that ended, if the oracle is verbose."""
    if trial.trial_id in oracle._display.trial_start:
        oracle._display.on_trial_end(trial)


@contextlib.contextmanager
def without_tracebacks() -> Iterator[None]:
    """Keep KerasTuner from printing the traceback of every trial that fails."""
    before = config.DEBUG
    config.DEBUG = False
    try:
        yield
    finally:
        config.DEBUG = before


class ExecutionTuner(kt.Tuner):
    """A `kt.Tuner` whose executions run one by one under the control of a subclass."""

    _execution_seed: int | None = None

    def check_built(self, model: Any) -> None:
        """Raise if `model`, which the hypermodel returned for the default values, is unfit."""

    def populate_space(self) -> None:
        """Ask the hypermodel for the search space, and check the models that it builds."""
        self._populate_initial_space()

    def _populate_initial_space(self) -> None:
        if self.hypermodel is None:
            return
        build = self.hypermodel.build

        def checked(hp: kt.HyperParameters) -> keras.Model:
            model = build(hp)
            self.check_built(model)
            return model

        self.hypermodel.build = checked
        try:
            super()._populate_initial_space()
        finally:
            self.hypermodel.build = build

    def best_epoch_checkpoint(self, trial: Trial) -> keras.callbacks.Callback:
        """Return the callback that keeps the weights which `load_model` reads."""
        return tuner_utils.SaveBestEpoch(
            objective=self.oracle.objective, filepath=self._get_checkpoint_fname(trial.trial_id)
        )

    def execute(
        self,
        trial: Trial,
        execution: int,
        *args: Any,
        seed: int,
        callbacks: list[keras.callbacks.Callback],
        **kwargs: Any,
    ) -> Any:
        """Build the trial's model from `seed` and fit it; returns what `HyperModel.fit` does."""
        self._configure_tensorboard_dir(callbacks, trial, execution)
        callbacks.append(tuner_utils.TunerCallback(self, trial))
        self._execution_seed = seed
        try:
            return self._build_and_fit_model(trial, *args, callbacks=callbacks, **kwargs)
        finally:
            self._execution_seed = None

    def _build_hypermodel(self, hp: kt.HyperParameters) -> keras.Model:
        # Here, since KerasTuner clears the session just before, and the Keras seed with it.
        if self._execution_seed is not None:
            keras.utils.set_random_seed(self._execution_seed)
        model = super()._build_hypermodel(hp)
        # Ahead of training, so that a hyperparameter which came too late costs no trial.
        self.oracle.update_space(hp)
        return model
