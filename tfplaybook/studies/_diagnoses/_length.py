"""D8, D9 and H2: were the trials trained too short or too long?"""

import math
import statistics
from typing import NamedTuple

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, best_trials, count_of
from tfplaybook.studies._diagnoses._signals import Signal, no_curves, over, signals
from tfplaybook.studies._records import Study, Trial

_TAIL = 0.25


class _Tail(NamedTuple):
    """Gain over the last quarter as a fraction of the drop, and its standard error."""

    gain: float
    error: float


def still_improving(
    study: Study, *, top: int = 5, min_gain_fraction: float = 0.03, min_gain_score: float = 3.0
) -> Finding:
    """Say whether the best trials still improve when training ends (D8).

    A straight line is fitted to the last quarter of each curve of the objective; its descent, as
    a fraction of the drop of the whole curve, is averaged over the `top` best trials.

    Args:
        study: The study; curves of at least 8 points.
        top: Number of best trials to look at, at least 1.
        min_gain_fraction: Smallest descent that counts, as a fraction of the drop.
        min_gain_score: Smallest descent that counts, in standard errors.

    Raises:
        ValueError: If an option is out of range.
    """
    trials = study.best(check_count("top", top, minimum=1))
    thresholds = {
        "min_gain_fraction": check_number("min_gain_fraction", min_gain_fraction, minimum=0.0),
        "min_gain_score": check_number("min_gain_score", min_gain_score, minimum=0.0),
    }
    tails = [_tail(signal) for signal in _signals(study, trials)]
    if not tails:
        reason = no_curves(study, trials, study.objective.name)
        return Finding("still_improving", "D8", "unknown", reason, thresholds=thresholds)
    gain, score = _mean_gain(tails)
    acts = gain >= min_gain_fraction and score >= min_gain_score
    evidence = (
        f"In the last quarter {best_trials(len(trials))} improved by {max(gain, 0.0):.1%} of "
        "what they gain in all"
    )
    return Finding(
        "still_improving",
        "D8",
        "act" if acts else "ok",
        evidence,
        "Training is compute-bound: train longer, or decay the learning rate further."
        if acts
        else "",
        {"gain_fraction": gain, "gain_score": score},
        thresholds,
        tuple(trial.trial_id for trial in trials),
    )


def saturated_early(
    study: Study,
    *,
    top: int = 5,
    max_used_fraction: float = 0.5,
    tolerance_fraction: float = 0.02,
) -> Finding:
    """Say whether the best trials had nothing to gain long before training ended (D9).

    A curve is saturated from the step on at which it, smoothed over a tenth of its points, comes
    within `tolerance_fraction` of its drop (or within two standard errors) of its lowest point.
    Of the `top` best trials the median counts. Curves that rise again are left to `overfitting`.

    Args:
        study: The study; curves of at least 8 points.
        top: Number of best trials to look at, at least 1.
        max_used_fraction: Largest fraction of the steps after which the curve may be saturated
            for training to count as too long, 0 to 1.
        tolerance_fraction: How near to its lowest point a curve counts as saturated.

    Raises:
        ValueError: If an option is out of range.
    """
    trials = study.best(check_count("top", top, minimum=1))
    thresholds = {
        "max_used_fraction": check_number(
            "max_used_fraction", max_used_fraction, minimum=0.0, maximum=1.0
        ),
        "tolerance_fraction": check_number("tolerance_fraction", tolerance_fraction, minimum=0.0),
    }
    found = _signals(study, trials)
    if not found:
        reason = no_curves(study, trials, study.objective.name)
        return Finding("saturated_early", "D9", "unknown", reason, thresholds=thresholds)
    level = [signal for signal in found if not _rises_again(signal, tolerance_fraction)]
    used = statistics.median(_saturation(s, tolerance_fraction) for s in level) if level else 1.0
    acts = used <= max_used_fraction and len(level) > len(found) / 2
    last = int(max(signal.steps[-1] for signal in found))
    those = best_trials(len(trials))
    if acts:
        evidence = f"After {used:.0%} of {last} steps {those} had nothing to gain"
    elif level:
        evidence = f"Up to {used:.0%} of {last} steps {those} had something to gain"
    else:
        evidence = f"The curves of {those} rise again, see overfitting"
    return Finding(
        "saturated_early",
        "D9",
        "act" if acts else "ok",
        evidence,
        f"Training is not compute-bound: {math.ceil(1.25 * used * last)} steps would do."
        if acts
        else "",
        {"used_fraction": used, "steps": float(last)},
        thresholds,
        tuple(trial.trial_id for trial in trials),
    )


def max_train_steps(
    study: Study,
    *,
    early_fraction: float = 0.1,
    late_fraction: float = 0.25,
    min_early_share: float = 0.9,
    min_late_share: float = 0.7,
) -> Finding:
    """Say from where the best steps lie whether `max_train_steps` should change (H2).

    Looks at the better half of the completed trials. The best step is the first that is as good as
    the lowest point up to the noise of a point, since on a level stretch the lowest point is
    anywhere. Best steps that are always in the first
    10% ask for far fewer steps; best steps that are consistently in the last 25% for more, with
    the decay tuned again.

    Args:
        study: The study; curves of at least 8 points, in at least 3 trials.
        early_fraction: What counts as the beginning, 0 to 1.
        late_fraction: What counts as the end, 0 to 1.
        min_early_share: Share of the trials that "always" stands for, 0 to 1.
        min_late_share: Share of the trials that "consistently" stands for, 0 to 1.

    Raises:
        ValueError: If an option is out of range.
    """
    thresholds = {
        "early_fraction": early_fraction,
        "late_fraction": late_fraction,
        "min_early_share": min_early_share,
        "min_late_share": min_late_share,
    }
    for name, value in thresholds.items():
        check_number(name, value, minimum=0.0, maximum=1.0)
    ranked = study.ranked()
    trials = ranked[: math.ceil(len(ranked) / 2)]
    at = [
        statistics.median(_best_step(signal) / signal.steps[-1] for signal in found)
        for trial in trials
        if (found := signals(trial, study.objective.name, study.objective))
    ]
    last = max((int(s.steps[-1]) for s in _signals(study, trials)), default=0)

    def finding(verdict: Verdict, evidence: str, remedy: str = "") -> Finding:
        numbers = {"median_fraction": statistics.median(at) if at else math.nan, "steps": last}
        ids = tuple(trial.trial_id for trial in trials)
        return Finding("max_train_steps", "H2", verdict, evidence, remedy, numbers, thresholds, ids)

    if not at:
        return finding("unknown", no_curves(study, ranked, study.objective.name))
    if len(at) < 3:
        return finding("unknown", f"{count_of(len(at), 'trial')} with curves in the better half")
    early = sum(fraction <= early_fraction for fraction in at)
    late = sum(fraction > 1 - late_fraction for fraction in at)
    of = f"of the better {count_of(len(at), 'trial')} the best step is"
    if early >= min_early_share * len(at):
        return finding(
            "act",
            f"In {early} {of} in the first {early_fraction:.0%} of {last} steps",
            f"Train for far fewer steps: about {math.ceil(3 * max(at) * last)}.",
        )
    if late >= min_late_share * len(at):
        return finding(
            "act",
            f"In {late} {of} in the last {late_fraction:.0%} of {last} steps",
            "Train longer, and tune the decay of the learning rate again.",
        )
    median = statistics.median(at)
    return finding("ok", f"The best step is at {median:.0%} of {last} steps in the median trial")


def _signals(study: Study, trials: tuple[Trial, ...]) -> list[Signal]:
    name = study.objective.name
    return [signal for trial in trials for signal in signals(trial, name, study.objective)]


def _tail(signal: Signal) -> _Tail:
    at, values = signal.tail(_TAIL)
    centred = at - at.mean()
    spread = float(centred @ centred)
    length = float(at[-1] - at[0])
    slope = float(centred @ values) / spread
    drop = signal.drop()
    gain = over(-slope * length, drop) if slope < 0 else -over(slope * length, drop)
    return _Tail(min(gain, 1.0), over(signal.noise() * length / math.sqrt(spread), drop))


def _mean_gain(tails: list[_Tail]) -> tuple[float, float]:
    gain = statistics.fmean(tail.gain for tail in tails)
    error = math.sqrt(sum(tail.error**2 for tail in tails)) / len(tails)
    return gain, over(gain, error)


def _best_step(signal: Signal) -> float:
    limit = signal.values.min() + signal.noise()
    return float(signal.steps[int(np.argmax(signal.values <= limit))])


def _saturation(signal: Signal, tolerance_fraction: float) -> float:
    """Return the fraction of the steps after which the curve is as good as it gets."""
    smoothed = signal.smoothed()
    error = signal.noise() / math.sqrt(signal.window)
    tolerance = max(tolerance_fraction * signal.drop(), 2 * error)
    first = int(np.argmax(smoothed <= smoothed.min() + tolerance))
    # A mean over a window stands for its middle.
    return float(signal.steps[first + signal.window // 2] / signal.steps[-1])


def _rises_again(signal: Signal, tolerance_fraction: float) -> bool:
    return signal.rise_score() >= 5.0 and signal.rise() > tolerance_fraction * signal.drop()
