"""What a search optimizes: the metric, its direction, and its best value over a training run."""

import difflib
import math

import keras
import keras_tuner as kt

from tfplaybook import _keras
from tfplaybook._metric_names import MAXIMIZED, bare_name, direction

# What a name that leaves its direction open was perhaps meant to be.
_COMMON = ("loss", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy")
_LOSSES = ("mse", "mae", "mape", "msle", "mean_squared_error", "mean_absolute_error")
_CLOSE = 0.8


def resolve_objective(objective: str | kt.Objective | None) -> kt.Objective | None:
    """Return `objective` with a direction that is certain.

    KerasTuner takes every metric that it does not know to be maximized for one to minimize,
    `val_f1_score` among them. Here names are resolved when they say their direction (losses,
    accuracies, and a few more), and refused otherwise.
    """
    if objective is None or isinstance(objective, kt.Objective):
        return objective
    if not isinstance(objective, str):
        raise ValueError(
            "`objective` must be the name of one metric or a `keras_tuner.Objective`. "
            f"Received: {objective!r}. Quasi-random points do not depend on the objective (G1), so "
            "other metrics can be compared after the search."
        )
    known = direction(objective)
    if known is not None:
        return kt.Objective(objective, direction=known)
    metric = bare_name(objective)
    close = difflib.get_close_matches(metric, [*_COMMON, *_LOSSES, *MAXIMIZED], 1, _CLOSE)
    hint = "Pass"
    if close:
        hint = f"Did you mean {objective.removesuffix(metric) + close[0]!r}? Else pass"
    raise ValueError(
        f"`objective` must say whether it is minimized or maximized. Received: {objective!r}, a "
        f'name that leaves it open. {hint} `keras_tuner.Objective("{objective}", '
        'direction="max")` or `direction="min"`.'
    )


class ObjectiveHistory(keras.callbacks.Callback):
    """Keep the epochs that measured the objective, and end a training that diverged.

    Training stops at the first epoch whose objective or training loss is NaN, infinite or absurdly
    large.

    Args:
        objective: The objective of the search.
        divergence_threshold: Magnitude from which on a finite value is absurdly large.

    Attributes:
        divergence: What diverged and when, or None.
        metric_names: Every metric seen.

    Source: playbook D3 and D11.
    """

    def __init__(self, objective: kt.Objective, *, divergence_threshold: float = math.inf):
        super().__init__()
        self.divergence_threshold = divergence_threshold
        self.objective = objective
        self.divergence: str | None = None
        self.metric_names: set[str] = set()
        self._epochs: list[tuple[int, dict[str, float]]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the epoch if it measured the objective; stop if it diverged."""
        logs = logs or {}
        self.metric_names.update(logs)
        for name in (self.objective.name, "loss"):
            # Of a NaN too.
            if name in logs and not abs(logs[name]) < self.divergence_threshold:
                step = _keras.count_updates(self.model)
                self.divergence = f"{name} became {float(logs[name])} at step {step}"
                self.model.stop_training = True
                return
        if self.objective.name in logs:
            self._epochs.append((epoch, dict(logs)))

    def history(self) -> keras.callbacks.History:
        """Return the epochs that measured the objective, over all calls of `fit`.

        Under `validation_freq` these are fewer than were trained, so that every metric has one
        value for each value of the objective.
        """
        history = keras.callbacks.History()
        history.epoch = [epoch for epoch, _ in self._epochs]
        for _, logs in self._epochs:
            for name, value in logs.items():
                history.history.setdefault(name, []).append(value)
        return history


def unknown_objective(objective: kt.Objective, available: set[str]) -> str:
    """Return the message for an objective that no training reported."""
    close = difflib.get_close_matches(objective.name, available, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if objective.name.startswith("val_") and objective.name.removeprefix("val_") in available:
        hint = " Pass `validation_data` to `search` to measure it."
    return (
        f"`objective` must be a metric that training reports: one of {sorted(available)}. "
        f"Received: {objective.name!r}.{hint}"
    )
