"""`RetrospectiveCheckpoint` inside `QuasiRandomSearch`: a trial goes on where it was stopped."""

import json
import os
import signal

import keras
import numpy as np
import pytest

import pipelines
import tfplaybook as pb
from tfplaybook.callbacks import RetrospectiveCheckpoint
from tfplaybook.runs import load_checkpoint, load_run

EPOCHS = 4


class StopAt(keras.callbacks.Callback):
    """Calls `stop` in the given epoch of the given training, counted over all copies."""

    trainings = 0
    epochs = 0

    def __init__(self, training, epoch, stop):
        super().__init__()
        self.training, self.epoch, self.stop = training, epoch, stop
        StopAt.trainings = StopAt.epochs = 0

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        StopAt.trainings += 1

    def on_epoch_end(self, epoch, logs=None):
        StopAt.epochs += 1

    def on_train_batch_end(self, batch, logs=None):
        if (StopAt.trainings, StopAt.epochs % EPOCHS) == (self.training, self.epoch):
            self.stop()


def interrupt():
    raise KeyboardInterrupt


def crash():
    raise OSError("the disk is gone")


def preempt():
    os.kill(os.getpid(), signal.SIGTERM)


def build_noisy(hp):
    """A model with dropout, batch statistics and a rate at which later epochs may be worse."""
    rate = hp.Float("learning_rate", 5e-3, 10.0, sampling="log")
    hp.Boolean("unused")
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), "mse", jit_compile=False)
    return model


def search(directory, features_and_targets, *callbacks, **options):
    """Search with one pipeline and one checkpoint, as a script would."""
    train = pipelines.training_pipeline(features_and_targets, batch_size=16, seed=0)
    options = {"max_trials": 2, "executions_per_trial": 2, **options}
    tuner = pb.search.QuasiRandomSearch(
        build_noisy, objective="val_loss", directory=directory, project_name="study", **options
    )
    checkpoint = RetrospectiveCheckpoint(monitor="val_loss", keep_best=1, data=train)
    tuner.search(
        train,
        steps_per_epoch=4,
        epochs=EPOCHS,
        validation_data=features_and_targets,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, checkpoint],
    )
    assert int(train.start_step.numpy()) == 0
    return tuner


def outcome(tuner):
    """Everything that a search leaves, with curves, checkpoints and the weights it would load."""
    trials = []
    for trial in pb.studies.load(tuner.project_dir).trials:
        curves = [
            {name: (c.steps.tolist(), repr(c.values.tolist())) for name, c in run.curves.items()}
            for run in trial.runs
        ]
        kept = sorted(
            path.name for run in trial.runs for path in run.path.glob("checkpoints/step_*")
        )
        trials.append(
            (trial.trial_id, trial.status, trial.message, repr(trial.objective), curves, kept)
        )
    models = tuner.get_best_models(3)
    return trials, [[w.tobytes() for w in model.get_weights()] for model in models]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, line_data):
    """The outcome of a search that was left alone: one trial learns and one diverges."""
    stopper = StopAt(-1, 0, interrupt)
    found = outcome(search(tmp_path_factory.mktemp("undisturbed"), line_data, stopper))
    assert [trial[1] for trial in found[0]] == ["completed", "infeasible"]
    return found, StopAt.epochs


@pytest.mark.filterwarnings("ignore:.*SIGTERM has ended")
@pytest.mark.parametrize(("stop", "training"), [(interrupt, 2), (crash, 2), (preempt, 1)])
def test_a_stopped_trial_goes_on_in_the_middle_and_ends_as_one_left_alone(
    stop, training, undisturbed, tmp_path, line_data
):
    expected, epochs = undisturbed
    before = signal.getsignal(signal.SIGTERM)
    stopper = StopAt(training, 2, stop)
    if stop is interrupt:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, line_data, stopper)
    else:
        search(tmp_path, line_data, stopper)
    assert signal.getsignal(signal.SIGTERM) == before
    trained = StopAt.epochs
    tuner = search(tmp_path, line_data, StopAt(-1, 0, interrupt))
    assert outcome(tuner) == expected
    # No epoch twice that had ended.
    assert trained + StopAt.epochs == epochs + (stop is preempt)


def test_each_execution_has_checkpoints_of_its_own(tmp_path, line_data):
    tuner = search(tmp_path, line_data)
    (trial,) = tuner.oracle.get_best_trials()
    model = tuner.hypermodel.build(trial.hyperparameters)
    weights = []
    for execution in range(2):
        run = load_run(tuner.run_directory(trial, execution))
        load_checkpoint(model, run.path)
        weights.append(model.get_weights()[0])
        loss = model.evaluate(*line_data, verbose=0)
        assert loss == pytest.approx(np.min(run.curves["val_loss"].values), rel=1e-4)
    assert (weights[0] != weights[1]).any()


def test_checkpoints_of_other_hyperparameters_are_refused(tmp_path, line_data):
    study, trial = tmp_path / "study/study.json", tmp_path / "study/trial_0000/trial.json"
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, line_data, StopAt(1, 2, interrupt))
    values = json.loads(trial.read_text())["hyperparameters"]["values"]
    trial.unlink()
    # The data or the loss may depend on it, and neither is seen in the model.
    others = {"0000": {"unused": not values["unused"]}}
    study.write_text(json.dumps({**json.loads(study.read_text()), "enqueued": others}))
    with pytest.raises(RuntimeError, match=r"values\.unused: "):
        search(tmp_path, line_data, max_trials=1)


def test_overwrite_deletes_the_checkpoints(tmp_path, line_data):
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, line_data, StopAt(1, 2, interrupt))
    stopper = StopAt(-1, 0, interrupt)
    search(tmp_path, line_data, stopper, overwrite=True, max_trials=1, executions_per_trial=1)
    assert StopAt.epochs == EPOCHS
