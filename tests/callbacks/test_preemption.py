"""A SIGTERM during `fit`: what it stops, and what is saved."""

import os
import signal
import warnings

import keras
import numpy as np
import pytest

import tfplaybook as pb
from tfplaybook.callbacks import RetrospectiveCheckpoint

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STEPS = 3
EPOCHS = 4


class Preempt(keras.callbacks.Callback):
    """Send the notice at one moment: a hook's name, the epoch and the batch."""

    def __init__(self, hook, epoch, batch):
        super().__init__()
        self.moment = (hook, epoch, batch)
        self.validated = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.validated.append(0)

    def on_train_batch_begin(self, batch, logs=None):
        self.send("train", batch)

    def on_test_batch_begin(self, batch, logs=None):
        self.validated[-1] += 1
        self.send("test", batch)

    def send(self, hook, batch):
        if (hook, self.epoch, batch) == self.moment:
            os.kill(os.getpid(), signal.SIGTERM)


def train(directory, callbacks=(), *, evaluation=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    checkpoint = RetrospectiveCheckpoint(
        directory, monitor="val_loss", keep_best=9, evaluation=evaluation
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(The run in .* its data starts anew|SIGTERM has ended)")
        model.fit(
            X, Y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0,
            validation_data=None if evaluation else (X, Y), validation_batch_size=4,
            callbacks=[checkpoint, *callbacks],
        )  # fmt: skip
    return checkpoint


def saved(directory):
    entries = pb.runs.CheckpointReader(directory / "checkpoints").entries()
    return [(entry.step, entry.resumable, entry.metrics) for entry in entries]


@pytest.mark.parametrize(
    "moment", [("train", 1, 1), ("test", 1, 2)], ids=["training", "validation"]
)
def test_the_validation_ends_too_and_its_epoch_is_repeated(moment, tmp_path):
    preempt = Preempt(*moment)
    train(tmp_path / "run", [preempt])
    batches = len(X) // 4
    assert preempt.validated[0] == batches
    assert preempt.validated[1] < batches
    assert [step for step, _, _ in saved(tmp_path / "run")] == [STEPS]
    assert train(tmp_path / "run").resumed_step == STEPS
    train(tmp_path / "whole")
    assert saved(tmp_path / "run") == saved(tmp_path / "whole")


@pytest.mark.parametrize("batch", range(STEPS))
@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_evaluations_are_those_of_a_run_that_was_left_alone(epoch, batch, tmp_path):
    def run(directory, callbacks=()):
        evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=2)
        train(directory, callbacks, evaluation=evaluation)
        return [(found.step, found.metrics) for found in evaluation.evaluations]

    run(tmp_path / "run", [Preempt("train", epoch, batch)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run in .* has ended")
        resumed = run(tmp_path / "run")
    assert resumed == run(tmp_path / "whole")
    assert saved(tmp_path / "run") == saved(tmp_path / "whole")
