"""Plain projects of KerasTuner's own tuners, read as they write them, without training."""

import math

import keras_tuner
import pytest

from tfplaybook import studies


def declare(hp):
    hp.Float("learning_rate", 1e-4, 1.0, sampling="log")
    if hp.Choice("optimizer", ["sgd", "adam"]) == "sgd":
        with hp.conditional_scope("optimizer", ["sgd"]):
            hp.Boolean("nesterov")


class Untrained(keras_tuner.engine.base_tuner.BaseTuner):
    """Scores a trial without building a model."""

    metrics = staticmethod(lambda rate: {"val_loss": abs(math.log10(rate) + 2.0)})

    def run_trial(self, trial, *args, **kwargs):
        declare(trial.hyperparameters)
        return self.metrics(trial.hyperparameters.get("learning_rate"))


# KerasTuner 1.4.8 takes its locks with names of `threading` that Python 3.10 deprecated.
@pytest.mark.filterwarnings("ignore:(currentThread|getName).. is deprecated:DeprecationWarning")
class TestProjects:
    def search(self, directory, oracle, metrics=None):
        tuner = Untrained(oracle, directory=directory, project_name="plain")
        tuner.metrics = metrics or tuner.metrics
        tuner.search()
        return tuner

    def oracle(self, kind, objective=None, **options):
        hyperparameters = keras_tuner.HyperParameters()
        declare(hyperparameters)
        return kind(
            objective=objective or keras_tuner.Objective("val_loss", "min"),
            seed=1,
            hyperparameters=hyperparameters,
            **options,
        )

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (keras_tuner.oracles.RandomSearchOracle, {"max_trials": 6}),
            (keras_tuner.oracles.BayesianOptimizationOracle, {"max_trials": 5}),
            (keras_tuner.oracles.GridSearchOracle, {"max_trials": 4}),
            (keras_tuner.oracles.HyperbandOracle, {"max_epochs": 4, "factor": 2}),
        ],
    )
    def test_every_tuner(self, tmp_path, kind, options):
        tuner = self.search(tmp_path, self.oracle(kind, **options))
        study = studies.load(tmp_path / "plain")
        assert study.objective == studies.Objective("val_loss", "min")
        assert study.seed == 1
        assert [h.name for h in study.space] == ["learning_rate", "optimizer", "nesterov"]
        assert len(study.completed) == len(study.trials) == len(tuner.oracle.trials) >= 4
        best = tuner.oracle.get_best_trials(1)[0]
        assert study.best()[0].trial_id == best.trial_id
        for trial in study.trials:
            assert ("nesterov" in trial.values) == (trial.values["optimizer"] == "sgd")
            books = {name for name in trial.values if name.startswith("tuner/")}
            is_hyperband = kind is keras_tuner.oracles.HyperbandOracle
            assert books == ({"tuner/epochs"} if is_hyperband else set())

    def test_several_objectives_have_one_score(self, tmp_path):
        both = [keras_tuner.Objective("val_loss", "min"), keras_tuner.Objective("val_acc", "max")]
        oracle = self.oracle(keras_tuner.oracles.RandomSearchOracle, objective=both, max_trials=3)
        # `fit` of a tuner adds the sum under this name.
        self.search(
            tmp_path,
            oracle,
            lambda rate: {
                "val_loss": rate,
                "val_acc": 0.5 + rate / 4,
                "multi_objective": rate - (0.5 + rate / 4),
            },
        )
        sums = studies.load(tmp_path / "plain")
        assert sums.objective == studies.Objective("multi_objective", "min")
        loss = studies.load(tmp_path / "plain", objective=studies.Objective("val_loss", "min"))
        for total, one in zip(sums.trials, loss.trials, strict=True):
            rate = one.values["learning_rate"]
            assert one.objective == pytest.approx(rate)
            assert total.objective == pytest.approx(rate - (0.5 + rate / 4))

    def test_another_metric_than_the_projects_own_is_read_by_its_values(self, tmp_path):
        self.search(
            tmp_path,
            self.oracle(keras_tuner.oracles.RandomSearchOracle, max_trials=3),
            lambda rate: {"val_loss": rate, "val_acc": 1.0 - rate / 2},
        )
        study = studies.load(tmp_path / "plain", objective=studies.Objective("val_acc", "max"))
        for trial in study.trials:
            assert trial.objective == pytest.approx(1.0 - trial.values["learning_rate"] / 2)
