"""Comparing the trials of a study by another metric (G1)."""

import dataclasses
import math
import statistics

import numpy as np

from tfplaybook._arguments import check_choice
from tfplaybook.search._objective import resolve_objective
from tfplaybook.studies._records import Direction, Objective, Study, Trial


def with_objective(study: Study, objective: str | Objective) -> Study:
    """Return the study as if `objective` had been its objective from the start."""
    objective = _resolved(objective)
    recorded = {name for trial in study.trials for run in trial.runs for name in run.curves}
    if not recorded:
        raise ValueError(
            "`objective` must be a metric of which the trials have curves. Received: "
            f"{objective.name!r} for {str(study.path)!r}, which has no curves. "
            "tfplaybook.search.QuasiRandomSearch records them."
        )
    check_choice("objective", objective.name, sorted(recorded))
    trials = tuple(_judged(trial, objective) for trial in study.trials)
    return dataclasses.replace(study, objective=objective, trials=trials)


def _resolved(objective: str | Objective) -> Objective:
    if isinstance(objective, Objective):
        return objective
    try:
        resolved = resolve_objective(objective)
    except ValueError as error:
        raise ValueError(
            "`objective` must say whether it is minimized or maximized. Received: "
            f'{objective!r}. Pass tfplaybook.studies.Objective({objective!r}, "min") or '
            '"max".'
        ) from error
    if resolved is None:
        raise TypeError("`objective` must be a name or a tfplaybook.studies.Objective.")
    direction: Direction = "max" if resolved.direction == "max" else "min"
    return Objective(resolved.name, direction)


def _judged(trial: Trial, objective: Objective) -> Trial:
    if trial.status != "completed":
        value = math.nan if trial.status == "infeasible" else None
        return dataclasses.replace(trial, objective=value, best_step=None)
    curves = trial.curves(objective.name)
    if not curves:
        return dataclasses.replace(
            trial,
            status="failed",
            objective=None,
            best_step=None,
            message=f"no run has recorded {objective.name}",
        )
    costs = [objective.cost(1.0) * curve.values for curve in curves]
    if not all(np.isfinite(cost).all() for cost in costs):
        return dataclasses.replace(
            trial,
            status="infeasible",
            objective=math.nan,
            best_step=None,
            message=f"infeasible: {objective.name} is not always finite",
        )
    best = min(costs, key=lambda cost: cost.min())
    # As in a search: an execution scores its best value, and the trial their mean.
    score = statistics.fmean(float(cost.min()) for cost in costs)
    return dataclasses.replace(trial, objective=objective.cost(score), best_step=int(best.argmin()))
