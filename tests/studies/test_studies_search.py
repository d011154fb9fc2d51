import shutil

import keras
import keras_tuner
import numpy as np
import pytest

from tfplaybook import search, studies

DATA = np.linspace(-1.0, 1.0, 8, dtype="float32")[:, None]


def build_model(hp):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    # A quadratic loss: rates well above 1 diverge.
    rate = hp.Float("learning_rate", 1e-3, 1e3, sampling="log")
    momentum = hp.Choice("momentum", [0.0, 0.5])
    model.compile(keras.optimizers.SGD(rate, momentum=momentum), "mse")
    return model


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    directory = tmp_path_factory.mktemp("studies")
    tuner = search.QuasiRandomSearch(
        build_model,
        objective="val_loss",
        max_trials=6,
        seed=0,
        executions_per_trial=2,
        directory=directory,
        project_name="round1",
        goal="which rates diverge",
    )
    validation = (DATA, 2 * DATA)
    tuner.search(DATA, 2 * DATA, validation_data=validation, batch_size=1, epochs=4, verbose=0)
    return tuner, studies.load(directory / "round1")


def test_a_real_search_is_read_as_its_tuner_knows_it(searched):
    tuner, study = searched
    assert study.objective == studies.Objective("val_loss", "min")
    assert study.goal == "which rates diverge"
    assert len(study.trials) == 6
    assert study.completed
    assert study.infeasible
    assert len(study.completed) + len(study.infeasible) == 6
    best = tuner.oracle.get_best_trials(len(study.completed))
    assert [t.trial_id for t in study.ranked()] == [t.trial_id for t in best]
    assert [t.objective for t in study.ranked()] == [t.score for t in best]
    assert [t.values for t in study.ranked()] == [t.hyperparameters.values for t in best]
    rate, momentum = study.space
    assert (rate.name, rate.sampling, rate.max_value) == ("learning_rate", "log", 1e3)
    assert (momentum.name, momentum.values) == ("momentum", (0.0, 0.5))


def test_the_objective_is_the_mean_over_executions_of_the_best_value(searched):
    _, study = searched
    for trial in study.completed:
        curves = trial.curves("val_loss")
        assert len(curves) == 2
        assert curves[0].steps.tolist() == [8, 16, 24, 32]
        assert trial.objective == pytest.approx(np.mean([c.values.min() for c in curves]))


def test_diverged_runs_have_a_reason_and_a_place(searched):
    _, study = searched
    assert all(t.message.startswith("infeasible:") for t in study.infeasible)
    diverged = studies.curves_record(study).divergences
    assert {trial_id for trial_id, _ in diverged} == {t.trial_id for t in study.infeasible}


def test_table_and_pictures(searched, tmp_path):
    _, study = searched
    assert study.table().row_count == 6
    assert all(path.stat().st_size for path in study.save_plots(tmp_path))


def test_the_same_project_without_its_header(searched, tmp_path):
    _, study = searched
    copy = shutil.copytree(study.path, tmp_path / "copy")
    (copy / "study.json").unlink()
    plain = studies.load(copy)
    assert plain.objective == study.objective
    assert plain.space == study.space
    assert [t.status for t in plain.trials] == [t.status for t in study.trials]


# KerasTuner 1.4.8 takes its locks with names of `threading` that Python 3.10 deprecated.
@pytest.mark.filterwarnings("ignore:(currentThread|getName).. is deprecated:DeprecationWarning")
def test_a_search_of_keras_tuner_itself(tmp_path):
    tuner = keras_tuner.RandomSearch(
        build_model,
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=2,
        seed=1,
        directory=tmp_path,
        project_name="plain",
        max_consecutive_failed_trials=None,
    )
    tuner.search(DATA, 2 * DATA, validation_data=(DATA, 2 * DATA), epochs=2, verbose=0)
    study = studies.load(tmp_path / "plain")
    assert study.objective == studies.Objective("val_loss", "min")
    assert study.seed == 1
    assert [h.name for h in study.space] == ["learning_rate", "momentum"]
    best = tuner.oracle.get_best_trials(1)[0]
    assert study.best()[0].trial_id == best.trial_id
    assert study.best()[0].objective == best.score
    assert all(path.stat().st_size for path in study.save_plots(tmp_path))
