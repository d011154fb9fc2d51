"""D6, D10 and N5: curves that rise again, of validation (overfitting) and of training (a bug)."""

import re
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.runs import Curve
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, best_trials, count_of, naming
from tfplaybook.studies._diagnoses._signals import no_curves, over, signals, training_name
from tfplaybook.studies._records import Objective, Study, Trial

_REGULARIZATION = re.compile(
    r"dropout|drop_?path|stochastic_depth|weight_decay|(^|[_/])(l1|l2)([_/]|$)|regulari[sz]|"
    r"label_smoothing|augment|mixup|cutmix|cutout|noise|early_stop",
    re.IGNORECASE,
)


# Training that rises by less of the rise of validation counts as level, as at an accuracy of 1.
_LEVEL_FRACTION = 0.1


class _Rise(NamedTuple):
    """How a curve rises: over its drop before, and over its standard error."""

    fraction: float
    score: float


def overfitting(
    study: Study,
    *,
    top: int = 3,
    min_rise_fraction: float = 0.03,
    min_rise_score: float = 5.0,
    scientific: Sequence[str] = (),
) -> Finding:
    """Say whether the best trials overfit: validation rises again while training does not (D6).

    The rise is from the lowest point to the end of the validation curve, smoothed over a tenth
    of its points, as a fraction of how far it had come down. A trial overfits if that is at least
    `min_rise_fraction` and at least `min_rise_score` standard errors, and if the same metric on the
    training data, if it was recorded, does not rise likewise, over its own drop or since the step
    at which validation was lowest: what has not learned cannot overfit.

    Args:
        study: The study; curves of at least 8 points.
        top: Number of best trials to look at, at least 1.
        min_rise_fraction: Smallest rise that counts, as a fraction of the drop.
        min_rise_score: Smallest rise that counts, in standard errors.
        scientific: Names of the scientific hyperparameters. If one of them is itself
            regularization, by its name, overfitting is what the study compares and no reason to
            act.

    Raises:
        ValueError: If an option is out of range.
    """
    top = check_count("top", top, minimum=1)
    trials = study.best(top)
    thresholds = _thresholds(min_rise_fraction, min_rise_score)

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> Finding:
        return Finding("overfitting", "D6", verdict, evidence, thresholds=thresholds, **parts)

    rises = _overfitting_rises(study, trials)
    if not rises:
        return finding("unknown", _why_unknown(study, trials))
    found = _exceeding(rises, min_rise_fraction, min_rise_score)
    numbers = {
        "overfitting": float(len(found)),
        "rise_fraction": max(r.fraction for r in rises.values()),
    }
    if not found:
        return finding("ok", f"Of {best_trials(len(rises))} none overfits", numbers=numbers)
    evidence = (
        f"{study.objective.name} of {naming(found)} gets worse again by "
        f"{rises[found[0]].fraction:.0%} of what was gained, while training goes on"
    )
    compared = [name for name in scientific if _REGULARIZATION.search(name)]
    if compared:
        evidence += f"; expected, as the study compares {', '.join(compared)}"
        return finding("ok", evidence, numbers=numbers, trials=tuple(found))
    return finding(
        "act",
        evidence,
        numbers=numbers,
        trials=tuple(found),
        remedy="Train the best configurations again with (more) regularization before comparing.",
    )


def overfitting_anywhere(
    study: Study, *, min_rise_fraction: float = 0.03, min_rise_score: float = 5.0
) -> Finding:
    """Say whether any trial overfits (N5).

    Selection then favours configurations that are regularized by accident, say by a learning
    rate that is too small. What counts is as in `overfitting`.

    Args:
        study: The study; curves of at least 8 points.
        min_rise_fraction: As in `overfitting`.
        min_rise_score: As in `overfitting`.

    Raises:
        ValueError: If an option is out of range.
    """
    trials = study.ranked()
    thresholds = _thresholds(min_rise_fraction, min_rise_score)
    rises = _overfitting_rises(study, trials)
    found = _exceeding(rises, min_rise_fraction, min_rise_score)
    verdict: Verdict = "act" if found else "ok" if rises else "unknown"
    evidence = f"{len(found)} of {count_of(len(rises), 'trial')} overfit"
    evidence += f", such as {naming(found)}" if found else ""
    tuned = [h.name for h in study.varied if _REGULARIZATION.search(h.name)]
    remedy = "The search may prefer what regularizes by accident, such as a low learning rate: " + (
        f"see whether {', '.join(tuned)} should reach further."
        if tuned
        else "tune a regularizer too."
    )
    return Finding(
        "overfitting_anywhere",
        "N5",
        verdict,
        evidence if rises else _why_unknown(study, trials),
        remedy if found else "",
        {"overfitting": float(len(found)), "trials": float(len(rises))},
        thresholds,
        tuple(found),
    )


def training_loss_rising(
    study: Study,
    *,
    max_trials_fraction: float = 0.2,
    min_rise_fraction: float = 0.03,
    min_rise_score: float = 5.0,
) -> Finding:
    """Say whether the training loss rises in more than a few trials, usually a bug (D10).

    The training loss is the curve `loss`. A few trials at too high a learning rate may rise;
    the best trial, or many, may not.

    Args:
        study: The study; curves of at least 8 points.
        max_trials_fraction: Largest fraction of completed trials that may rise, 0 to 1.
        min_rise_fraction: As in `overfitting`.
        min_rise_score: As in `overfitting`.

    Raises:
        ValueError: If an option is out of range.
    """
    check_number("max_trials_fraction", max_trials_fraction, minimum=0.0, maximum=1.0)
    trials = study.ranked()
    thresholds = {
        "max_trials_fraction": max_trials_fraction,
        **_thresholds(min_rise_fraction, min_rise_score),
    }
    rises = _rises(trials, "loss", Objective("loss", "min"))
    found = _exceeding(rises, min_rise_fraction, min_rise_score)
    fraction = len(found) / len(rises) if rises else 0.0
    best_rises = bool(found) and found[0] == trials[0].trial_id
    if not rises:
        verdict: Verdict = "unknown"
    else:
        verdict = "act" if best_rises or fraction > max_trials_fraction else "ok"
    evidence = f"The training loss rises in {len(found)} of {count_of(len(rises), 'trial')}"
    if found:
        evidence += f", {'the best among them' if best_rises else 'not in the best'}"
    return Finding(
        "training_loss_rising",
        "D10",
        verdict,
        evidence if rises else no_curves(study, trials, "loss"),
        f"Look for a bug, first in {naming(found)}: data, loss, schedule."
        if verdict == "act"
        else "",
        {"fraction": fraction, "rising": float(len(found)), "trials": float(len(rises))},
        thresholds,
        tuple(found),
    )


def _thresholds(min_rise_fraction: float, min_rise_score: float) -> dict[str, float]:
    return {
        "min_rise_fraction": check_number("min_rise_fraction", min_rise_fraction, minimum=0.0),
        "min_rise_score": check_number("min_rise_score", min_rise_score, minimum=0.0),
    }


def _rises(trials: Sequence[Trial], name: str, objective: Objective) -> dict[str, _Rise]:
    """Return, of each trial with such a curve, the median rise of its runs."""
    found = {}
    for trial in trials:
        runs = signals(trial, name, objective)
        if runs:
            found[trial.trial_id] = _Rise(
                statistics.median(over(run.rise(), run.drop()) for run in runs),
                statistics.median(run.rise_score() for run in runs),
            )
    return found


def _overfitting_rises(study: Study, trials: Sequence[Trial]) -> dict[str, _Rise]:
    """Return how the validation curves rise, 0 where the training curve rises likewise."""
    name = study.objective.name
    if not name.startswith("val_"):
        return {}
    rises = _rises(trials, name, study.objective)
    training = _rises(trials, training_name(study), study.objective)
    quiet = _Rise(0.0, 0.0)
    parted = {trial.trial_id for trial in trials if _parts(study, trial)}
    return {
        trial_id: rise
        if trial_id in parted and training.get(trial_id, quiet).fraction < rise.fraction / 2
        else quiet
        for trial_id, rise in rises.items()
    }


def _parts(study: Study, trial: Trial) -> bool:
    """Whether training leaves validation behind, in most runs that have recorded both."""
    name, training = study.objective.name, training_name(study)
    parted = [
        _change(run.curves[training], lowest, study)
        < _LEVEL_FRACTION * _change(run.curves[name], lowest, study)
        for run in trial.runs
        if {name, training} <= run.curves.keys() and np.isfinite(run.curves[name].values).any()
        for lowest in [_lowest(run.curves[name], study)]
    ]
    return not parted or 2 * sum(parted) > len(parted)


def _lowest(curve: Curve, study: Study) -> int:
    costs = study.objective.cost(1.0) * curve.values
    return int(curve.steps[np.nanargmin(np.where(np.isfinite(costs), costs, np.nan))])


def _change(curve: Curve, since: int, study: Study) -> float:
    """Return by how much the end of the finite part of a curve is above its value at a step."""
    finite = np.isfinite(curve.values)
    steps, values = curve.steps[finite], curve.values[finite]
    if not len(values):
        return 0.0
    return study.objective.cost(float(values[-1] - np.interp(since, steps, values)))


def _exceeding(rises: dict[str, _Rise], fraction: float, score: float) -> list[str]:
    return [i for i, rise in rises.items() if rise.fraction >= fraction and rise.score >= score]


def _why_unknown(study: Study, trials: tuple[Trial, ...]) -> str:
    if not study.objective.name.startswith("val_"):
        return f"{study.objective.name} is no validation metric"
    return no_curves(study, trials, study.objective.name)
