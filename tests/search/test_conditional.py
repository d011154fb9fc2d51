"""One name under two parents is two hyperparameters (C4), from the model to the study on disk."""

import json

import keras
import keras_tuner as kt
import numpy as np
import pytest
from hypermodels import Parabola

from tfplaybook import _keras_tuner, studies
from tfplaybook.search import QuasiRandomOracle, QuasiRandomSearch

RANGES = {"nesterov": (0.1, 0.5), "adam": (0.001, 0.005)}


def build_optimizers(hp):
    """As a user writes it: `learning_rate` in either branch, `hp.get` behind both."""
    name = hp.Choice("optimizer", list(RANGES))
    for kind, (low, high) in RANGES.items():
        with hp.conditional_scope("optimizer", [kind]):
            rate = hp.Float("learning_rate", low, high)
            assert (rate is not None) == (kind == name)
    with hp.conditional_scope("optimizer", ["nesterov"]):
        momentum = hp.Float("momentum", 0.8, 0.9)
    rate = hp.get("learning_rate")
    optimizer = (
        keras.optimizers.Adam(rate)
        if name == "adam"
        else keras.optimizers.SGD(rate, momentum=momentum, nesterov=True)
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


@pytest.fixture(scope="module", params=["ours", "plain"])
def searched(request, tmp_path_factory, line_data):
    """A finished search, by our tuner and by KerasTuner's own with our oracle."""
    directory = tmp_path_factory.mktemp("conditional")
    options = {"objective": "loss", "max_trials": 6, "seed": 1}
    place = {"directory": directory, "project_name": "study"}
    if request.param == "ours":
        tuner = QuasiRandomSearch(build_optimizers, **options, **place)
    else:
        tuner = kt.Tuner(QuasiRandomOracle(**options), build_optimizers, **place)
    tuner.search(*line_data, epochs=1, verbose=0)
    return tuner, directory / "study"


def test_every_trial_trains_with_the_values_of_its_point(searched):
    tuner, _ = searched
    trials = [tuner.oracle.trials[f"{index:04d}"] for index in range(6)]
    assert {trial.status for trial in trials} == {"COMPLETED"}
    for index, trial in enumerate(trials):
        values = trial.hyperparameters.values
        assert values == tuner.oracle.point(index)
        low, high = RANGES[values["optimizer"]]
        assert low <= values["learning_rate"] <= high
        assert ("momentum" in values) == (values["optimizer"] == "nesterov")
    assert len({trial.hyperparameters.values["optimizer"] for trial in trials}) == 2


def test_the_best_model_can_be_built_again(searched):
    tuner, _ = searched
    best = tuner.get_best_hyperparameters()[0]
    keras.utils.set_random_seed(0)
    rate = float(build_optimizers(best).optimizer.learning_rate)
    assert rate == pytest.approx(best.get("learning_rate"), rel=1e-6)


def test_the_study_shows_two_hyperparameters(searched):
    _, folder = searched
    study = studies.load(folder)
    names = [h.name for h in study.varied]
    assert names == [
        "optimizer",
        "learning_rate (optimizer=nesterov)",
        "learning_rate (optimizer=adam)",
        "momentum",
    ]
    for trial in study.trials:
        label = f"learning_rate (optimizer={trial.values['optimizer']})"
        assert trial.declared_values["learning_rate"] == trial.values[label]
        assert "learning_rate" not in trial.values
    for kind, (low, high) in RANGES.items():
        hyperparameter = study.hyperparameter(f"learning_rate (optimizer={kind})")
        assert (hyperparameter.min_value, hyperparameter.max_value) == (low, high)
        assert hyperparameter.declared_name == "learning_rate"
        record = studies.axis_plot_record(study, hyperparameter.name)
        of_kind = [t.trial_id for t in study.trials if t.values["optimizer"] == kind]
        assert [point.trial_id for point in record.points] == of_kind


def test_the_primes_are_kept_by_name_and_condition(searched):
    primes = json.loads((searched[1] / "study.json").read_text())["primes"]
    assert sorted(primes.values()) == [2, 3, 5, 7]
    assert {"learning_rate (optimizer=nesterov)", "learning_rate (optimizer=adam)"} < primes.keys()


def test_it_goes_on_at_the_same_points(make_tuner):
    class Branches(Parabola):
        def build(self, hp):
            hp.Choice("kind", ["a", "b"])
            for kind, low in (("a", 0.0), ("b", 5.0)):
                with hp.conditional_scope("kind", [kind]):
                    hp.Float("x", low, low + 1.0)
            return keras.Sequential([keras.layers.Dense(1)])

    hypermodel = Branches(lambda values: values["x"])
    make_tuner(hypermodel, max_trials=3).search(verbose=0)
    tuner = make_tuner(hypermodel, max_trials=6)
    tuner.search(verbose=0)
    assert hypermodel.seen == [tuner.oracle.point(index) for index in range(6)]
    assert all((values["x"] >= 5.0) == (values["kind"] == "b") for values in hypermodel.seen)


@pytest.mark.parametrize("values", [["a", "b"], ["b", "c"], None])
def test_two_that_may_exist_together_are_refused(values):
    hp = kt.HyperParameters()
    hp.Choice("kind", ["a", "b", "c"])
    hp.Float("x", 0.0, 1.0, parent_name="kind", parent_values=["b"])
    parent = {} if values is None else {"parent_name": "kind", "parent_values": values}
    hp.Float("x", 0.0, 2.0, **parent)
    with pytest.raises(ValueError, match=r"share a name only if.*'x \(kind=b\)' and 'x"):
        QuasiRandomOracle("val_loss", 4, hyperparameters=hp)


class TestExploring:
    """All branches are known before trial 0."""

    def names_of(self, build):
        known, built = _keras_tuner.SearchSpace(), []

        def counted(hp):
            built.append(dict(hp.values))
            build(hp)

        _keras_tuner.explore(counted, known.copy, lambda hp: known.merge(hp, overwrite=False))
        return [h.name for h in known.space], built

    def test_each_scope_is_entered_once(self):
        def build(hp):
            kind = hp.Choice("kind", ["a", "b", "c"])
            for name in ("a", "b", "c"):
                with hp.conditional_scope("kind", [name]):
                    if kind == name:
                        hp.Boolean("deep")
                        with hp.conditional_scope("deep", [True]):
                            if hp.get("deep"):
                                hp.Float(f"x_{name}", 0.0, 1.0)

        names, built = self.names_of(build)
        assert names.count("deep") == 3
        assert {"x_a", "x_b", "x_c"} < set(names)
        assert len(built) == 6

    def test_a_scope_that_cannot_be_entered_is_no_endless_loop(self):
        def build(hp):
            if hp.Choice("kind", ["a", "b"]) == "a":
                with hp.conditional_scope("kind", ["b"]):
                    hp.Float("never", 0.0, 1.0)
            with hp.conditional_scope("kind", ["typo"]):
                pass

        names, _ = self.names_of(build)
        assert names == ["kind", "never"]

    def test_parents_of_parents_are_set_too(self):
        def build(hp):
            hp.Choice("kind", ["a", "b"])
            hp.Boolean("deep", parent_name="kind", parent_values=["b"])
            with hp.name_scope("inner"):
                hp.Int("layers", 1, 3)
                with hp.conditional_scope("layers", [2, 3]):
                    if hp.get("layers") in (2, 3):
                        hp.Int("units", 1, 8)

        names, built = self.names_of(build)
        assert names == ["kind", "deep", "inner/layers", "inner/units"]
        assert built[-1]["inner/layers"] == 2
        assert np.shape(built) == (3,)
