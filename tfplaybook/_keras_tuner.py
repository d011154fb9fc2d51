"""The only place that touches private parts of KerasTuner.

Checked on keras-tuner 1.4.8. `tests/search/test_keras_tuner.py` fails with the name of the part
when a version has lost one. What is public, but whose path has moved between versions, is imported
here too.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import keras_tuner as kt
import numpy as np
from keras_tuner.engine.hyperparameters import Boolean as Boolean
from keras_tuner.engine.hyperparameters import Choice as Choice
from keras_tuner.engine.hyperparameters import Fixed as Fixed
from keras_tuner.engine.hyperparameters import Float as Float
from keras_tuner.engine.hyperparameters import HyperParameter as HyperParameter
from keras_tuner.engine.hyperparameters import Int as Int
from keras_tuner.engine.trial import Trial as Trial
from keras_tuner.engine.trial import TrialStatus as TrialStatus
from keras_tuner.src import config
from keras_tuner.src.distribute import utils as dist_utils
from keras_tuner.src.engine import tuner_utils

from tfplaybook import _keras, _keras_state

PRIVATE_PARTS: tuple[tuple[Any, str], ...] = (
    (kt.Oracle, "_project_dir"),
    (kt.HyperParameters, "_exists"),
    (kt.HyperParameters, "_retrieve"),
    (kt.HyperParameters, "ensure_active_values"),
    (kt.HyperParameters, "to_proto"),
    (kt.Tuner, "_activate_all_conditions"),
    (kt.Tuner, "_build_and_fit_model"),
    (kt.Tuner, "_build_hypermodel"),
    (kt.Tuner, "_configure_tensorboard_dir"),
    (kt.Tuner, "_get_checkpoint_fname"),
    (kt.Tuner, "_populate_initial_space"),
    (config, "DEBUG"),
    (dist_utils, "has_chief_oracle"),
    (dist_utils, "is_chief_oracle"),
    (tuner_utils, "SaveBestEpoch"),
    (tuner_utils, "TunerCallback"),
)


class SearchSpace(kt.HyperParameters):
    """A `kt.HyperParameters` in which one name under different parents keeps its value.

    KerasTuner tells hyperparameters apart by name and conditions but keeps values by name. Its own
    `ensure_active_values` removes the value of a name when any hyperparameter of that name is
    inactive, or draws one from the global generator.

    Attributes:
        overrides: Names of hyperparameters that may be declared once more with another range, which
            then counts for nothing; None if all may, as in KerasTuner.
    """

    overrides: Collection[str] | None = None

    @classmethod
    def of(cls, hyperparameters: kt.HyperParameters) -> "SearchSpace":
        """Return a copy of `hyperparameters` as a search space.

        To declare another one in the copy leaves `hyperparameters` as they are.
        """
        # Every trial has a copy. KerasTuner's own goes through the configuration of each
        # hyperparameter, although none ever changes.
        copied = cls()
        copied._space = list(hyperparameters.space)
        copied._hps.update((name, list(found)) for name, found in hyperparameters._hps.items())
        copied.values = dict(hyperparameters.values)
        return copied

    def copy(self) -> "SearchSpace":
        """Return a search space with the same hyperparameters and values."""
        copied = SearchSpace.of(self)
        copied.overrides = self.overrides
        return copied

    def to_proto(self) -> Any:
        """Return the values as a message; who receives it has the space.

        KerasTuner's own message has the space too, and prints a value of each condition in it.
        """
        values = kt.HyperParameters()
        values.values = self.values
        return values.to_proto()

    def _retrieve(self, hp: HyperParameter) -> Any:
        if self.overrides is not None and hp.name not in self.overrides:
            for known in self._hps.get(hp.name, ()):
                if known.conditions == hp.conditions and _range_of(known) != _range_of(hp):
                    raise kt.errors.FatalValueError(
                        "The search space must be the same in every trial. Received: "
                        f"{_described(hp)}, which is {_described(known)} in this study. A range "
                        "that was changed asks for a new `project_name`, or `overwrite=True` to "
                        "delete what is there. One that depends on another hyperparameter is "
                        "declared for each value of that: `with hp.conditional_scope(...)`."
                    )
        return super()._retrieve(hp)

    def ensure_active_values(self) -> None:
        """Keep the values that active hyperparameters can take; others get their defaults."""
        before = self.values
        self.values: dict[str, Any] = {}
        for hyperparameter in self.space:
            if self.is_active(hyperparameter):
                value = before.get(hyperparameter.name)
                kept = value is not None and _can_take(hyperparameter, value)
                self.values[hyperparameter.name] = value if kept else hyperparameter.default


def explore(
    build: Callable[[kt.HyperParameters], Any],
    get_space: Callable[[], kt.HyperParameters],
    update_space: Callable[[kt.HyperParameters], None],
) -> None:
    """Build once within each conditional scope, so that all hyperparameters become known.

    KerasTuner's own way draws random values and never ends when a scope cannot be reached.
    """
    seen: list[list[Any]] = [[]]
    waiting: list[list[Any]] = [[]]
    while waiting:
        scope = waiting.pop(0)
        hp = get_space()
        hp.ensure_active_values()
        if not all(_activate(hp, condition) for condition in scope):
            continue
        hp.ensure_active_values()
        build(hp)
        update_space(hp)
        for inner in (*hp.active_scopes, *hp.inactive_scopes):
            if inner not in seen:
                seen.append(inner)
                if inner in hp.inactive_scopes:
                    waiting.append(inner)


def _activate(hp: kt.HyperParameters, condition: Any) -> bool:
    """Give the condition's parent, and the parents of that, a value under which it holds."""
    if condition.is_active(hp.values):
        return True
    parents = [parent for parent in hp.space if parent.name == condition.name]
    for parent in sorted(parents, key=lambda parent: not hp.is_active(parent)):
        possible = [value for value in condition.values if _can_take(parent, value)]
        if possible and all(_activate(hp, above) for above in parent.conditions):
            hp.values[condition.name] = possible[0]
            return True
    return False


def _range_of(hyperparameter: HyperParameter) -> dict[str, Any]:
    config = hyperparameter.get_config()
    kept = {name: config[name] for name in config.keys() - {"default", "conditions", "name"}}
    return {"type": type(hyperparameter).__name__, **kept}


def _described(hyperparameter: HyperParameter) -> str:
    config = hyperparameter.get_config()
    options = [
        f"{name}={value!r}"
        for name, value in config.items()
        if name in _range_of(hyperparameter) and value is not None
    ]
    return f"{type(hyperparameter).__name__}({', '.join([repr(config['name']), *options])})"


def _can_take(hyperparameter: HyperParameter, value: Any) -> bool:
    if isinstance(hyperparameter, Int | Float):
        return (
            isinstance(value, int | float)
            and hyperparameter.min_value <= value <= hyperparameter.max_value
        )
    if isinstance(hyperparameter, Fixed):
        return value == hyperparameter.value
    return not hasattr(hyperparameter, "values") or value in hyperparameter.values


class BestEpochWeights(tuner_utils.SaveBestEpoch, _keras.Callback):
    """Keep the weights of the best epoch, which `load_model` reads.

    A checkpoint of the training remembers how good they are, so that a training which goes on in
    the middle replaces them by better ones only.
    """

    free_arguments = frozenset({"objective", "filepath"})

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the best value so far."""
        return {"best_value": np.array(self.best_value, "float64")}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`."""
        self.best_value = float(state["best_value"])


def role() -> Literal["alone", "chief", "worker"]:
    """Return what KerasTuner's environment variables make of this process.

    Raises:
        RuntimeError: Some of them are set, and others that they need are not.
    """
    if not dist_utils.has_chief_oracle():
        return "alone"
    return "chief" if dist_utils.is_chief_oracle() else "worker"


def tuner_id() -> str:
    """Return the name of this process among the workers of a search."""
    return os.environ["KERASTUNER_TUNER_ID"]


def chief_address() -> str:
    """Return where the chief listens, as host and port."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


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
    _execution_trial: str | None = None

    def check_built(self, model: Any) -> None:
        """Raise if `model`, which the hypermodel returned for the default values, is unfit."""

    def populate_space(self) -> None:
        """Ask the hypermodel for the search space, and check the models that it builds."""
        self._populate_initial_space()

    def _activate_all_conditions(self) -> None:
        explore(self.hypermodel.build, self.oracle.get_space, self.oracle.update_space)

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
        return BestEpochWeights(
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
        self._execution_seed, self._execution_trial = seed, trial.trial_id
        try:
            return self._build_and_fit_model(trial, *args, callbacks=callbacks, **kwargs)
        finally:
            self._execution_seed = self._execution_trial = None

    def _build_hypermodel(self, hp: kt.HyperParameters) -> keras.Model:
        # Here, since KerasTuner clears the session just before, and the Keras seed with it.
        if self._execution_seed is not None:
            keras.utils.set_random_seed(self._execution_seed)
        model = super()._build_hypermodel(hp)
        # Ahead of training, so that a hyperparameter which came too late costs no trial.
        if self._execution_trial is not None:
            self.oracle.update_space(hp, found_in=f"`build` of trial {self._execution_trial}")
        elif model.built and getattr(model, "optimizer", None) is not None:
            # For `load_model`: Keras warns about the state of an optimizer that is not built.
            _keras_state.build_optimizer(model)
        return model
