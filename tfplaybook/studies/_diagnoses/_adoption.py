"""F1 to F3: is the candidate better than the baseline, given the variance of re-training?"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from tfplaybook._arguments import check_choice, check_count, check_number
from tfplaybook.studies._diagnoses._budget import best_of
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, count_of
from tfplaybook.studies._diagnoses._noise import execution_costs
from tfplaybook.studies._diagnoses._positions import costs
from tfplaybook.studies._diagnoses._student import t_cdf, t_quantile
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Study


@dataclasses.dataclass(frozen=True)
class AdoptionFinding(Finding):
    """The answer of `adoption`; its verdict `"act"` means: adopt.

    Args:
        gain: Mean of the baseline less that of the candidate, positive if the candidate is
            better; None without repeats.
        interval: t-interval of the gain; None without repeats.
        probability: Welch's probability of so large a gain when there is none, one-sided.
        trial_deviation: Standard deviation over re-trainings of candidate and of baseline (F1).
        study_deviation: Standard deviation of the best objective over searches like this one,
            by the bootstrap of its trials in closed form (F1, E5).
    """

    gain: float | None = None
    interval: tuple[float, float] | None = None
    probability: float | None = None
    trial_deviation: tuple[float, float] | None = None
    study_deviation: float | None = None


def adoption(
    study: Study,
    baseline: str | Sequence[float] | None = None,
    *,
    candidate: str | Sequence[float] | None = None,
    confidence: float = 0.95,
    min_gain: float = 0.0,
    min_repeats: int = 3,
) -> AdoptionFinding:
    """Say whether to adopt the candidate as the new baseline (F2, F3).

    The candidate is adopted if its mean over re-trainings is better than the baseline's by more
    than `min_gain`, with the confidence given: the lower end of the t-interval of the difference
    lies above it, with the degrees of freedom of Welch (1947) and Satterthwaite (1946).

    Args:
        study: The study.
        baseline: Id of the baseline's trial, which has been executed repeatedly, or the objectives
            of its re-trainings.
        candidate: The same of the candidate. Default: the best completed trial. Executions that
            took part in the choice flatter it; give those of re-trainings with other seeds.
        confidence: Of the t-interval, above 0 and below 1.
        min_gain: Improvement of the objective that is worth the added complexity, at least 0.
        min_repeats: Fewest trainings of each, at least 2.

    Raises:
        ValueError: If a trial does not exist, or an option is out of range.
    """
    check_number("confidence", confidence, above=0.0, maximum=1.0 - 1e-9)
    check_number("min_gain", min_gain, minimum=0.0)
    min_repeats = check_count("min_repeats", min_repeats, minimum=2)
    thresholds = {
        "confidence": confidence,
        "min_gain": min_gain,
        "min_repeats": float(min_repeats),
    }
    spread = best_of(costs(study, study.ranked()), len(study.ranked())).deviation()

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> AdoptionFinding:
        return AdoptionFinding(
            "adoption",
            "F3",
            verdict,
            evidence,
            thresholds=thresholds,
            study_deviation=spread,
            **parts,
        )

    if candidate is None:
        if not study.completed:
            return finding("unknown", "No trial is completed")
        candidate = study.best()[0].trial_id
    if baseline is None:
        return finding("unknown", "No baseline is named", remedy="Pass `baseline=`, a trial's id.")
    new, old = _repeats(study, "candidate", candidate), _repeats(study, "baseline", baseline)
    names = tuple(side for side in (candidate, baseline) if isinstance(side, str))
    if min(len(new), len(old)) < min_repeats:
        return finding(
            "unknown",
            f"The candidate was trained {count_of(len(new), 'time')}, the baseline "
            f"{count_of(len(old), 'time')}; at least {min_repeats} are needed",
            trials=names,
            remedy="Train both 5 times with other seeds.",
        )
    gain = statistics.fmean(old) - statistics.fmean(new)
    error, freedom = _welch(new, old)
    half = t_quantile((1 + confidence) / 2, freedom) * error if error else 0.0
    interval = (gain - half, gain + half)
    chance = 1 - t_cdf(gain / error, freedom) if error else float(gain <= 0)
    adopts = interval[0] > min_gain
    deviations = (statistics.stdev(new), statistics.stdev(old))
    evidence = (
        f"{study.objective.name} of the candidate is better by {format_value(gain)} "
        f"({confidence:.0%} interval {format_value(interval[0])} to {format_value(interval[1])}, "
        f"over {len(new)} and {len(old)} trainings)"
    )
    remedy = "Adopt it, if it is worth the added complexity." if adopts else "Keep the baseline."
    return finding(
        "act" if adopts else "ok",
        evidence,
        trials=names,
        remedy=remedy,
        numbers={"gain": gain, "probability": chance},
        gain=gain,
        interval=interval,
        probability=chance,
        trial_deviation=deviations,
    )


def _repeats(study: Study, name: str, side: str | Sequence[float]) -> list[float]:
    if isinstance(side, str):
        trials = {trial.trial_id: trial for trial in study.trials}
        return execution_costs(study, trials[check_choice(name, side, trials)])
    return [study.objective.cost(check_number(f"{name}[{i}]", v)) for i, v in enumerate(side)]


def _welch(new: list[float], old: list[float]) -> tuple[float, float]:
    """Return the standard error of the difference of two means and its degrees of freedom."""
    parts = [(statistics.variance(side) / len(side), len(side) - 1) for side in (new, old)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0, math.inf
    return math.sqrt(total), total**2 / sum(part**2 / freedom for part, freedom in parts)
