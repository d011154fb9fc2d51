"""Under XLA a step is compiled once, whatever the callbacks compute in it."""

import os
import subprocess
import sys

import pytest

TRAIN = """
import keras, numpy as np, tfplaybook as pb

def train(callbacks, **options):
    tokens = keras.Input((4,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Dense(1)(keras.layers.Embedding(5, 3)(tokens)))
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=True, **options)
    x = np.random.default_rng(0).integers(5, size=(48, 4)).astype("int32")
    model.fit(x, np.ones((48, 4, 1)), batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)

callbacks = pb.callbacks
train([callbacks.PercentileClipping(threshold=callbacks.Rolling(window=5, min_history=2))])
train([callbacks.PercentileClipping(threshold=callbacks.Calibrated(steps=4))])
train([callbacks.PercentileClipping(threshold=1.0, monitor_only=True)])
train([callbacks.WarmupThenDecay(warmup_steps=4), callbacks.PercentileClipping()])
train([callbacks.PercentileClipping()], steps_per_execution=3)
"""
MODELS = TRAIN.count("\ntrain(")


@pytest.mark.tensorflow
def test_a_step_is_compiled_once(tmp_path):
    """XLA on TensorFlow compiles again for each value of what it takes for a constant."""
    subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text",
        },
        check=True,
    )
    steps = [
        path.name
        for path in tmp_path.glob("*.before_optimizations.txt")
        if "one_step_on_data" in path.name
    ]
    assert len(steps) == MODELS, sorted(steps)
