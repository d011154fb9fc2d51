"""What became of the trials of a search."""

import math
from collections.abc import Iterable, Mapping

import keras_tuner as kt

from tfplaybook._keras_tuner import Trial, TrialStatus
from tfplaybook.search._trial_files import INFEASIBLE


def is_infeasible(trial: Trial) -> bool:
    """Return whether a trial ran but gave no finite objective."""
    return (trial.message or "").startswith(INFEASIBLE)


def has_ended(trial: Trial) -> bool:
    """Return whether a trial is over, whatever became of it."""
    return trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)


def has_failed(trial: Trial) -> bool:
    """Return whether a trial ended with an exception."""
    return trial.status == TrialStatus.FAILED and not is_infeasible(trial)


def record_metrics(
    trial: Trial, metrics: Mapping[str, float], step: int, objective: kt.Objective
) -> None:
    """Keep those metrics of a trial that are finite."""
    for name, value in metrics.items():
        if math.isfinite(value):
            if not trial.metrics.exists(name):
                direction = objective.direction if name == objective.name else None
                trial.metrics.register(name, direction=direction)
            trial.metrics.update(name, value, step=step)


def best_first(trials: Iterable[Trial], objective: kt.Objective) -> list[Trial]:
    """Return the completed trials, of equal scores the earlier first."""
    completed = [trial for trial in trials if trial.status == TrialStatus.COMPLETED]
    sign = -1.0 if objective.direction == "max" else 1.0
    return sorted(completed, key=lambda trial: (sign * trial.score, int(trial.trial_id)))


def failure_report(what: str, failed: list[Trial]) -> str:
    """Return the message for a search that failed trials have ended."""
    return (
        f"{what}: {', '.join(trial.trial_id for trial in failed)}. Searching again goes on with "
        "the trials that are left, and then runs those that failed again. The last one failed "
        f"with:\n{failed[-1].message}"
    )
