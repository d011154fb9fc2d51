"""D3 and D4: how many trials diverged, and where."""

import dataclasses
import math
from typing import Any

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._boundary import outward_scores
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, best_trials, count_of
from tfplaybook.studies._diagnoses._positions import positions, ranged, value_at
from tfplaybook.studies._format import format_value
from tfplaybook.studies._records import Study, Trial

_FEWEST_TRIALS = 5


@dataclasses.dataclass(frozen=True)
class Edge:
    """A value of a hyperparameter beyond which every trial is infeasible (D4).

    Args:
        name: Name of the hyperparameter.
        side: `"above"` or `"below"`: on which side of `value` the trials fail.
        value: Half way, on the sampling scale, between the last feasible trial and the next.
        position: Where `value` is in the range: 0 at its lower end, 1 at its upper.
        beyond: Number of trials beyond it.
    """

    name: str
    side: str
    value: float
    position: float
    beyond: int


@dataclasses.dataclass(frozen=True)
class InfeasibleFinding(Finding):
    """The answer of `infeasible_fraction` and `stability_edge`.

    Args:
        edges: The edges beyond which every trial is infeasible, the one with most trials beyond
            it first.
    """

    edges: tuple[Edge, ...] = ()


def infeasible_fraction(
    study: Study,
    *,
    max_fraction: float = 0.4,
    bad_spreads: float = 20.0,
    max_chance: float = 0.01,
) -> InfeasibleFinding:
    """Say whether too many trials are infeasible, and beyond which edges all of them are (D3).

    Infeasible are trials that diverged, that did not run to the end, and completed ones whose
    objective is worse than `median + bad_spreads (median - best)` of the completed trials.

    Args:
        study: The study; at least 5 trials that have ended.
        max_fraction: Largest fraction of infeasible trials that needs no action, 0 to 1.
        bad_spreads: How much worse than the median an objective must be to count as infeasible.
        max_chance: Largest probability with which an edge may look like one by chance.

    Raises:
        ValueError: If an option is out of range.
    """
    check_number("max_fraction", max_fraction, minimum=0.0, maximum=1.0)
    ended = tuple(trial for trial in study.trials if trial.status != "running")
    thresholds = {"max_fraction": max_fraction, "bad_spreads": bad_spreads}

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> InfeasibleFinding:
        return InfeasibleFinding(
            "infeasible_fraction", "D3", verdict, evidence, thresholds=thresholds, **parts
        )

    if len(ended) < _FEWEST_TRIALS:
        return finding(
            "unknown",
            f"{count_of(len(ended), 'trial')} ended, fewer than {_FEWEST_TRIALS}",
            remedy="Run more trials.",
        )
    bad = is_infeasible(study, ended, bad_spreads=bad_spreads)
    fraction = float(bad.mean())
    edges = edges_of(study, ended, bad, max_chance=max_chance)
    where = [f"all {e.beyond} with {e.name} {e.side} {format_value(e.value)}" for e in edges]
    evidence = f"{int(bad.sum())} of {len(ended)} trials are infeasible ({fraction:.0%})"
    evidence += f": {', '.join(where)}" if where else ""
    numbers = {"fraction": fraction, "infeasible": float(bad.sum()), "ended": float(len(ended))}
    ids = tuple(trial.trial_id for trial, is_bad in zip(ended, bad, strict=True) if is_bad)
    if fraction <= max_fraction:
        return finding("ok", evidence, numbers=numbers, trials=ids, edges=edges)
    remedy = (
        "Look for a bug first: no trial works."
        if bad.all()
        else f"Search {edges[0].name} only {_other_side(edges[0])} {format_value(edges[0].value)}."
        if edges
        else "Change or reparameterize the space; they follow no single hyperparameter, so look "
        "for a bug too."
    )
    return finding("act", evidence, numbers=numbers, trials=ids, edges=edges, remedy=remedy)


def stability_edge(
    study: Study,
    *,
    top: int = 3,
    near_fraction: float = 0.35,
    min_slope_score: float = -1.5,
    bad_spreads: float = 20.0,
    max_chance: float = 0.01,
) -> InfeasibleFinding:
    """Say whether the best trials sit at an edge beyond which all trials diverge (D4).

    Then training is unstable where it would be best, and stabilizing it (K6) may give more than
    searching on: warmup, then gradient clipping. The cluster is near the edge as in
    `search_space_boundary`, but the objective need not improve beyond it, only not get worse.

    Args:
        study: The study; at least 5 trials that have ended.
        top: Number of best trials that count as the cluster, at least 1.
        near_fraction: Largest mean distance of the cluster from the edge, as a fraction of the
            range between the edge and the far end, 0 to 0.5.
        min_slope_score: Smallest improvement towards the edge, at it, in standard errors.
        bad_spreads: As in `infeasible_fraction`.
        max_chance: As in `infeasible_fraction`.

    Raises:
        ValueError: If an option is out of range.
    """
    top = check_count("top", top, minimum=1)
    check_number("near_fraction", near_fraction, minimum=0.0, maximum=0.5)
    ended = tuple(trial for trial in study.trials if trial.status != "running")
    check_number("min_slope_score", min_slope_score)
    thresholds = {
        "near_fraction": near_fraction,
        "min_slope_score": min_slope_score,
        "top": float(top),
        "max_chance": max_chance,
    }

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> InfeasibleFinding:
        return InfeasibleFinding(
            "stability_edge", "D4", verdict, evidence, thresholds=thresholds, **parts
        )

    if len(ended) < _FEWEST_TRIALS or not study.completed:
        evidence = f"{count_of(len(study.completed), 'completed trial')} of {len(ended)} that ended"
        return finding("unknown", evidence, remedy="Run more trials.")
    bad = is_infeasible(study, ended, bad_spreads=bad_spreads)
    edges = edges_of(study, ended, bad, max_chance=max_chance)
    if not edges:
        return finding("ok", "There is no value beyond which all trials are infeasible")
    best = study.best(top)
    ids = tuple(trial.trial_id for trial in best)
    distances = {edge: _distance(study, best, edge) for edge in edges}
    edge = min(edges, key=lambda e: distances[e])
    where = f"{edge.name} {edge.side} {format_value(edge.value)}"
    evidence = (
        f"All {edge.beyond} trials with {where} are infeasible, and {best_trials(len(best))} on "
        f"average {distances[edge]:.0%} of the feasible range away"
    )
    slope_score = _slope_score(study, edge)
    numbers = {
        "distance": distances[edge],
        "slope_score": slope_score,
        "edge": edge.value,
        "beyond": float(edge.beyond),
    }
    if distances[edge] > near_fraction or slope_score < min_slope_score:
        return finding("ok", evidence, numbers=numbers, trials=ids, edges=edges)
    remedy = (
        "Training is unstable where it is best: add a warmup, then clip gradients (K6), and "
        f"search {edge.name} again."
    )
    return finding("act", evidence, numbers=numbers, trials=ids, edges=edges, remedy=remedy)


def is_infeasible(study: Study, ended: tuple[Trial, ...], *, bad_spreads: float) -> np.ndarray:
    """Return which trials diverged, failed or are hopelessly bad, bool (n,)."""
    check_number("bad_spreads", bad_spreads, above=0.0)
    completed = [
        study.objective.cost(t.objective) for t in study.completed if t.objective is not None
    ]
    limit = math.inf
    if completed:
        median, best = float(np.median(completed)), min(completed)
        # When half of the trials equal the best, nothing tells a bad one from a good one.
        limit = median + bad_spreads * (median - best) if median > best else math.inf
    return np.array(
        [
            trial.status != "completed"
            or trial.objective is None
            or study.objective.cost(trial.objective) > limit
            for trial in ended
        ],
        dtype=bool,
    )


def edges_of(
    study: Study, ended: tuple[Trial, ...], bad: np.ndarray, *, max_chance: float
) -> tuple[Edge, ...]:
    """Return the edges beyond which all trials are bad, the one with most beyond it first.

    That the outermost r of n trials are among the k bad ones by chance has the probability
    k (k - 1) ... (k - r + 1) / (n (n - 1) ... (n - r + 1)).

    Args:
        study: The study.
        ended: Its trials that have ended.
        bad: Which of them are infeasible, bool (n,).
        max_chance: Largest such probability for any of the ends of all ranges.
    """
    check_number("max_chance", max_chance, above=0.0, maximum=1.0)
    dimensions = ranged(study)
    found = []
    for h in dimensions:
        at = positions(h, ended)
        kept = np.isfinite(at)
        for side in ("below", "above"):
            order = np.argsort(at[kept] if side == "below" else -at[kept], kind="stable")
            sorted_at, sorted_bad = at[kept][order], bad[kept][order]
            run = int(np.argmin(sorted_bad)) if not sorted_bad.all() else 0
            k, n = int(sorted_bad.sum()), len(sorted_bad)
            chance = math.prod((k - i) / (n - i) for i in range(run))
            if run and chance * 2 * len(dimensions) <= max_chance:
                middle = float(sorted_at[run - 1] + sorted_at[run]) / 2
                found.append(Edge(h.name, side, value_at(h, middle), middle, run))
    return tuple(sorted(found, key=lambda edge: -edge.beyond))


def _distance(study: Study, best: tuple[Trial, ...], edge: Edge) -> float:
    """Return how far the best trials are from the edge, over the length of its feasible side."""
    at = positions(study.hyperparameter(edge.name), best)
    at = at[np.isfinite(at)]
    if not len(at):
        return math.inf
    feasible = edge.position if edge.side == "above" else 1 - edge.position
    return abs(float(at.mean()) - edge.position) / feasible


def _slope_score(study: Study, edge: Edge) -> float:
    """Return how the objective improves towards the edge, as if the range ended there."""
    h = study.hyperparameter(edge.name)
    feasible = (
        dataclasses.replace(h, max_value=edge.value)
        if edge.side == "above"
        else dataclasses.replace(h, min_value=edge.value)
    )
    scores = outward_scores(study, study.ranked(), feasible)
    return scores[1] if edge.side == "above" else scores[0]


def _other_side(edge: Edge) -> str:
    return "below" if edge.side == "above" else "above"
