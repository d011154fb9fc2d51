"""A search of small models, some of which diverge, as `forks` runs it."""

import os
import signal
import threading

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import forks
import keras
import numpy as np
import tensorflow as tf

import pipelines
import tfplaybook as pb


def build_model(hp):
    dropout = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5))
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), dropout, keras.layers.Dense(1)]
    )
    learning_rate = hp.Float("learning_rate", 1e-3, 1e1, sampling="log")
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def search(directory, *, kill_after, checkpoints):
    """Search or go on; kill this process after so many seconds unless that is None."""
    tf.config.experimental.enable_op_determinism()
    if kill_after is not None:
        timer = threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    y = x.sum(1)
    train = pipelines.training_pipeline((x[:48], y[:48]), batch_size=8, seed=0)
    callbacks = [pb.callbacks.WarmupThenDecay(warmup_steps=6, update_freq="batch")]
    if checkpoints:
        callbacks.append(pb.callbacks.RetrospectiveCheckpoint(monitor="val_loss", data=train))
    tuner = pb.search.QuasiRandomSearch(
        build_model,
        objective="val_loss",
        max_trials=6,
        seed=0,
        executions_per_trial=2,
        directory=directory,
        project_name="study",
    )
    tuner.search(
        train,
        steps_per_epoch=6,
        epochs=4,
        validation_data=(x[48:], y[48:]),
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


if __name__ == "__main__":
    forks.serve(search)
