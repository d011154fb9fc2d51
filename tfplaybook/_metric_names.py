"""What the name of a metric says about its direction. A leaf that any room may use."""

from typing import Literal

import keras

Direction = Literal["min", "max"]

MAXIMIZED = frozenset(
    {
        "acc",
        "accuracy",
        "auc",
        "f1_score",
        "f_beta_score",
        "io_u",
        "mean_io_u",
        "precision",
        "r2_score",
        "recall",
    }
)


def bare_name(metric: str) -> str:
    """Return the name without `val_` and `weighted_`."""
    return metric.removeprefix("val_").removeprefix("weighted_")


def direction(metric: str) -> Direction | None:
    """Return whether the metric is minimized or maximized, or None if its name leaves it open."""
    name = bare_name(metric)
    if name in MAXIMIZED or name.endswith("_accuracy"):
        return "max"
    if name == "loss" or name.endswith(("_loss", "_error")) or _is_loss(name):
        return "min"
    return None


def _is_loss(name: str) -> bool:
    # As a loss, cosine similarity is negated; as a metric it is not.
    if name == "cosine_similarity":
        return False
    try:
        keras.losses.get(name)
    except ValueError:
        return False
    return True
