"""What a search optimizes: the metric and its direction."""

import difflib

import keras_tuner as kt

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
