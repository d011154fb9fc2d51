"""Points that the user gives: first, marked, and no other point moves."""

import keras_tuner as kt
import numpy as np
import pytest
from hypermodels import Parabola

from tfplaybook import studies
from tfplaybook.search import QuasiRandomOracle


def test_given_points_come_first_and_are_marked(make_tuner, parabola, tmp_path, read_study):
    tuner = make_tuner(parabola)
    plain = [tuner.oracle.point(index) for index in range(4)]
    tuner.enqueue({"x": 0.3, "kind": "fancy"})
    tuner.enqueue({"kind": "fancy"})
    tuner.search(verbose=0)
    assert parabola.seen == [
        {"x": 0.3, "kind": "fancy"},
        {"x": plain[1]["x"], "kind": "fancy"},
        *plain[2:],
    ]
    assert read_study()["enqueued"] == {
        "0000": {"x": 0.3, "kind": "fancy"},
        "0001": {"kind": "fancy"},
    }
    study = studies.load(tmp_path / "study")
    assert [trial.enqueued for trial in study.trials] == [True, True, False, False]


def test_a_script_that_is_run_again_enqueues_nothing_twice(make_tuner, parabola):
    for max_trials in (2, 4):
        tuner = make_tuner(parabola, max_trials=max_trials)
        tuner.enqueue({"x": 0.3})
        tuner.search(verbose=0)
    assert [values["x"] == 0.3 for values in parabola.seen] == [True, False, False, False]


def test_the_same_level_is_enqueued_once():
    space = kt.HyperParameters()
    space.Float("x", 0, 1, step=0.1)
    oracle = QuasiRandomOracle("val_loss", 4, hyperparameters=space)
    for value in (0.3, 3 * 0.1, np.float64(0.3)):
        oracle.enqueue({"x": value})
    oracle.enqueue({"x": 0.4})
    assert [oracle.point(index)["x"] for index in range(2)] == [0.3, 0.4]
    assert oracle.point(2)["x"] not in (0.3, 0.4)


def test_they_can_be_given_when_a_study_goes_on(make_tuner, parabola):
    make_tuner(parabola, max_trials=2).search(verbose=0)
    tuner = make_tuner(parabola, max_trials=5)
    plain = [tuner.oracle.point(index) for index in range(5)]
    tuner.enqueue({"x": 1})
    tuner.search(verbose=0)
    assert parabola.seen == [*plain[:2], {**plain[2], "x": 1.0}, *plain[3:]]
    # Between two searches of one tuner as well.
    tuner.oracle.max_trials = 7
    tuner.enqueue({"x": 0.0})
    tuner.search(verbose=0)
    assert parabola.seen[5]["x"] == 0.0
    again = make_tuner(parabola, max_trials=7)
    assert again.remaining_trials == 0
    assert [again.oracle.point(index) for index in range(7)] == parabola.seen


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "`values` must be a dict from names to values. Received: None"),
        ({"y": 1.0}, r"`values` must be one of \['x', 'kind'\]. Received: 'y'"),
        ({"x": 2.0}, "'x' must be a number from 0.0 to 1.0. Received: 2.0"),
        ({"kind": "Fancy"}, r"'kind' must be one of \['plain', 'fancy'\]. Received: 'Fancy'"),
    ],
)
def test_values_outside_the_space_are_refused(make_tuner, parabola, values, message):
    tuner = make_tuner(parabola)
    with pytest.raises(ValueError, match=message):
        tuner.enqueue(values)
    assert tuner.oracle.point(0) == make_tuner(parabola, project_name="other").oracle.point(0)


def test_values_that_do_not_exist_together_are_refused(make_tuner):
    class Branch(Parabola):
        def build(self, hp):
            hp.Float("depth", 0.0, 1.0, parent_name="kind", parent_values=["fancy"]) if hp.Choice(
                "kind", ["plain", "fancy"]
            ) else None
            return super().build(hp)

    tuner = make_tuner(Branch())
    with pytest.raises(ValueError, match=r"exist together. Received \['depth'\].*their parents"):
        tuner.enqueue({"kind": "plain", "depth": 0.5})


def test_more_than_there_are_trials(make_tuner, parabola):
    tuner = make_tuner(parabola, max_trials=1)
    tuner.enqueue({"x": 0.1})
    with pytest.raises(ValueError, match="`max_trials` must be greater than 1 for another trial"):
        tuner.enqueue({"x": 0.2})


def test_before_the_space_is_known():
    with pytest.raises(ValueError, match="once the tuner is made"):
        QuasiRandomOracle("val_loss", 4).enqueue({"x": 0.1})
