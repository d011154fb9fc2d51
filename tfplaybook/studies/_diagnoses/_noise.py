"""D7 and F1: is what separates the best trials larger than their noise? D2: are there enough?"""

import math
import statistics
from typing import Any

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, best_trials, count_of
from tfplaybook.studies._diagnoses._positions import costs
from tfplaybook.studies._diagnoses._signals import (
    FEWEST_POINTS,
    no_curves,
    over,
    second_difference_noise,
    signals,
)
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Study, Trial

_LATE_FRACTION = 1 / 3
_FEWEST_TRIALS = 8


def late_variance(study: Study, *, top: int = 5, max_noise_fraction: float = 0.05) -> Finding:
    """Say whether the objective jumps from step to step late in training (D7).

    The noise of the last third of each curve, told from its trend by second differences, as a
    fraction of the drop of the whole curve; of the `top` best trials the median counts.

    Args:
        study: The study; curves of at least 8 points.
        top: Number of best trials to look at, at least 1.
        max_noise_fraction: Largest noise that needs no action, as a fraction of the drop.

    Raises:
        ValueError: If an option is out of range.
    """
    trials = study.best(check_count("top", top, minimum=1))
    check_number("max_noise_fraction", max_noise_fraction, minimum=0.0)
    thresholds = {"max_noise_fraction": max_noise_fraction}
    fractions = [
        over(second_difference_noise(signal.tail(_LATE_FRACTION)[1]), signal.drop())
        for trial in trials
        for signal in signals(trial, study.objective.name, study.objective)
    ]
    if not fractions:
        reason = no_curves(study, trials, study.objective.name)
        return Finding("late_variance", "D7", "unknown", reason, thresholds=thresholds)
    fraction = statistics.median(fractions)
    acts = fraction > max_noise_fraction
    return Finding(
        "late_variance",
        "D7",
        "act" if acts else "ok",
        f"Late in training {study.objective.name} of {best_trials(len(trials))} jumps by "
        f"{fraction:.1%} of what they gain in all",
        "Use a larger batch or more validation data, decay the learning rate further, or average "
        "the weights."
        if acts
        else "",
        {"noise_fraction": fraction},
        thresholds,
        tuple(trial.trial_id for trial in trials),
    )


def objective_noise(study: Study, *, max_ties: int = 2, tie_errors: float = 2.5) -> Finding:
    """Say whether the noise of the objective hides which trial is best (F1, D7).

    Trials tie with the best if they are within `tie_errors` standard errors of a difference,
    sqrt(2) times the noise of one objective; more than the usual two, since the best of many looks
    better than it is. The noise is taken from the executions of the trials, pooled, if there are
    repeated ones; else from the late part of the curves of the best trials, which leaves out the
    variance between trainings and so is a lower bound.

    Args:
        study: The study; at least 3 completed trials.
        max_ties: Largest number of other trials that may tie with the best.
        tie_errors: What counts as a tie, in standard errors of a difference.

    Raises:
        ValueError: If an option is out of range.
    """
    max_ties = check_count("max_ties", max_ties, minimum=0)
    check_number("tie_errors", tie_errors, above=0.0)
    thresholds = {"max_ties": float(max_ties), "tie_errors": tie_errors}
    trials = study.ranked()

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> Finding:
        return Finding("objective_noise", "F1", verdict, evidence, thresholds=thresholds, **parts)

    if len(trials) < 3:
        return finding("unknown", f"{count_of(len(trials), 'completed trial')}, fewer than 3")
    noise, origin = noise_of(study, trials)
    if noise is None:
        return finding(
            "unknown",
            f"No trial has repeated executions. {origin}",
            remedy="Search with executions_per_trial=2 or more, or record curves.",
        )
    cost = costs(study, trials)
    limit = tie_errors * math.sqrt(2) * noise
    ties = tuple(t.trial_id for t, c in zip(trials, cost, strict=True) if c - cost[0] <= limit)
    evidence = (
        f"{count_of(len(ties) - 1, 'other trial')} cannot be told from the best, "
        f"{trials[0].trial_id}: the noise of {study.objective.name} is {format_value(noise)} "
        f"({origin})"
    )
    numbers = {"noise": noise, "ties": float(len(ties) - 1), "limit": limit}
    acts = len(ties) - 1 > max_ties
    remedy = "Train the best of them again with other seeds before choosing, or reduce the noise."
    return finding(
        "act" if acts else "ok",
        evidence,
        remedy=remedy if acts else "",
        numbers=numbers,
        trials=ties,
    )


def enough_points(study: Study, *, good_fraction: float = 0.2, min_good_trials: int = 3) -> Finding:
    """Say whether enough trials lie in the good region (D2).

    Good is an objective within `good_fraction` of the way from the best to the median, or within
    the noise of a difference from the best where that is known (see `objective_noise`). The
    playbook has no general test; this counts what one sees in the axis plots. A good region that
    no trial has hit cannot be seen.

    Args:
        study: The study; at least 8 completed trials.
        good_fraction: Width of the good region, 0 to 1.
        min_good_trials: Number of trials, the best included, that are enough, at least 1.

    Raises:
        ValueError: If an option is out of range.
    """
    check_number("good_fraction", good_fraction, above=0.0, maximum=1.0)
    min_good_trials = check_count("min_good_trials", min_good_trials, minimum=1)
    thresholds = {"good_fraction": good_fraction, "min_good_trials": float(min_good_trials)}
    trials = study.ranked()
    if len(trials) < _FEWEST_TRIALS:
        return Finding(
            "enough_points",
            "D2",
            "unknown",
            f"{count_of(len(trials), 'completed trial')}, fewer than {_FEWEST_TRIALS}",
            "Run more trials.",
            thresholds=thresholds,
        )
    cost = costs(study, trials)
    noise, _ = noise_of(study, trials)
    width = good_fraction * (float(np.median(cost)) - cost[0])
    limit = cost[0] + max(width, math.sqrt(2) * (noise or 0.0))
    good = tuple(t.trial_id for t, c in zip(trials, cost, strict=True) if c <= limit)
    acts = len(good) < min_good_trials
    more = math.ceil(len(trials) * min_good_trials / len(good)) - len(trials)
    return Finding(
        "enough_points",
        "D2",
        "act" if acts else "ok",
        f"{len(good)} of {len(trials)} trials are in the good region, "
        f"{study.objective.name} {'up to' if study.objective.direction == 'min' else 'from'} "
        f"{format_value(study.objective.cost(limit))}",
        f"Run about {more} more trials, or search around the best." if acts else "",
        {"good": float(len(good)), "trials": float(len(trials)), "limit": limit},
        thresholds,
        good,
    )


def execution_costs(study: Study, trial: Trial) -> list[float]:
    """Return the best objective of each of a trial's runs that have one, lower is better."""
    best = []
    for curve in trial.curves(study.objective.name):
        values = np.array([study.objective.cost(v) for v in curve.values])
        if np.isfinite(values).all() and len(values):
            best.append(float(values.min()))
    return best


def trial_noise(study: Study, trials: tuple[Trial, ...]) -> tuple[float, int] | None:
    """Return the pooled standard deviation of repeated executions, and its degrees of freedom."""
    repeats = [costs for trial in trials if len(costs := execution_costs(study, trial)) > 1]
    freedom = sum(len(costs) - 1 for costs in repeats)
    if not freedom:
        return None
    squares = sum(statistics.variance(costs) * (len(costs) - 1) for costs in repeats)
    return math.sqrt(squares / freedom), freedom


def noise_of(study: Study, trials: tuple[Trial, ...]) -> tuple[float | None, str]:
    """Return the standard deviation of a trial's objective and what it was taken from."""
    half = trials[: math.ceil(len(trials) / 2)]
    repeated = trial_noise(study, half)
    if repeated is not None:
        # The objective of a trial is the mean over its executions.
        count = statistics.fmean(max(1, len(execution_costs(study, t))) for t in half)
        return repeated[0] / math.sqrt(count), f"from repeated executions of {len(half)} trials"
    late = [
        second_difference_noise(signal.tail(_LATE_FRACTION)[1])
        for trial in trials[:5]
        for signal in signals(trial, study.objective.name, study.objective)
        if len(signal.values) >= FEWEST_POINTS
    ]
    if not late:
        return None, no_curves(study, trials, study.objective.name)
    return statistics.median(late), "from the end of the curves"
