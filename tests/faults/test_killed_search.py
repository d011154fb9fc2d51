"""A search killed with SIGKILL at random moments ends like one that was left alone."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tfplaybook as pb

SEARCH = """
import os, random, signal, sys, threading
import keras, numpy as np, pipelines, tensorflow as tf, tfplaybook as pb

tf.config.experimental.enable_op_determinism()

def build_model(hp):
    dropout = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), dropout,
                              keras.layers.Dense(1)])
    learning_rate = hp.Float("learning_rate", 1e-3, 1e1, sampling="log")
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model

directory, delay, checkpoints = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "True"
if delay:
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
y = x.sum(1)
train = pipelines.training_pipeline((x[:48], y[:48]), batch_size=8, seed=0)
callbacks = [pb.callbacks.WarmupThenDecay(warmup_steps=6, update_freq="batch")]
if checkpoints:
    callbacks.append(pb.callbacks.RetrospectiveCheckpoint(monitor="val_loss", data=train))
tuner = pb.search.QuasiRandomSearch(
    build_model, objective="val_loss", max_trials=6, seed=0, executions_per_trial=2,
    directory=directory, project_name="study")
tuner.search(train, steps_per_epoch=6, epochs=4, validation_data=(x[48:], y[48:]), shuffle=False,
             verbose=0, callbacks=callbacks)
"""


def search(directory, delay=0.0, *, checkpoints=False):
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, str(directory), str(delay), str(checkpoints)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0, time.perf_counter() - start


def outcome(directory):
    """Everything that a study says, with the curves of every execution."""
    study = pb.studies.load(directory / "study")
    return [
        (
            trial.trial_id,
            trial.status,
            trial.values,
            repr(trial.objective),
            trial.message,
            [
                {
                    name: (c.steps.tolist(), repr(c.values.tolist()))
                    for name, c in run.curves.items()
                }
                for run in trial.runs
            ],
        )
        for trial in study.trials
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The outcome of a search that was left alone, and the seconds that it took."""
    directory = tmp_path_factory.mktemp("undisturbed")
    finished, seconds = search(directory)
    assert finished
    expected = outcome(directory)
    assert [trial[1] for trial in expected].count("completed") >= 3
    assert "infeasible" in [trial[1] for trial in expected]
    return expected, seconds


@pytest.mark.parametrize(
    "kills", [2, pytest.param(100, marks=pytest.mark.soak)], ids=["short", "soak"]
)
@pytest.mark.parametrize("checkpoints", [False, True], ids=["whole trials", "from checkpoints"])
def test_kills_at_random_moments_change_nothing(checkpoints, kills, undisturbed, tmp_path):
    expected, seconds = undisturbed
    moments = random.Random(0)
    killed = studies = 0
    while killed < kills:
        directory = tmp_path / str(studies)
        finished = False
        while not finished:
            delay = moments.uniform(0.0, seconds) if killed < kills else 0.0
            finished, _ = search(directory, delay, checkpoints=checkpoints)
            killed += not finished
            for path in directory.glob("study/**/*.json"):
                json.loads(path.read_text())
        assert outcome(directory) == expected
        studies += 1
    np.testing.assert_equal(killed, kills)
