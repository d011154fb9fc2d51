"""Which hyperparameters matter: Sobol indices of a Gaussian process fitted to the trials."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from tfplaybook._arguments import check_count, check_number
from tfplaybook.studies._diagnoses._boundary import shown_costs
from tfplaybook.studies._diagnoses._finding import Finding, Verdict, count_of
from tfplaybook.studies._diagnoses._positions import positions
from tfplaybook.studies._records import Hyperparameter, Study, Trial, Value

_SOBOL_POINTS = 512
_FEWEST_TRIALS = 10
_TRIALS_PER_DIMENSION = 4
_MEASURABLE = 0.5


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much of the variance of the objective a hyperparameter takes part in.

    Args:
        name: Name of the hyperparameter.
        total: Sobol's total index, 0 to 1: its share alone and together with others, mean over
            the resamples.
        deviation: Standard deviation of that over the resamples.
    """

    name: str
    total: float
    deviation: float


@dataclasses.dataclass(frozen=True)
class ImportanceFinding(Finding):
    """The answer of `importance`.

    Args:
        importances: Of every varied hyperparameter, the most important first; empty when nothing
            can be said.
    """

    importances: tuple[Importance, ...] = ()


def importance(
    study: Study,
    *,
    min_total: float = 0.01,
    min_explained: float = 0.3,
    resamples: int = 8,
    max_trials: int = 200,
    seed: int = 0,
) -> ImportanceFinding:
    """Say which hyperparameters matter for the objective, with uncertainty.

    A Gaussian process with a length scale per hyperparameter and noise is fitted to the trials,
    and the total indices of Sobol are taken from it (Saltelli et al., 2010). That is done
    `resamples` times, each time without another part of the trials, on which the explained
    variance is measured. Infeasible trials count with the worst objective that a picture shows. A
    hyperparameter that does not exist in a trial counts as in the middle of its range, and so it
    does where the process is evaluated without it: it matters only as far as it exists (C4).

    Args:
        study: The study; at least 10 trials and 4 per varied hyperparameter.
        min_total: Smallest total index of a hyperparameter that matters, 0 to 1.
        min_explained: Smallest explained variance of trials left out; below it nothing is said.
        resamples: Number of fits, at least 2.
        max_trials: Of more trials so many are drawn, at least 10: the time of a fit grows with the
            third power of their number.
        seed: Seed of the resamples and of the points at which the process is evaluated.

    Raises:
        ValueError: If an option is out of range.
        ImportError: If scikit-learn or SciPy is missing: `pip install "tfplaybook[analysis]"`.
    """
    check_number("min_total", min_total, minimum=0.0, maximum=1.0)
    check_number("min_explained", min_explained, maximum=1.0)
    resamples = check_count("resamples", resamples, minimum=2)
    max_trials = check_count("max_trials", max_trials, minimum=_FEWEST_TRIALS)
    seed = check_count("seed", seed, minimum=0)
    thresholds = {"min_total": min_total, "min_explained": min_explained}
    varied = study.varied
    trials = (*study.ranked(), *study.infeasible)

    def finding(verdict: Verdict, evidence: str, **parts: Any) -> ImportanceFinding:
        return ImportanceFinding(
            "importance", "E1", verdict, evidence, thresholds=thresholds, **parts
        )

    if not varied:
        return finding("unknown", "No hyperparameter is varied")
    needed = max(_FEWEST_TRIALS, _TRIALS_PER_DIMENSION * len(varied))
    if not study.completed:
        return finding("unknown", "No trial is completed")
    if len(trials) < needed:
        return finding(
            "unknown",
            f"{count_of(len(trials), 'trial')} for {count_of(len(varied), 'hyperparameter')}; at "
            f"least {needed} are needed",
            remedy="Run more trials.",
        )
    shown = shown_costs(study, study.ranked())
    cost = np.concatenate([shown, np.full(len(study.infeasible), shown.max())])
    drawn = np.sort(np.random.default_rng(seed).permutation(len(trials))[:max_trials])
    points = np.stack([_column(h, trials) for h in varied], axis=1)[drawn]
    cost = cost[drawn]
    if cost.std() == 0:
        return finding("unknown", f"All trials have the same {study.objective.name}")
    with _single_thread():
        totals, explained = _fit_resamples(points, cost, varied, resamples, seed)
    numbers = {"explained": explained, "trials": float(len(trials))}
    if explained < min_explained:
        return finding(
            "unknown",
            f"The hyperparameters explain {max(explained, 0.0):.0%} of the variance of trials "
            "left out: too few trials, much noise, or none matters",
            numbers=numbers,
            remedy="Run more trials, or vary something else.",
        )
    importances = tuple(
        sorted(
            (
                Importance(h.name, float(mean), float(deviation))
                for h, mean, deviation in zip(
                    varied, totals.mean(axis=0), totals.std(axis=0, ddof=1), strict=True
                )
            ),
            key=lambda entry: -entry.total,
        )
    )
    matter = [
        f"{i.name} ({i.total:.2f}±{i.deviation:.2f})" for i in importances if i.total >= min_total
    ]
    inert = [i.name for i in importances if i.total < min_total]
    evidence = f"What matters: {', '.join(matter)}" if matter else "No hyperparameter matters"
    evidence += f"; what hardly does: {', '.join(inert)}" if inert and matter else ""
    return finding(
        "ok",
        evidence,
        numbers={**numbers, **{i.name: i.total for i in importances}},
        importances=importances,
    )


def _column(hyperparameter: Hyperparameter, trials: tuple[Trial, ...]) -> np.ndarray:
    """Return the place of each trial in [0, 1], float64 (n,); categories own equal shares."""
    if hyperparameter.min_value is not None:
        return np.nan_to_num(positions(hyperparameter, trials), nan=0.5)
    values, name = hyperparameter.values, hyperparameter.name
    return np.array(
        [
            (values.index(t.values[name]) + 0.5) / len(values)
            if t.values.get(name) in values
            else 0.5
            for t in trials
        ]
    )


def _features(points: np.ndarray, varied: tuple[Hyperparameter, ...]) -> np.ndarray:
    """Return what the process sees: positions, and an indicator per category of a choice."""
    columns = []
    for column, h in zip(points.T, varied, strict=True):
        if h.min_value is not None or len(h.values) == 2:
            columns.append(column)
            continue
        category = np.minimum((column * len(h.values)).astype(int), len(h.values) - 1)
        columns += [(category == i).astype(float) for i in range(len(h.values))]
    return np.stack(columns, axis=1)


def _fit_resamples(
    points: np.ndarray,
    cost: np.ndarray,
    varied: tuple[Hyperparameter, ...],
    resamples: int,
    seed: int,
) -> tuple[np.ndarray, float]:
    """Return the total indices of each resample, float64 (resamples, d), and what they explain.

    Args:
        points: Places of the trials, float64 (n, d).
        cost: Their costs, float64 (n,).
        varied: The d hyperparameters.
        resamples: Number of parts of which each is left out once.
        seed: Seed of the parts.
    """
    import scipy.stats

    features = _features(points, varied)
    part = np.random.default_rng(seed).permutation(len(cost)) % resamples
    # SciPy 1.15 fails in one dimension, so there is always one that nothing depends on.
    uniform = [scipy.stats.uniform()] * (len(varied) + 1)
    totals, predicted = [], np.empty_like(cost)
    for left_out in range(resamples):
        kept = part != left_out
        mean, deviation = cost[kept].mean(), cost[kept].std() or 1.0
        process = _fitted(features[kept], (cost[kept] - mean) / deviation)
        if not kept.all():
            predicted[~kept] = process.predict(features[~kept]) * deviation + mean
        indices = scipy.stats.sobol_indices(
            func=lambda x, process=process: process.predict(
                _features(_settled(x[:-1].T, varied), varied)
            ),
            n=_SOBOL_POINTS,
            dists=uniform,
            rng=np.random.default_rng(seed),
        )
        totals.append(np.clip(np.nan_to_num(indices.total_order[:-1]), 0.0, 1.0))
    explained = 1 - float(((cost - predicted) ** 2).sum() / ((cost - cost.mean()) ** 2).sum())
    return np.array(totals), explained


def _settled(points: np.ndarray, varied: tuple[Hyperparameter, ...]) -> np.ndarray:
    """Move places to those that trials have: of a category, and where one does not exist (C4)."""
    settled = points.copy()
    for i, h in enumerate(varied):
        if h.min_value is None:
            count = len(h.values)
            settled[:, i] = (
                np.minimum((points[:, i] * count).astype(int), count - 1) + 0.5
            ) / count
    for i, h in enumerate(varied):
        for parent, allowed in h.conditions:
            settled[~_may_be(parent, allowed, settled, varied), i] = 0.5
    return settled


def _may_be(
    parent: str,
    allowed: tuple[Value, ...],
    settled: np.ndarray,
    varied: tuple[Hyperparameter, ...],
) -> np.ndarray:
    """Return where a parent of this declared name can have one of these values, bool (n,).

    Only a parent with categories can have another value; several under one name exclude each other,
    so that any of them counts.
    """
    found = [
        np.isin(np.round(settled[:, i] * len(p.values) - 0.5), [p.values.index(v) for v in those])
        for i, p in enumerate(varied)
        if (p.declared_name or p.name) == parent and p.min_value is None
        for those in [[v for v in allowed if v in p.values]]
    ]
    return np.any(found, axis=0) if found else np.ones(len(settled), dtype=bool)


def _fitted(features: np.ndarray, targets: np.ndarray) -> Any:
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    width = features.shape[1]
    kernel = kernels.ConstantKernel(1.0, (1e-2, 1e2)) * kernels.RBF(
        np.full(width, 0.7), (0.1, 30.0)
    ) + kernels.WhiteKernel(0.1, (1e-4, 2.0))
    process = GaussianProcessRegressor(kernel=kernel)
    with warnings.catch_warnings():
        # A length scale at its upper limit is how the process says that a dimension is inert.
        warnings.simplefilter("ignore")
        return process.fit(features, targets)


def _single_thread() -> Any:
    """Return a context without threads: for small matrices they wait longer than they work."""
    try:
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
        import threadpoolctl
    except ImportError as error:
        raise ImportError(
            "`importance` needs scikit-learn and SciPy, which are not installed: "
            'pip install "tfplaybook[analysis]".'
        ) from error
    return threadpoolctl.threadpool_limits(1)
