"""C1, E3 and E4: which value of a scientific hyperparameter is best, and was it a fair contest?"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._boundary import FEWEST_TRIALS, search_space_boundary
from tfplaybook.studies._diagnoses._budget import best_of
from tfplaybook.studies._diagnoses._finding import Finding, naming
from tfplaybook.studies._diagnoses._noise import noise_of
from tfplaybook.studies._diagnoses._positions import costs, position, value_at
from tfplaybook.studies._diagnoses._rises import overfitting
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Hyperparameter, Study, Trial


@dataclasses.dataclass(frozen=True)
class ScientificValue:
    """A value of the scientific hyperparameters and the best trial that has it (E3).

    Args:
        label: The value, or the slice of a continuous one, such as `"optimizer=adam"`.
        trials: Number of completed trials.
        best: The best objective.
        best_trial: Id of the trial that has it.
    """

    label: str
    trials: int
    best: float
    best_trial: str


@dataclasses.dataclass(frozen=True)
class ComparisonFinding(Finding):
    """The answer of `scientific_comparison`.

    Args:
        values: The values compared, best first.
        winner: Label of the value that is clearly best; None if none is.
        problems: Why the contest was not fair; empty if it was.
        caveats: What every conclusion depends on (C1).
    """

    values: tuple[ScientificValue, ...] = ()
    winner: str | None = None
    problems: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


def scientific_comparison(
    study: Study,
    scientific: Sequence[str] = (),
    *,
    buckets: int = 4,
    min_trials: int = 3,
    max_count_ratio: float = 3.0,
    min_lead_probability: float = 0.985,
) -> ComparisonFinding:
    """Compare the values of the scientific hyperparameters by their best trials (C1, E3, E4).

    A value wins if the best of k of its trials beats the best of k of the runner-up's with at
    least `min_lead_probability`, k being the smaller number of trials, and if the difference of
    their best is more than the noise of a difference, where that is known. The probability is
    that of the bootstrap (E5) in closed form, which is too sure of itself: between equal values
    it is often above 0.9. The contest is unfair if a value has too few trials (none, of a list of
    values), or fewer than another by a factor, or if its best trial overfits (D6) or has a nuisance
    hyperparameter at the end of its range (D1).

    Args:
        study: The study.
        scientific: Names of the hyperparameters whose effect is asked for; all others that are
            varied are nuisance hyperparameters.
        buckets: Number of slices of equal width, on the sampling scale, of a continuous one, at
            least 2.
        min_trials: Fewest completed trials of a value, at least 1.
        max_count_ratio: Largest ratio of the numbers of trials of two values, at least 1.
        min_lead_probability: Probability with which the winner must lead, 0.5 to 1.

    Raises:
        ValueError: If the study has no such hyperparameter or an option is out of range.
        TypeError: If `scientific` is one name instead of a sequence of names.
    """
    if isinstance(scientific, str):
        raise TypeError(f"`scientific` must be a sequence of names. Received: {scientific!r}.")
    hyperparameters = [study.hyperparameter(name) for name in scientific]
    buckets = check_count("buckets", buckets, minimum=2)
    min_trials = check_count("min_trials", min_trials, minimum=1)
    check_number("max_count_ratio", max_count_ratio, minimum=1.0)
    check_number("min_lead_probability", min_lead_probability, minimum=0.5, maximum=1.0)
    thresholds = {
        "min_trials": float(min_trials),
        "max_count_ratio": max_count_ratio,
        "min_lead_probability": min_lead_probability,
    }
    if not hyperparameters:
        return ComparisonFinding(
            "scientific_comparison",
            "E4",
            "unknown",
            "No scientific hyperparameter is named",
            "Pass `scientific=`, the hyperparameters whose effect is asked for.",
            thresholds=thresholds,
        )
    groups: dict[str, list[Trial]] = {}
    for trial in study.ranked():
        if all(h.name in trial.values for h in hyperparameters):
            label = ", ".join(_label(h, trial, buckets) for h in hyperparameters)
            groups.setdefault(label, []).append(trial)
    counts = {label: len(trials) for label, trials in groups.items()}
    counts |= dict.fromkeys(_declared_labels(hyperparameters) - counts.keys(), 0)
    unequal = _count_problems(counts, min_trials, max_count_ratio)
    if len(groups) < 2:
        is_unfair = bool(unequal) and max(counts.values(), default=0) > max_count_ratio * min_trials
        return ComparisonFinding(
            "scientific_comparison",
            "E4",
            "act" if is_unfair else "unknown",
            unequal[0]
            if is_unfair
            else f"Completed trials have {len(groups)} of the values to compare",
            "Run trials of the others.",
            thresholds=thresholds,
            problems=tuple(unequal) if is_unfair else (),
        )
    parts = {
        label: dataclasses.replace(study, trials=tuple(trials)) for label, trials in groups.items()
    }
    problems = unequal + [
        problem
        for label, part in parts.items()
        for problem in _tuning_problems(label, part, scientific)
    ]
    first, second = list(parts.values())[:2]
    budget = min(len(first.trials), len(second.trials))
    lead = best_of(costs(first, first.trials), budget).beats(
        best_of(costs(second, second.trials), budget)
    )
    best, runner_up = (costs(part, part.best())[0] for part in (first, second))
    noise, _ = noise_of(study, study.ranked())
    clear = lead >= min_lead_probability and runner_up - best > math.sqrt(2) * (noise or 0.0)
    names = list(groups)
    values = tuple(
        ScientificValue(label, len(trials), trials[0].objective or 0.0, trials[0].trial_id)
        for label, trials in groups.items()
    )
    evidence = (
        f"{names[0]} {'is best' if clear else 'leads, but not clearly'}: "
        f"{study.objective.name} {format_value(values[0].best)} against "
        f"{format_value(values[1].best)} of {names[1]} (the best of {budget} trials leads with a "
        f"probability of {lead:.0%})"
    )
    evidence += f"; but {'; '.join(problems)}" if problems else ""
    return ComparisonFinding(
        "scientific_comparison",
        "E4",
        "act" if problems else "ok",
        evidence,
        "Tune all values equally well before comparing." if problems else "",
        {"lead_probability": lead, "difference": float(runner_up - best)},
        thresholds,
        tuple(value.best_trial for value in values),
        values,
        names[0] if clear else None,
        tuple(problems),
        _caveats(study, groups, scientific),
    )


def _label(hyperparameter: Hyperparameter, trial: Trial, buckets: int) -> str:
    value = trial.values[hyperparameter.name]
    if hyperparameter.kind != "float" or hyperparameter.step is not None:
        return f"{hyperparameter.name}={format_value(value)}"
    at = position(hyperparameter, value)
    if not math.isfinite(at):
        return f"{hyperparameter.name}={format_value(value)}"
    index = min(max(int(at * buckets), 0), buckets - 1)
    ends = (value_at(hyperparameter, i / buckets) for i in (index, index + 1))
    return f"{hyperparameter.name} {' to '.join(map(format_value, ends))}"


def _declared_labels(hyperparameters: Sequence[Hyperparameter]) -> set[str]:
    """Return the labels of all values, if each hyperparameter always exists and has a list."""
    if any(h.conditions or h.is_inferred or not h.values for h in hyperparameters):
        return set()
    settings = itertools.product(
        *([f"{h.name}={format_value(value)}" for value in h.values] for h in hyperparameters)
    )
    return {", ".join(setting) for setting in settings}


def _count_problems(
    counts: Mapping[str, int], min_trials: int, max_count_ratio: float
) -> list[str]:
    if not counts:
        return []
    fewest, most = min(counts, key=lambda i: counts[i]), max(counts, key=lambda i: counts[i])
    if counts[fewest] >= min_trials and counts[most] <= max_count_ratio * counts[fewest]:
        return []
    return [f"{fewest} has {counts[fewest]} completed trials and {most} has {counts[most]}"]


def _tuning_problems(label: str, part: Study, scientific: Sequence[str]) -> list[str]:
    problems = []
    nuisance = tuple(h for h in part.space if h.name not in scientific)
    if len(part.trials) >= FEWEST_TRIALS:
        finding = search_space_boundary(dataclasses.replace(part, space=nuisance))
        problems += [
            f"with {label}, {e.name} is best at its {e.end} end" for e in finding.expansions
        ]
    overfit = overfitting(part, top=1, scientific=scientific)
    if overfit.verdict == "act":
        problems.append(f"{naming(overfit.trials)}, the best with {label}, overfits")
    return problems


def _caveats(
    study: Study, groups: dict[str, list[Trial]], scientific: Sequence[str]
) -> tuple[str, ...]:
    """Return what the conclusion holds for: fixed values, and which points were compared."""
    varied = {h.name for h in study.varied}
    fixed = [
        f"{h.name}={format_value((*h.values, h.min_value)[0])}"
        for h in study.space
        if h.name not in varied and h.name not in scientific
    ]
    points = [
        {tuple(sorted((n, v) for n, v in t.values.items() if n not in scientific)) for t in trials}
        for trials in groups.values()
    ]
    paired = all(some == points[0] for some in points)
    caveats = [f"It holds for {', '.join(fixed)}."] if fixed else []
    caveats.append(
        "All values were tried at the same points."
        if paired
        else "Each value was tried at points of its own."
    )
    return tuple(caveats)
