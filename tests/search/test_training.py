"""`QuasiRandomSearch` and a plain `keras_tuner.Tuner` with models that are trained."""

import gc
import math
import weakref

import keras
import keras_tuner as kt
import numpy as np
import pytest
from hypermodels import build_line

from tfplaybook import _keras
from tfplaybook.callbacks import WarmupThenDecay
from tfplaybook.runs import load_run
from tfplaybook.search import QuasiRandomOracle, QuasiRandomSearch


class CountEpochs(keras.callbacks.Callback):
    """Raises if a copy of it is used for a second training."""

    def __init__(self):
        super().__init__()
        self.trainings = 0

    def on_train_begin(self, logs=None):
        self.trainings += 1
        assert self.trainings == 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory, line_data):
    """A search of six trials of two executions, some of which diverge, and its project folder."""
    directory = tmp_path_factory.mktemp("searched")
    features, targets = line_data
    callback = CountEpochs()
    tuner = QuasiRandomSearch(
        build_line,
        objective="val_loss",
        max_trials=6,
        seed=0,
        executions_per_trial=2,
        directory=directory,
        project_name="lines",
    )
    tuner.search(
        features,
        targets,
        batch_size=16,
        epochs=3,
        validation_data=(features, targets),
        callbacks=[callback],
        verbose=0,
    )
    assert callback.trainings == 0
    return tuner, directory / "lines"


def trials_of(tuner, *, completed):
    return [
        trial
        for trial in tuner.oracle.trials.values()
        if (trial.status == "COMPLETED") == completed
    ]


def test_large_learning_rates_are_infeasible(searched):
    tuner, _ = searched
    diverged = trials_of(tuner, completed=False)
    rates = [trial.hyperparameters.get("learning_rate") for trial in diverged]
    assert rates
    assert min(rates) > max(
        trial.hyperparameters.get("learning_rate") for trial in trials_of(tuner, completed=True)
    )
    for trial in diverged:
        assert trial.message.startswith("infeasible: ")
        assert " became " in trial.message
        assert trial.message.split(" at step ")[1] in {"4", "8", "12"}


def test_training_of_a_diverged_trial_ends_there(searched):
    tuner, folder = searched
    for trial in trials_of(tuner, completed=False):
        step = int(trial.message.split(" at step ")[1])
        run = load_run(folder / f"trial_{trial.trial_id}" / "execution_0")
        assert max(run.curves["val_loss"].steps) == step
        assert not (folder / f"trial_{trial.trial_id}" / "execution_1").exists()


def test_every_execution_leaves_its_run(searched):
    tuner, folder = searched
    for trial in trials_of(tuner, completed=True):
        runs = [load_run(folder / f"trial_{trial.trial_id}" / f"execution_{k}") for k in range(2)]
        for run in runs:
            assert run.info["configuration"] == trial.hyperparameters.values
            np.testing.assert_array_equal(run.curves["val_loss"].steps, [4, 8, 12])
        assert runs[0].info["seed"] != runs[1].info["seed"]


def test_a_trial_scores_the_mean_of_the_best_of_each_execution(searched):
    tuner, folder = searched
    for trial in trials_of(tuner, completed=True):
        runs = [load_run(folder / f"trial_{trial.trial_id}" / f"execution_{k}") for k in range(2)]
        best = [np.min(run.curves["val_loss"].values) for run in runs]
        assert best[0] != best[1]
        assert trial.score == pytest.approx(np.mean(best))
        epochs = [np.argmin(run.curves["val_loss"].values) for run in runs]
        assert trial.best_step == int(np.mean(epochs))


def test_the_seed_written_down_repeats_the_training(searched, line_data):
    tuner, folder = searched
    features, targets = line_data
    trial = tuner.oracle.get_best_trials()[0]
    run = load_run(folder / f"trial_{trial.trial_id}" / "execution_1")
    keras.utils.clear_session()
    keras.utils.set_random_seed(run.info["seed"])
    model = build_line(trial.hyperparameters)
    history = model.fit(features, targets, batch_size=16, epochs=3, verbose=0)
    np.testing.assert_allclose(history.history["loss"], run.curves["loss"].values, rtol=1e-6)


def test_callbacks_learn_the_directory_of_their_execution(make_tuner, line_data):
    told = []

    class Writer(_keras.Callback):
        def for_execution(self, directory):
            told.append(directory)
            self.directory = directory

        def on_train_begin(self, logs=None):
            self.directory.mkdir(parents=True)
            (self.directory / "mine.txt").write_text("kept")

    callbacks = [Writer(), keras.callbacks.Callback()]
    tuner = make_tuner(build_line, max_trials=2, executions_per_trial=2, objective="loss")
    tuner.search(*line_data, epochs=1, callbacks=callbacks, verbose=0)
    assert not hasattr(callbacks[0], "directory")
    runs = [tuner.run_directory(t, k) for t in tuner.oracle.trials.values() for k in range(2)]
    assert told == runs
    assert [(run / "mine.txt").read_text() for run in runs] == ["kept"] * 4


def test_layer_names_do_not_drift(searched):
    tuner, _ = searched
    names = {model.layers[0].name for model in tuner.get_best_models(2)}
    assert names == {"dense"}


def test_the_best_model_is_that_of_the_best_epoch(searched, line_data):
    tuner, folder = searched
    features, targets = line_data
    trial = tuner.oracle.get_best_trials()[0]
    runs = [load_run(folder / f"trial_{trial.trial_id}" / f"execution_{k}") for k in range(2)]
    best = min(np.min(run.curves["val_loss"].values) for run in runs)
    loss = tuner.get_best_models()[0].evaluate(features, targets, verbose=0)[0]
    assert loss == pytest.approx(best, rel=1e-5)


def test_seeds_are_a_function_of_study_point_and_execution(make_tuner, line_data):
    seeds = set()
    for options in ({"seed": 0}, {"seed": 1}, {"seed": 0, "start_index": 2}):
        tuner = make_tuner(
            build_line, max_trials=2, objective="loss", project_name=str(options), **options
        )
        tuner.search(*line_data, epochs=1, verbose=0)
        for trial in tuner.oracle.trials.values():
            seed = load_run(tuner.run_directory(trial, 0)).info["seed"]
            assert 0 <= seed < 2**32
            seeds.add(seed)
    assert len(seeds) == 6


def test_an_unknown_objective_ends_the_search_with_the_names_there_are(make_tuner, line_data):
    tuner = make_tuner(build_line, objective="val_mae")
    with pytest.raises(
        ValueError, match=r"one of \['loss', 'mae'\]. Received: 'val_mae'. Pass `validation_data`"
    ):
        tuner.search(*line_data, epochs=1, verbose=0)


def test_terminate_on_nan_ends_an_epoch_early_and_is_recorded(make_tuner, line_data):
    def build_diverging(hp):
        hp.Boolean("flag")
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e30), "mse", jit_compile=False)
        return model

    tuner = make_tuner(build_diverging, max_trials=1, objective="loss")
    callbacks = [keras.callbacks.TerminateOnNaN()]
    tuner.search(*line_data, batch_size=4, epochs=3, callbacks=callbacks, verbose=0)
    message = tuner.oracle.trials["0000"].message
    assert message.startswith("infeasible: loss became ")
    assert int(message.split(" at step ")[1]) < 16


def test_validation_less_often_than_every_epoch(make_tuner, line_data):
    tuner = make_tuner(build_line, max_trials=1, objective="val_loss")
    tuner.search(*line_data, epochs=3, validation_data=line_data, validation_freq=2, verbose=0)
    trial = tuner.oracle.get_best_trials()[0]
    curve = load_run(tuner.run_directory(trial, 0)).curves["val_loss"]
    assert curve.steps.tolist() == [4]
    assert trial.score == pytest.approx(curve.values[0])


def test_no_model_outlives_its_search(make_tuner, line_data):
    models = weakref.WeakSet()

    def build(hp):
        model = build_line(hp)
        models.add(model)
        return model

    tuner = make_tuner(build, max_trials=3, executions_per_trial=2)
    callbacks = [WarmupThenDecay(warmup_steps=1)]
    tuner.search(*line_data, epochs=1, validation_data=line_data, callbacks=callbacks, verbose=0)
    keras.utils.clear_session()
    gc.collect()
    assert len(models) == 0


class TestPlainTuner:
    """`keras_tuner.Tuner` with our oracle and nothing else of ours."""

    def make(self, tmp_path, **options):
        oracle = QuasiRandomOracle(**{"objective": "loss", "max_trials": 3, "seed": 4, **options})
        return kt.Tuner(oracle, build_line, directory=tmp_path, project_name="plain")

    def test_it_searches_the_points_and_resumes(self, tmp_path, line_data, capsys):
        tuner = self.make(tmp_path, max_trials=2)
        tuner.search(*line_data, epochs=1, verbose=0)
        tuner = self.make(tmp_path)
        assert tuner.remaining_trials == 1
        tuner.search(*line_data, epochs=1, verbose=0)
        values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
        assert values == [tuner.oracle.point(index) for index in range(3)]
        assert tuner.get_best_hyperparameters()[0].values in values
        assert "Reloading Tuner" in capsys.readouterr().out

    def test_another_seed_is_refused(self, tmp_path, line_data):
        self.make(tmp_path, max_trials=1).search(*line_data, epochs=1, verbose=0)
        with pytest.raises(ValueError, match="seed is 4 there, 5 here"):
            self.make(tmp_path, seed=5)

    def test_a_changed_range_is_refused(self, tmp_path, line_data):
        self.make(tmp_path, max_trials=1).search(*line_data, epochs=1, verbose=0)
        tuner = self.make(tmp_path)
        tuner.hypermodel.build = lambda hp: hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
        expected = r"Float\('learning_rate'.*max_value=1.0.*which is Float.*max_value=10.0"
        with pytest.raises(kt.errors.FatalValueError, match=expected):
            tuner.search(*line_data, epochs=1, verbose=0)

    def test_divergence_is_no_end(self, tmp_path):
        class Diverging(kt.Tuner):
            def run_trial(self, trial):
                return math.nan

        space = kt.HyperParameters()
        space.Float("x", 0.0, 1.0)
        oracle = QuasiRandomOracle("loss", 5, hyperparameters=space)
        oracle.verbose = 0
        Diverging(oracle, directory=tmp_path, project_name="plain").search()
        assert {trial.message for trial in oracle.trials.values()} == {"infeasible: loss was nan"}
        assert len(oracle.trials) == 5
