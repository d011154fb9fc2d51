"""Bayesian optimization: closed forms of the model, and searches that start from a prior."""

import math

import keras_tuner as kt
import numpy as np
import pytest
from hypermodels import Parabola

from tfplaybook.search import BayesianOracle, BayesianSearch, QuasiRandomOracle
from tfplaybook.search._embedding import Embedding
from tfplaybook.search._gaussian_process import expected_improvement


def space_of(*names):
    space = kt.HyperParameters()
    for name in names:
        space.Float(name, 0.0, 1.0)
    return space


@pytest.fixture
def make_oracle(tmp_path):
    def make(space, **options):
        options = {"objective": kt.Objective("cost", "min"), "max_trials": 8, **options}
        oracle = BayesianOracle(space, **options)
        oracle.verbose = 0
        # What every `keras_tuner.Tuner` does with its oracle.
        oracle._set_project_dir(tmp_path, "study")
        return oracle

    return make


def run(oracle, function, count):
    values = []
    for _ in range(count):
        trial = oracle.create_trial("tuner0")
        values.append(dict(trial.hyperparameters.values))
        oracle.update_trial(trial.trial_id, {"cost": function(values[-1])})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return values


GRID = np.linspace(0.0, 0.999, 200)[:, None]
NOTHING = np.empty((0, 1))


class TestExpectedImprovement:
    def test_it_is_where_a_parabola_is_lowest(self):
        points = np.linspace(0.0, 1.0, 7)[:, None]
        gains = expected_improvement(points, (points[:, 0] - 0.6) ** 2, NOTHING, GRID, seed=0)
        assert gains.min() >= 0.0
        assert GRID[gains.argmax(), 0] == pytest.approx(0.6, abs=0.05)

    def test_infeasible_points_count_as_the_worst(self):
        points = np.linspace(0.0, 1.0, 9)[:, None]
        costs = np.where(points[:, 0] > 0.5, np.nan, 1.0 - points[:, 0])
        gains = expected_improvement(points, costs, NOTHING, GRID, seed=0)
        assert 0.3 < GRID[gains.argmax(), 0] < 0.65
        assert gains[GRID[:, 0] > 0.8].max() < gains.max() / 10

    def test_nothing_but_infeasible_points(self):
        gains = expected_improvement(GRID[:3], np.full(3, np.nan), NOTHING, GRID, seed=0)
        assert np.isfinite(gains).all()

    def test_a_pending_point_sends_others_elsewhere(self):
        points = np.array([[0.0], [1.0]])
        costs = np.array([0.3, 0.0])
        first = GRID[[expected_improvement(points, costs, NOTHING, GRID, seed=0).argmax()]]
        second = GRID[[expected_improvement(points, costs, first, GRID, seed=0).argmax()]]
        assert abs(first - second) > 0.02


def test_categories_are_equally_far_from_each_other():
    space = space_of("x")
    space.Choice("kind", ["a", "b", "c"])
    space.Float("slope", 0.0, 1.0, parent_name="kind", parent_values=["b"])
    embedding = Embedding(space.space)
    points = [{"x": 0.25, "kind": kind} for kind in "abc"]
    points[1]["slope"] = 1.0
    np.testing.assert_allclose(
        embedding.vectors(points),
        [[0.25, 1, 0, 0, 0.5], [0.25, 0, 1, 0, 1.0], [0.25, 0, 0, 1, 0.5]],
    )
    assert embedding.point(np.array([0.25, 0.5, 0.75])) == {"x": 0.25, "kind": "b", "slope": 0.75}
    near = embedding.near(points[0], 200, 0.1, np.random.default_rng(0))
    assert ((near >= 0) & (near < 1)).all()
    assert {embedding.point(row)["kind"] for row in near} == {"a", "b", "c"}


class TestOracle:
    def test_the_first_points_are_quasi_random(self, make_oracle):
        values = run(make_oracle(space_of("x", "y")), lambda v: v["x"], 6)
        expected = QuasiRandomOracle("loss", 6, hyperparameters=space_of("x", "y"))
        assert values == [expected.point(i) for i in range(6)]

    def test_a_prior_takes_their_place(self, make_oracle):
        prior = [({"x": x}, (x - 0.7) ** 2) for x in np.linspace(0.0, 1.0, 8).tolist()]
        values = run(make_oracle(space_of("x"), prior=prior), lambda v: (v["x"] - 0.7) ** 2, 4)
        assert min(abs(v["x"] - 0.7) for v in values) < 0.02

    def test_the_direction(self, make_oracle):
        prior = [({"x": x}, -((x - 0.7) ** 2)) for x in np.linspace(0.0, 1.0, 8).tolist()]
        oracle = make_oracle(space_of("x"), prior=prior, objective=kt.Objective("cost", "max"))
        assert run(oracle, lambda v: 0.0, 1)[0]["x"] == pytest.approx(0.7, abs=0.1)

    def test_it_does_not_stall_among_infeasible_trials(self, make_oracle):
        def cost(values):
            return math.nan if values["x"] > 0.5 else 1.0 - values["x"]

        oracle = make_oracle(space_of("x", "y"), max_trials=24, num_initial_points=6)
        costs = [cost(values) for values in run(oracle, cost, 24)]
        feasible = [c for c in costs[6:] if not math.isnan(c)]
        assert len(feasible) >= 9
        assert min(feasible) < 0.55

    def test_a_small_space_ends_without_repeats(self, make_oracle):
        space = kt.HyperParameters()
        space.Choice("kind", ["a", "b", "c"])
        space.Boolean("flag")
        oracle = make_oracle(space, num_initial_points=2)
        values = run(oracle, lambda v: "abc".index(v["kind"]), 6)
        assert len({tuple(v.items()) for v in values}) == 6
        assert oracle.create_trial("tuner0").status == "STOPPED"

    def test_workers_get_different_points(self, make_oracle):
        prior = [({"x": x}, (x - 0.7) ** 2) for x in np.linspace(0.0, 1.0, 8).tolist()]
        oracle = make_oracle(space_of("x"), prior=prior)
        trials = [oracle.create_trial(f"worker{i}") for i in range(4)]
        assert len({t.hyperparameters.values["x"] for t in trials}) == 4

    def test_an_interrupted_trial_keeps_its_point(self, make_oracle):
        prior = [({"x": x / 4}, x) for x in range(4)]
        trial = make_oracle(space_of("x"), prior=prior).create_trial("tuner0")
        again = make_oracle(space_of("x"), prior=prior).create_trial("tuner0")
        assert again.hyperparameters.values == trial.hyperparameters.values

    def test_another_prior_is_another_study(self, make_oracle, tmp_path):
        prior = [({"x": x / 4}, x) for x in range(4)]
        run(make_oracle(space_of("x"), prior=prior), lambda v: v["x"], 1)
        with pytest.raises(ValueError, match="Bayesian with 4 trials to start from there"):
            make_oracle(space_of("x")).create_trial("tuner0")
        objective = kt.Objective("cost", "min")
        plain = QuasiRandomOracle(objective, 8, hyperparameters=space_of("x"))
        plain._set_project_dir(tmp_path, "study")
        with pytest.raises(ValueError, match="there, quasi-random here"):
            plain.create_trial("tuner0")

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"x": 2.0}, r"must lie within the space. In trial 0, 'x' must be"),
            ({}, "must have 'x'"),
        ],
    )
    def test_a_prior_outside_the_space(self, make_oracle, values, message):
        with pytest.raises(ValueError, match=message):
            make_oracle(space_of("x"), prior=[(values, 0.0)]).create_trial("tuner0")

    def test_a_point_that_is_not_known_yet(self, make_oracle):
        with pytest.raises(ValueError, match="that has begun"):
            make_oracle(space_of("x")).point(0)


def test_a_search(tmp_path):
    tuner = BayesianSearch(
        Parabola(),
        objective=None,
        max_trials=10,
        num_initial_points=6,
        directory=tmp_path,
        project_name="study",
    )
    tuner.search(verbose=0)
    assert tuner.get_best_hyperparameters()[0]["x"] == pytest.approx(0.3, abs=0.1)
