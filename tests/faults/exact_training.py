"""A training in which everything that a checkpoint holds decides about the result.

As a script it trains as `forks` asks it to. A training that ends leaves `weights.npz` and
`end.json` in its directory.
"""

import json
import os
import random
import signal
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import forks
import keras
import numpy as np

import pipelines
import tfplaybook as pb
from tfplaybook import _keras_state

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if ON_TENSORFLOW:
    import tensorflow as tf

EPOCHS = 12
STEPS = 11
BATCH = 8


class GlobalNoise(keras.layers.Layer):
    """Noise from the global generator, as an unseeded `keras.random` call draws it."""

    def call(self, x, training=False):
        if not training or not ON_TENSORFLOW:  # traced JAX functions refuse unseeded noise
            return x
        return x + 0.1 * keras.random.normal(keras.ops.shape(x))


class HostNoise(keras.callbacks.Callback):
    """Noise from the generators of NumPy and Python, as in a callback of the user's."""

    def on_epoch_begin(self, epoch, logs=None):
        bias = self.model.layers[-1].bias
        bias.assign(bias + 0.01 * np.random.normal() + 0.01 * random.random())


def make_model(*, run_eagerly=False):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            GlobalNoise(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.3),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.AdamW(
        0.02, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
    )
    optimizer = keras.optimizers.LossScaleOptimizer(
        optimizer, initial_scale=16.0, dynamic_growth_steps=50
    )
    model.compile(optimizer, loss="mse", metrics=["mae"], run_eagerly=run_eagerly)
    return model


def make_data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 6)).astype("float32")
    return x, (x[:, :1] * 2 + 0.3 * generator.normal(size=(150, 1))).astype("float32")


def augment(x, y, seed):
    import tensorflow as tf

    return x + 0.1 * tf.random.stateless_normal(x.shape, seed), y


def train(directory, *, epochs=EPOCHS, callbacks=(), run_eagerly=False, **options):
    """Train or go on, and return the model, its checkpoint callback and its state at the end.

    The state is the one before `fit` puts the averages into the weights.
    """
    x, y = make_data()
    # 18 steps of data against 11 of an epoch: epochs start in the middle of the set.
    data = pipelines.training_pipeline((x, y), batch_size=BATCH, seed=1, map=augment)
    model = make_model(run_eagerly=run_eagerly)
    # 5.5 updates of an epoch against 8 of an interval: most evaluations are within epochs.
    evaluation = pb.callbacks.PeriodicEvaluation((x[:50], y[:50]), every_steps=8)
    checkpoint = pb.callbacks.RetrospectiveCheckpoint(
        directory, monitor="val_loss", keep_best=3, data=data, evaluation=evaluation, **options
    )
    last = {}

    class Last(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            last["state"] = _keras_state.capture(self.model)

    rolling = pb.callbacks.Rolling(window=10, min_history=3)
    model.fit(
        data,
        epochs=epochs,
        steps_per_epoch=STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[
            # Before and after the checkpoint, since the order must not matter.
            pb.runs.RunRecorder(directory),
            pb.callbacks.WarmupThenDecay(
                warmup_steps=9, total_steps=EPOCHS * STEPS // 2, update_freq="batch"
            ),
            checkpoint,
            pb.callbacks.PercentileClipping(percentile=60, threshold=rolling),
            keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=EPOCHS),
            HostNoise(),
            Last(),
            *callbacks,
        ],
    )
    return model, checkpoint, last.get("state")


def outcome(directory):
    """Everything that a run leaves on disk, but for measured times: curves and checkpoints."""
    curves = {
        name: (curve.steps.tolist(), curve.values.tolist())
        for name, curve in pb.runs.load_run(directory).curves.items()
    }
    reader = pb.runs.CheckpointReader(os.path.join(directory, "checkpoints"))
    checkpoints = {}
    for entry in reader.entries():
        loaded = reader.load(entry.step)
        arrays = {
            _keras_state._comparable(name): (a.dtype.name, a.tobytes())
            for name, a in loaded.arrays.items()
            if not name.endswith("/seconds")
        }
        checkpoints[entry.step] = (entry.metrics, entry.resumable, loaded.record, arrays)
    return curves, checkpoints


class Clock(keras.callbacks.Callback):
    """Time the training after its first step, and kill this process so many seconds after that."""

    def __init__(self, kill_after):
        super().__init__()
        self.kill_after = kill_after
        self.start = None

    def on_train_batch_end(self, batch, logs=None):
        if self.start is not None:
            return
        self.start = time.perf_counter()
        if self.kill_after is not None:
            timer = threading.Timer(self.kill_after, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()

    def on_train_end(self, logs=None):
        self.seconds = time.perf_counter() - (self.start or time.perf_counter())


def train_once(directory, kill_after):
    """Train or go on, and write what came out.

    This process is killed after so many seconds of training unless that is None.
    """
    if ON_TENSORFLOW:
        tf.config.experimental.enable_op_determinism()
    clock = Clock(kill_after)
    model, checkpoint, _ = train(directory, callbacks=[clock])
    weights = {str(i): w for i, w in enumerate(model.get_weights())}
    np.savez(os.path.join(directory, "weights.npz"), **weights)
    with open(os.path.join(directory, "end.json"), "w") as file:
        json.dump({"resumed_step": checkpoint.resumed_step, "seconds": clock.seconds}, file)


if __name__ == "__main__":
    forks.serve(train_once)
