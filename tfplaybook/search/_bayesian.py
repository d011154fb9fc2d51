"""`BayesianOracle` and `BayesianSearch`: Bayesian optimization that starts from earlier trials."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner as kt
import numpy as np
from numpy.typing import NDArray

from tfplaybook._arguments import check_count
from tfplaybook._keras_tuner import TrialStatus
from tfplaybook.search._embedding import Embedding
from tfplaybook.search._gaussian_process import expected_improvement
from tfplaybook.search._halton import halton
from tfplaybook.search._oracle import QuasiRandomOracle
from tfplaybook.search._outcome import is_infeasible
from tfplaybook.search._sequence import Point, configurations
from tfplaybook.search._study_file import StudyFile
from tfplaybook.search._tuner import QuasiRandomSearch
from tfplaybook.search._values import Value, check_value

_CANDIDATES = 1024
_LOCAL_CANDIDATES = 128
_BEST_POINTS = 4
_SCALES = (0.1, 0.02)
_INITIAL_PER_DIMENSION = 3

Prior = Sequence[tuple[Mapping[str, Value], float | None]]


class BayesianOracle(QuasiRandomOracle):
    """Suggest the points at which the objective is expected to improve most.

    For the time after exploration (G3): it starts from the finished trials of an earlier study,
    `prior`, and models all trials by a Gaussian process. Infeasible trials count with the worst
    objective, so that it learns where training diverges and does not stall there (D3). As long as
    fewer than `num_initial_points` outcomes are known, its points are quasi-random.

    What a trial gets depends on those that have ended when it begins. A trial that is interrupted
    keeps its point; otherwise everything is as with `QuasiRandomOracle`.

    Examples:
        >>> import keras_tuner as kt, tfplaybook as pb
        >>> space = kt.HyperParameters()
        >>> _ = space.Float("x", 0.0, 1.0)
        >>> prior = [({"x": x / 8}, (x / 8 - 0.3) ** 2) for x in range(8)]
        >>> oracle = pb.search.BayesianOracle(space, prior=prior, objective="val_loss")

    Args:
        space: The search space, such as `study.refine().hyperparameters()`; None when the
            hypermodel declares it.
        prior: Values by name with the objective that they gave, None or NaN if they were
            infeasible: `study.refine().prior`. All within `space`.
        num_initial_points: How many outcomes, at least 2, have to be known for the model, those of
            `prior` among them. Default: three per hyperparameter that is varied.
        **options: Those of `QuasiRandomOracle`: `objective`, `max_trials`, `seed`, ...

    Raises:
        ValueError: An argument is outside its range, or a trial of `prior` is outside `space`.
        ImportError: scikit-learn or SciPy is missing: `pip install "tfplaybook[analysis]"`.

    Source: playbook G3, D3; Snoek et al., 2012.
    """

    def __init__(
        self,
        space: kt.HyperParameters | None = None,
        *,
        prior: Prior = (),
        num_initial_points: int | None = None,
        **options: Any,
    ):
        _import_analysis()
        super().__init__(hyperparameters=space, **options)
        if num_initial_points is not None:
            check_count("num_initial_points", num_initial_points, minimum=2)
        self.num_initial_points = num_initial_points
        self.prior = [(dict(values), _finite(objective)) for values, objective in prior]

    def point(self, index: int) -> dict[str, Value]:
        """Return the values of the hyperparameters that are active at trial `index`.

        Raises:
            ValueError: The trial has not begun, and what it gets is not known yet.
        """
        trial = self.trials.get(f"{check_count('index', index, minimum=0):04d}")
        if trial is None:
            raise ValueError(
                "`index` must be that of a trial that has begun: others depend on its outcome. "
                f"Received: {index}."
            )
        return dict(trial.hyperparameters.values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the point of a new trial in the form that KerasTuner asks for."""
        embedding = Embedding(self.hyperparameters.space)
        known = self._outcomes()
        enough = self.num_initial_points or max(2, _INITIAL_PER_DIMENSION * embedding.dimensions)
        if len(known) < enough or trial_id in self._enqueued or not embedding.dimensions:
            values = QuasiRandomOracle.point(self, int(trial_id))
        else:
            values = self._improving(embedding, known, int(trial_id))
        return {"status": TrialStatus.RUNNING, "values": values}

    def _improving(
        self, embedding: Embedding, known: list[tuple[Point, float]], number: int
    ) -> Point:
        """Return the candidate that is expected to improve most and has not been tried."""
        pending = [trial.hyperparameters.values for trial in self.ongoing_trials.values()]
        tried = {tuple(trial.hyperparameters.values.items()) for trial in self.trials.values()}
        candidates = [
            point
            for point in self._candidates(embedding, known, number)
            if tuple(point.items()) not in tried
        ]
        # An enumerated space whose last points are being run has none that is new.
        if not candidates:
            return QuasiRandomOracle.point(self, number)
        gains = expected_improvement(
            embedding.vectors([point for point, _ in known]),
            np.array([cost for _, cost in known]),
            embedding.vectors(pending) if pending else np.empty((0, 0)),
            embedding.vectors(candidates),
            seed=self._seed_of(number),
        )
        return candidates[int(np.argmax(gains))]

    def _candidates(
        self, embedding: Embedding, known: list[tuple[Point, float]], number: int
    ) -> list[Point]:
        everything = configurations(self.hyperparameters.space, at_most=_CANDIDATES)
        if everything is not None:
            return everything
        seed = self._seed_of(number)
        coordinates: list[NDArray[np.float64]] = [
            halton(np.arange(_CANDIDATES), embedding.dimensions, seed=seed)
        ]
        generator = np.random.default_rng(seed)
        feasible = [(cost, place) for place, (_, cost) in enumerate(known) if math.isfinite(cost)]
        for _, place in sorted(feasible)[:_BEST_POINTS]:
            best = known[place][0]
            for scale in _SCALES:
                coordinates.append(embedding.near(best, _LOCAL_CANDIDATES, scale, generator))
        return [embedding.point(row) for row in np.concatenate(coordinates)]

    def _outcomes(self) -> list[tuple[Point, float]]:
        """Return the points with a known cost, NaN for infeasible ones; lower is better."""
        sign = -1.0 if self.objective.direction == "max" else 1.0
        known = [(dict(v), math.nan if y is None else sign * y) for v, y in self.prior]
        for trial in self.trials.values():
            values = dict(trial.hyperparameters.values)
            if trial.status == TrialStatus.COMPLETED:
                known.append((values, sign * float(trial.score or 0.0)))
            elif trial.status == TrialStatus.FAILED and is_infeasible(trial):
                known.append((values, math.nan))
        return known

    def _seed_of(self, number: int) -> int:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(self.start_index + number,))
        return int(sequence.generate_state(1, np.uint32)[0])

    def _describe(self) -> StudyFile:
        described = super()._describe()
        if self._study is not None:
            return described
        self._check_prior()
        prior = [{"values": values, "objective": y} for values, y in self.prior]
        return dataclasses.replace(described, prior=prior)

    def _check_prior(self) -> None:
        for number, (values, _) in enumerate(self.prior):
            for hyperparameter in self.hyperparameters.space:
                if all(condition.is_active(values) for condition in hyperparameter.conditions):
                    name = hyperparameter.name
                    if name not in values:
                        raise ValueError(f"`prior` must have {name!r} in trial {number}.")
                    try:
                        values[name] = check_value(hyperparameter, values[name])
                    except ValueError as error:
                        raise ValueError(
                            f"`prior` must lie within the space. In trial {number}, {error}"
                        ) from error


class BayesianSearch(QuasiRandomSearch):
    """Search hyperparameters by Bayesian optimization, starting from the trials of a study.

    Everything but the points is as in `QuasiRandomSearch`: run directories, infeasible trials, what
    happens after an interrupt, many processes. The points are those of `BayesianOracle`.

    ```python
    refined = tfplaybook.studies.load("studies/round1").refine()
    tuner = tfplaybook.search.BayesianSearch(
        build_model, objective="val_loss", max_trials=20, directory="studies",
        project_name="round2", hyperparameters=refined.hyperparameters(), prior=refined.prior)
    ```

    Args:
        hypermodel: As for `QuasiRandomSearch`.
        prior: As for `BayesianOracle`.
        num_initial_points: As for `BayesianOracle`.
        **options: Those of `QuasiRandomSearch`.

    Raises:
        ValueError: As `QuasiRandomSearch`, or a trial of `prior` is outside the space.
        ImportError: scikit-learn or SciPy is missing: `pip install "tfplaybook[analysis]"`.

    Source: playbook G3, D3.
    """

    def __init__(
        self,
        hypermodel: Any,
        *,
        prior: Prior = (),
        num_initial_points: int | None = None,
        **options: Any,
    ):
        self._bayesian: dict[str, Any] = {"prior": prior, "num_initial_points": num_initial_points}
        super().__init__(hypermodel, **options)

    def make_oracle(self, **options: Any) -> BayesianOracle:
        """Return the oracle with these options."""
        space = options.pop("hyperparameters")
        return BayesianOracle(space, **self._bayesian, **options)


def _finite(objective: float | None) -> float | None:
    if objective is None or not math.isfinite(objective):
        return None
    return float(objective)


def _import_analysis() -> None:
    """Fail at once, and not when the first points have been trained."""
    try:
        import scipy.special  # noqa: F401
        import sklearn.gaussian_process  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Bayesian optimization needs scikit-learn and SciPy: pip install "tfplaybook[analysis]"'
        ) from error
