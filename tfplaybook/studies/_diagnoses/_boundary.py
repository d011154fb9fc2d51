"""D1: do the best points lie at an end of the range that was searched?"""

import dataclasses
import math

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._clipping import clip_limit
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, best_trials, count_of
from tfplaybook.studies._diagnoses._positions import costs, positions, ranged, value_at
from tfplaybook.studies._diagnoses._signals import over
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Hyperparameter, Study, Trial

FEWEST_TRIALS = 8


@dataclasses.dataclass(frozen=True)
class Expansion:
    """An end of a range that the best trials ask to move (D1).

    Args:
        name: Name of the hyperparameter.
        end: `"lower"` or `"upper"`.
        bound: That end of the range as it was searched.
        proposed: Where to put it.
        cluster: Mean distance of the best trials from the end, as a fraction of the range on the
            scale on which it was sampled.
        slope_score: How steeply the objective still improves outward at the end, over its
            standard error.
        trials: Ids of those best trials, of those in which the hyperparameter exists.
    """

    name: str
    end: str
    bound: float
    proposed: float
    cluster: float
    slope_score: float
    trials: tuple[str, ...] = ()

    def __str__(self) -> str:
        verb = "raise" if self.proposed > self.bound else "lower"
        return (
            f"{verb} the {self.end} end of {self.name} from {format_value(self.bound)} to "
            f"{format_value(self.proposed)}"
        )


@dataclasses.dataclass(frozen=True)
class BoundaryFinding(Finding):
    """The answer of `search_space_boundary`.

    Args:
        expansions: The ends to move, the clearest first.
    """

    expansions: tuple[Expansion, ...] = ()


def search_space_boundary(
    study: Study,
    *,
    top: int = 3,
    near_fraction: float = 0.25,
    min_slope_score: float = 1.5,
    expand_fraction: float = 0.5,
) -> BoundaryFinding:
    """Say whether the best trials cluster at an end of a searched range (D1).

    All distances are on the scale on which the hyperparameter was sampled, as fractions of its
    range. An end is suspicious if the `top` best trials are on average nearer to it than
    `near_fraction`, and if a quadratic fitted to the objectives of all trials still improves
    outward there: one of a few points lies near some end by chance. Objectives that a picture
    would cut off count as the worst that it shows. Of a hyperparameter that exists only under a
    condition the best trials that have it are meant (C4), of at least 8. The proposed bound never
    passes a limit that the range suggests: 0 for a range of positive numbers, 1 for one of
    fractions that is not logarithmic.

    Args:
        study: The study; at least 8 completed trials.
        top: Number of best trials that count as the cluster, at least 1.
        near_fraction: Largest mean distance from the end, 0 to 0.5.
        min_slope_score: Smallest outward improvement at the end, in standard errors.
        expand_fraction: How far to move an end, as a fraction of the range.

    Raises:
        ValueError: If an option is out of range.
    """
    top = check_count("top", top, minimum=1)
    check_number("near_fraction", near_fraction, minimum=0.0, maximum=0.5)
    check_number("min_slope_score", min_slope_score, minimum=0.0)
    check_number("expand_fraction", expand_fraction, above=0.0)
    thresholds = {"near_fraction": near_fraction, "min_slope_score": min_slope_score, "top": top}

    trials = study.ranked()
    dimensions = tuple(h for h in ranged(study) if not h.is_inferred)
    if not dimensions and ranged(study):
        return _finding(
            "unknown",
            "The ranges that were searched are not known: give `load` the `space`",
            thresholds,
        )
    if not dimensions:
        return _finding("ok", "No hyperparameter has a range with ends", thresholds)
    if len(trials) < FEWEST_TRIALS:
        evidence = f"{count_of(len(trials), 'completed trial')}, fewer than {FEWEST_TRIALS}"
        return _finding("unknown", evidence, thresholds, remedy="Run more trials.")

    found = []
    nearest = math.inf
    for h in dimensions:
        at = positions(h, trials)
        having = np.flatnonzero(np.isfinite(at))[:top]
        if not len(having):
            continue
        cluster = at[having]
        scores = outward_scores(study, trials, h)
        for end, distance, score in zip(
            ("lower", "upper"), (cluster.mean(), 1 - cluster.mean()), scores, strict=True
        ):
            if is_limit(h, end):
                continue
            nearest = min(nearest, float(distance))
            if distance <= near_fraction and score >= min_slope_score:
                bound = h.min_value if end == "lower" else h.max_value
                proposed = expanded(h, end, expand_fraction)
                found.append(
                    Expansion(
                        h.name,
                        end,
                        float(bound or 0),
                        proposed,
                        float(distance),
                        score,
                        tuple(trials[i].trial_id for i in having),
                    )
                )
    found.sort(key=lambda expansion: -expansion.slope_score)
    numbers = {"nearest": nearest, "ends": float(len(found))}
    ids = tuple(trial.trial_id for trial in trials[:top])
    here = best_trials(len(ids)).capitalize()
    if not found:
        evidence = f"{here} {'is' if len(ids) == 1 else 'are'} inside all ranges"
        return _finding("ok", evidence, thresholds, numbers, ids)
    first = found[0]
    if first.trials != ids:
        ids = first.trials
        here = f"Of those that have {first.name} {best_trials(len(ids))}"
    evidence = (
        f"{here} {'is' if len(ids) == 1 else 'are'} on average {first.cluster:.0%} of the range "
        f"away from the {first.end} end of {first.name}, {format_value(first.bound)}, and the "
        f"objective still improves there ({first.slope_score:.1f} standard errors)"
    )
    remedy = f"{'; '.join(map(str, found))}. Search again."
    return _finding(
        "act", evidence, thresholds, numbers, ids, remedy[0].upper() + remedy[1:], tuple(found)
    )


def outward_scores(
    study: Study, trials: tuple[Trial, ...], hyperparameter: Hyperparameter
) -> tuple[float, float]:
    """Return how the objective improves outward at the lower and the upper end.

    The slope there of a quadratic least-squares fit, over its standard error. The fit has the
    square of this hyperparameter and as much of the others as the trials can carry: their
    squares, or else only their linear parts, or nothing.

    Args:
        study: The study.
        trials: Completed trials.
        hyperparameter: One that has a range.
    """
    at = positions(hyperparameter, trials)
    kept = np.isfinite(at)
    cost = shown_costs(study, trials)[kept]
    at = at[kept]
    if len(at) < FEWEST_TRIALS:
        return 0.0, 0.0
    own = np.stack([np.ones_like(at), at, at**2], axis=1)
    others = [
        column[kept]
        for h in ranged(study)
        if h.name != hyperparameter.name and np.isfinite(column := positions(h, trials)).all()
    ]
    columns = [own]
    for power in (1, 2):
        if len(at) >= 2 * (3 + power * len(others)) and others:
            columns.append(np.stack([column**power for column in others], axis=1))
    design = np.concatenate(columns, axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ cost
    freedom = len(at) - np.linalg.matrix_rank(design)
    residual = cost - design @ coefficients
    variance = float(residual @ residual) / max(freedom, 1)

    def score(direction: np.ndarray) -> float:
        error = math.sqrt(max(variance * float(direction @ inverse @ direction), 0.0))
        return over(-float(direction @ coefficients), error)

    lower, upper = np.zeros(design.shape[1]), np.zeros(design.shape[1])
    lower[1] = -1.0
    upper[1:3] = 1.0, 2.0
    return score(lower), score(upper)


def shown_costs(study: Study, trials: tuple[Trial, ...]) -> np.ndarray:
    """Return costs of which the worst are those that a picture shows, float64 (n,)."""
    cost = costs(study, trials)
    limit = clip_limit([t.objective for t in trials if t.objective is not None], study.objective)
    return cost if limit is None else np.minimum(cost, study.objective.cost(limit))


def is_limit(hyperparameter: Hyperparameter, end: str) -> bool:
    """Return whether the range cannot go on at this end: it is 0 or, of fractions, 1."""
    if hyperparameter.sampling == "log":
        return False
    bound = hyperparameter.min_value if end == "lower" else hyperparameter.max_value
    if end == "lower" and hyperparameter.kind == "int":
        return bound in (0, 1)
    return bound == 0 if end == "lower" else bound == 1


def expanded(hyperparameter: Hyperparameter, end: str, fraction: float) -> float:
    """Return the bound moved outward by `fraction` of the range, on its sampling scale.

    >>> rate = Hyperparameter("learning_rate", "float", "log", 1e-4, 1e-2)
    >>> round(expanded(rate, "upper", 0.5), 6)
    0.1
    >>> expanded(Hyperparameter("dropout", "float", "linear", 0.1, 0.8), "upper", 0.5)
    0.9
    """
    low, high = float(hyperparameter.min_value or 0), float(hyperparameter.max_value or 0)
    moved = value_at(hyperparameter, -fraction if end == "lower" else 1 + fraction)
    if hyperparameter.sampling != "log":
        # Half the way to a limit, rather than at it or beyond.
        if end == "lower" and low > 0 >= moved:
            moved = low / 2
        if end == "upper" and low >= 0 and high < 1 and not moved < (1 + high) / 2:
            moved = (1 + high) / 2
    if hyperparameter.kind == "int":
        return float(math.floor(moved) if end == "lower" else math.ceil(moved))
    return moved


def _finding(
    verdict: Verdict,
    evidence: str,
    thresholds: dict[str, float],
    numbers: dict[str, float] | None = None,
    trials: tuple[str, ...] = (),
    remedy: str = "",
    expansions: tuple[Expansion, ...] = (),
) -> BoundaryFinding:
    return BoundaryFinding(
        name="search_space_boundary",
        source="D1",
        verdict=verdict,
        evidence=evidence,
        remedy=remedy,
        numbers=numbers or {},
        thresholds=thresholds,
        trials=trials,
        expansions=expansions,
    )
