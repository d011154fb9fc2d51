"""The oracle alone: points, outcomes and bookkeeping, without training anything."""

import math

import keras_tuner as kt
import numpy as np
import pytest

from tfplaybook.search import QuasiRandomOracle, halton


def make_space():
    hp = kt.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Fixed("constant", 5)
    hp.Float("lr", 1e-4, 1e-1, sampling="log")
    hp.Boolean("flag")
    return hp


@pytest.fixture
def make_oracle(tmp_path):
    def make(**options):
        options = {"objective": "val_loss", "max_trials": 4, **options}
        oracle = QuasiRandomOracle(**{"hyperparameters": make_space(), **options})
        oracle.verbose = 0
        # What every `keras_tuner.Tuner` does with its oracle.
        oracle._set_project_dir(tmp_path, "study")
        return oracle

    return make


def run(oracle, *outcomes):
    """Run one trial per outcome: a number is its objective, a string its traceback."""
    trials = []
    for outcome in outcomes:
        trial = oracle.create_trial("tuner0")
        if isinstance(outcome, str):
            trial.status, trial.message = "INVALID", outcome
        else:
            oracle.update_trial(trial.trial_id, {"val_loss": outcome})
            trial.status = "COMPLETED"
        oracle.end_trial(trial)
        trials.append(trial)
    return trials


class TestPoints:
    def test_a_point_is_the_sequence_through_the_scales(self, make_oracle):
        oracle = make_oracle(seed=3, start_index=10)
        u = halton(10 + 6, 3, seed=3)[0]
        assert oracle.point(6) == {
            "x": pytest.approx(u[0]),
            "constant": 5,
            "lr": pytest.approx(1e-4 * 1000 ** u[1]),
            "flag": bool(u[2] >= 0.5),
        }

    def test_trials_get_the_points_in_order(self, make_oracle):
        oracle = make_oracle(start_index=2)
        trials = run(oracle, 1.0, 2.0, 3.0, 4.0)
        assert [t.hyperparameters.values for t in trials] == [oracle.point(i) for i in range(4)]
        assert [t.trial_id for t in trials] == ["0000", "0001", "0002", "0003"]
        assert oracle.create_trial("tuner0").status == "STOPPED"

    def test_start_index_continues_the_sequence(self, make_oracle):
        assert make_oracle(start_index=7).point(1) == make_oracle().point(8)

    def test_seed_zero_is_a_seed(self, make_oracle):
        assert make_oracle(seed=0).seed == 0
        assert make_oracle(seed=0).point(0) == make_oracle(seed=0).point(0)
        assert make_oracle(seed=0).point(0) != make_oracle(seed=1).point(0)

    def test_a_later_hyperparameter_leaves_the_earlier_ones(self, make_oracle):
        wider = make_space()
        wider.Choice("extra", ["a", "b"])
        before, after = make_oracle(), make_oracle(hyperparameters=wider)
        for index in range(8):
            values = after.point(index)
            del values["extra"]
            assert values == before.point(index)

    def test_values_are_plain_python(self, make_oracle):
        kinds = {name: type(value) for name, value in make_oracle().point(3).items()}
        assert kinds == {"x": float, "constant": int, "lr": float, "flag": bool}

    def test_bounds_may_be_of_numpy(self, make_oracle):
        space = kt.HyperParameters()
        space.Float("x", 0, 1, step=np.float32(0.25))
        oracle = make_oracle(hyperparameters=space)
        trial = oracle.create_trial("tuner0")
        assert type(trial.hyperparameters.values["x"]) is float

    def test_a_condition_on_a_step_holds(self, make_oracle):
        space = kt.HyperParameters()
        space.Float("x", 0, 1, step=0.1)
        space.Boolean("y", parent_name="x", parent_values=[0.3])
        oracle = make_oracle(hyperparameters=space, max_trials=20)
        trials = [oracle.create_trial(f"tuner{k}") for k in range(oracle.num_points)]
        values = [trial.hyperparameters.values for trial in trials]
        assert sorted(v["x"] for v in values if "y" in v) == [0.3, 0.3]
        assert len(values) == 12
        again = make_oracle(hyperparameters=space, max_trials=20)
        again.resume()
        assert [t.hyperparameters.values for t in again.trials.values()] == values

    def test_the_global_generators_are_left_alone(self, make_oracle):
        import random

        random.seed(1)
        expected = random.random()
        random.seed(1)
        make_oracle(seed=0).point(0)
        assert random.random() == expected

    def test_conditional_hyperparameters_appear_with_their_parent_only(self, make_oracle):
        hp = kt.HyperParameters()
        hp.Choice("optimizer", ["sgd", "adam"])
        hp.Float("momentum", 0.0, 1.0, parent_name="optimizer", parent_values=["sgd"])
        with hp.conditional_scope("optimizer", ["adam"]):
            hp.Float("beta", 0.0, 1.0)
            hp.Boolean("amsgrad")
            with hp.conditional_scope("amsgrad", [True]):
                hp.Float("decay", 0.0, 1.0)
        oracle = make_oracle(hyperparameters=hp)
        points = [oracle.point(index) for index in range(64)]
        names = {tuple(sorted(point)) for point in points}
        assert names == {
            ("momentum", "optimizer"),
            ("amsgrad", "beta", "optimizer"),
            ("amsgrad", "beta", "decay", "optimizer"),
        }
        # Each parameter keeps its own dimension, active or not.
        u = halton(range(64), 5, seed=0)
        for point, row in zip(points, u, strict=True):
            for name, coordinate in zip(("momentum", "beta", None, "decay"), row[1:], strict=True):
                if name in point:
                    assert point[name] == coordinate
        assert sum(point["optimizer"] == "sgd" for point in points) == 32


class TestOutcomes:
    def test_a_small_space_is_searched_without_repeats_and_then_ends(self, make_oracle):
        space = kt.HyperParameters()
        space.Boolean("flag")
        space.Choice("kind", ["a", "b", "c"])
        oracle = make_oracle(hyperparameters=space, max_trials=8)
        assert oracle.remaining_trials() == oracle.num_points == 6
        trials = run(oracle, *[1.0] * 6)
        cells = {tuple(trial.hyperparameters.values.items()) for trial in trials}
        assert len(cells) == 6
        assert oracle.create_trial("tuner0").status == "STOPPED"
        assert oracle.remaining_trials() == 0
        with pytest.raises(ValueError, match=r"`index` must be below 6.*Received: 6"):
            oracle.point(6)

    def test_a_space_of_constants_has_one_configuration(self, make_oracle):
        space = kt.HyperParameters()
        space.Fixed("depth", 3)
        oracle = make_oracle(hyperparameters=space)
        (trial,) = run(oracle, 1.0)
        assert trial.hyperparameters.values == {"depth": 3}
        assert oracle.create_trial("tuner0").status == "STOPPED"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("direction", ["min", "max"])
    def test_a_non_finite_objective_is_infeasible(self, make_oracle, read_study, value, direction):
        oracle = make_oracle(objective=kt.Objective("val_loss", direction))
        bad, good = run(oracle, value, 1.0)
        assert (bad.status, bad.score) == ("FAILED", None)
        assert bad.message == f"infeasible: val_loss was {value}"
        assert [t.trial_id for t in oracle.get_best_trials(5)] == [good.trial_id]
        stored = read_study("study/trial_0000/trial.json")
        assert (stored["status"], stored["message"]) == (bad.status, bad.message)

    def test_any_number_of_infeasible_trials_is_no_failure(self, make_oracle):
        oracle = make_oracle(max_trials=8)
        run(oracle, *[math.nan] * 8)
        assert oracle.remaining_trials() == 0
        assert oracle.get_best_trials(3) == []

    def test_an_infeasible_trial_is_not_retried(self, make_oracle):
        oracle = make_oracle(max_trials=2)
        run(oracle, math.nan, math.nan)
        assert oracle.create_trial("tuner0").status == "STOPPED"

    def test_a_failed_trial_keeps_its_traceback(self, make_oracle, read_study):
        run(make_oracle(), "Traceback: oh dear")
        stored = read_study("study/trial_0000/trial.json")
        assert (stored["status"], stored["message"]) == ("FAILED", "Traceback: oh dear")

    def test_failures_in_a_row_stop_the_search_but_not_the_next_one(self, make_oracle):
        oracle = make_oracle(max_trials=20, max_consecutive_failed_trials=3)
        run(oracle, "a", "b", 1.0, "c", "d", math.nan, "e", "f")
        with pytest.raises(RuntimeError, match=r"failed: 0006, 0007, 0008[\s\S]*the third"):
            run(oracle, "the third")
        again = make_oracle(max_trials=20)
        again.resume()
        rest = run(again, *[0.5] * (11 + 7))
        assert [int(t.trial_id) for t in rest] == [*range(9, 20), 0, 1, 3, 4, 6, 7, 8]

    def test_a_failed_trial_is_run_again_as_often_as_asked(self, make_oracle):
        oracle = make_oracle(
            max_trials=2, max_retries_per_trial=2, max_consecutive_failed_trials=None
        )
        trials = run(oracle, "a", math.nan, "b", "c")
        assert [int(trial.trial_id) for trial in trials] == [0, 1, 0, 0]
        assert oracle.create_trial("tuner0").status == "STOPPED"
        assert trials[-1].message == "c"
        assert oracle.end_order == ["0001", "0000"]

    def test_one_that_cannot_succeed_is_not(self, make_oracle):
        oracle = make_oracle(max_trials=1, max_retries_per_trial=2)
        trial = oracle.create_trial("tuner0")
        trial.status, trial.message = "FAILED", "Oversized model"
        oracle.end_trial(trial)
        assert oracle.create_trial("tuner0").status == "STOPPED"

    def test_an_absurd_objective_is_infeasible(self, make_oracle):
        trials = run(make_oracle(divergence_threshold=1e6), 1e6, -1e7, 999_999.0)
        assert [trial.status for trial in trials] == ["FAILED", "FAILED", "COMPLETED"]
        assert trials[0].message == "infeasible: val_loss was 1000000.0"

    def test_failures_without_end(self, make_oracle):
        oracle = make_oracle(max_trials=8, max_consecutive_failed_trials=None)
        run(oracle, *"abcdefgh")
        assert oracle.remaining_trials() == 0

    @pytest.mark.parametrize(("direction", "order"), [("min", [1, 3, 0]), ("max", [0, 3, 1])])
    def test_best_trials(self, make_oracle, direction, order):
        oracle = make_oracle(objective=kt.Objective("val_loss", direction))
        run(oracle, 3.0, 1.0, "failed", 2.0)
        assert [int(t.trial_id) for t in oracle.get_best_trials(10)] == order

    def test_a_report_without_the_objective_names_what_there_is(self, make_oracle):
        oracle = make_oracle()
        trial = oracle.create_trial("tuner0")
        with pytest.raises(ValueError, match=r"one of \['mae', 'val_los'\].*'val_loss'.*val_los"):
            oracle.update_trial(trial.trial_id, {"val_los": 1.0, "mae": 2.0})


class TestBookkeeping:
    def test_study_json(self, make_oracle, read_study):
        oracle = make_oracle(seed=9, start_index=4, goal="why", note="because")
        oracle.create_trial("tuner0")
        study = read_study()
        space = study.pop("space")
        assert [(entry["class_name"], entry["config"]["name"]) for entry in space] == [
            ("Float", "x"),
            ("Fixed", "constant"),
            ("Float", "lr"),
            ("Boolean", "flag"),
        ]
        assert study == {
            "format": 3,
            "objective": {"name": "val_loss", "direction": "min"},
            "seed": 9,
            "start_index": 4,
            "max_trials": 4,
            "executions_per_trial": 1,
            "primes": {"x": 2, "lr": 3, "flag": 5},
            "roles": None,
            "enqueued": {},
            "prior": None,
            "goal": "why",
            "note": "because",
        }

    def test_a_new_oracle_goes_on(self, make_oracle):
        first = run(make_oracle(), 3.0, math.nan)
        oracle = make_oracle()
        oracle.resume()
        assert oracle.remaining_trials() == 2
        assert [t.hyperparameters.values for t in oracle.trials.values()] == [
            t.hyperparameters.values for t in first
        ]
        rest = run(oracle, 1.0, 2.0)
        assert [t.trial_id for t in rest] == ["0002", "0003"]
        assert [t.hyperparameters.values for t in rest] == [oracle.point(2), oracle.point(3)]
        assert oracle.end_order == ["0000", "0001", "0002", "0003"]

    def test_an_interrupted_trial_comes_first_and_starts_from_nothing(self, make_oracle):
        oracle = make_oracle()
        run(oracle, 3.0)
        lost = oracle.create_trial("tuner0")
        oracle.update_trial(lost.trial_id, {"val_loss": 0.0})
        again = make_oracle().create_trial("tuner1")
        assert again.trial_id == lost.trial_id
        assert again.hyperparameters.values == lost.hyperparameters.values
        assert not again.metrics.exists("val_loss")

    def test_a_deleted_trial_is_run_again_and_no_other(self, make_oracle, tmp_path):
        import shutil

        run(make_oracle(), 1.0, 2.0, 3.0)
        shutil.rmtree(tmp_path / "study" / "trial_0001")
        oracle = make_oracle()
        trials = run(oracle, 4.0, 5.0)
        assert [t.trial_id for t in trials] == ["0001", "0003"]
        assert trials[0].hyperparameters.values == oracle.point(1)
        assert oracle.get_best_trials(1)[0].trial_id == "0000"

    def test_a_folder_without_a_record_is_no_trial(self, make_oracle, tmp_path):
        run(make_oracle(), 1.0)
        (tmp_path / "study" / "trial_0001").mkdir()
        assert run(make_oracle(), 2.0)[0].trial_id == "0001"

    def test_more_trials_can_be_asked_for(self, make_oracle, read_study):
        run(make_oracle(max_trials=2), 1.0, 2.0)
        trials = run(make_oracle(max_trials=12), 3.0)
        assert trials[0].trial_id == "0002"
        assert read_study()["max_trials"] == 12

    def test_another_seed_is_refused(self, make_oracle):
        make_oracle().create_trial("tuner0")
        with pytest.raises(ValueError, match="seed is 0 there, 1 here"):
            make_oracle(seed=1).create_trial("tuner0")

    def test_several_tuners_get_trials_of_their_own(self, make_oracle):
        oracle = make_oracle()
        trials = [oracle.create_trial(f"tuner{k}") for k in (0, 1, 0, 2)]
        assert [t.trial_id for t in trials] == ["0000", "0001", "0000", "0002"]

    def test_an_error_leaves_no_lock_behind(self, make_oracle):
        import threading

        oracle = make_oracle()
        trial = oracle.create_trial("tuner0")
        with pytest.raises(ValueError, match="must be a metric"):
            oracle.update_trial(trial.trial_id, {})
        thread = threading.Thread(target=oracle.create_trial, args=("tuner1",), daemon=True)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()

    def test_a_late_hyperparameter_is_refused(self, make_oracle):
        oracle = make_oracle()
        trial = oracle.create_trial("tuner0")
        trial.hyperparameters.Float("dropout", 0.0, 0.5)
        trial.status = "COMPLETED"
        oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
        with pytest.raises(ValueError, match=r"Found \['dropout'\] in `fit` of trial 0000"):
            oracle.end_trial(trial)

    def test_entries_that_are_not_tuned_may_come_late(self, make_oracle):
        oracle = make_oracle(tune_new_entries=False)
        trial = oracle.create_trial("tuner0")
        trial.hyperparameters.Float("dropout", 0.0, 0.5)
        oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        assert "dropout" not in oracle.point(1)

    def test_an_empty_space_is_refused(self, make_oracle):
        with pytest.raises(ValueError, match="search space is empty"):
            make_oracle(hyperparameters=None).create_trial("tuner0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_trials": 0}, "`max_trials` must be an integer of at least 1"),
        ({"max_trials": None}, "`max_trials` must be an integer of at least 1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"seed": None}, "`seed` must be an integer"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"start_index": -1}, "`start_index` must be an integer of at least 0"),
        ({"divergence_threshold": 0.0}, "`divergence_threshold` must be a finite number greater"),
        ({"max_retries_per_trial": -1}, "`max_retries_per_trial` must be an integer of at least 0"),
        ({"max_consecutive_failed_trials": 0}, "must be an integer of at least 1"),
        ({"objective": "val_acuracy"}, "`objective` must say whether"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        QuasiRandomOracle(**{"objective": "val_loss", **options})


def test_trials_are_spread_evenly(make_oracle):
    oracle = make_oracle()
    x = np.array([oracle.point(index)["x"] for index in range(32)])
    assert sorted((x * 32).astype(int)) == list(range(32))
