"""The private hooks of Keras that `tfplaybook/_keras.py` relies on, each failing by its name."""

import keras
import numpy as np
import pytest

from tfplaybook import _keras

OPTIMIZERS = ["SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Nadam", "Lion", "Adafactor", "Lamb"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_compute_their_rate_by_the_method_that_we_replace(name):
    optimizer = getattr(keras.optimizers, name)(0.25)
    assert isinstance(getattr(optimizer, _keras._RATE_VARIABLE, None), keras.Variable), (
        f"Keras {keras.version()}: {name} no longer keeps its rate in {_keras._RATE_VARIABLE}"
    )
    setattr(optimizer, _keras._RATE_METHOD, lambda: 0.125)
    assert optimizer.learning_rate == 0.125, (
        f"Keras {keras.version()}: {name}.learning_rate no longer calls {_keras._RATE_METHOD}"
    )


def test_set_model_runs_before_the_train_step_is_made_and_set_params_before_train_begin():
    calls = []

    class Watch(keras.callbacks.Callback):
        def set_model(self, model):
            super().set_model(model)
            calls.append(("set_model", model.train_function))

        def on_train_begin(self, logs=None):
            calls.append(("on_train_begin", self.params["steps"], self.params["epochs"]))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 1))
    model.fit(x, x, batch_size=1, callbacks=[Watch()], verbose=0)
    assert calls == [("set_model", None), ("on_train_begin", 2, 1)]


def test_the_global_seed_can_be_read():
    keras.utils.set_random_seed(11)
    assert _keras.global_seed() == 11
