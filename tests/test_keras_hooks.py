"""The private hooks of Keras that the `_keras*.py` modules use, each by its name."""

import keras
import numpy as np
import pytest

from tfplaybook import _keras, _keras_clipping

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


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("accumulation", [None, 2])
def test_optimizers_apply_the_gradients_that_the_method_we_replace_returns(name, accumulation):
    hook = _keras_clipping._HOOKS[keras.backend.backend()]
    results = []
    for factor in (0.0, 1.0):
        optimizer = getattr(keras.optimizers, name)(0.25, gradient_accumulation_steps=accumulation)
        optimizer.weight_decay = None
        assert hasattr(optimizer, hook), f"Keras {keras.version()}: {name} has no {hook}"
        weight = keras.Variable(np.ones(2, "float32"))
        optimizer.build([weight])
        setattr(optimizer, hook, _scaling(hook, factor))
        for _ in range(accumulation or 1):
            optimizer.apply([keras.ops.ones(2)], [weight])
        results.append(keras.ops.convert_to_numpy(weight))
    np.testing.assert_allclose(results[0], 1.0, atol=1e-6)
    assert np.all(results[1] < 0.999), f"Keras {keras.version()}: {name} does not use {hook}"


def _scaling(hook, factor):
    if hook == "_clip_gradients":
        return lambda gradients: [factor * gradient for gradient in gradients]
    return lambda pairs: [(factor * gradient, weight) for gradient, weight in pairs]


@pytest.mark.parametrize("scaled", [False, True])
def test_optimizers_save_the_variables_of_the_list_that_we_replace(scaled):
    inner = keras.optimizers.Adam()
    optimizer = keras.optimizers.LossScaleOptimizer(inner) if scaled else inner
    optimizer.build([keras.Variable(np.ones(2))])
    before, store = list(optimizer.variables), {}
    ours = inner.add_variable((), "zeros", aggregation="only_first_replica", name="ours")
    assert optimizer.variables[-1] is ours
    tracked = vars(inner)["_variables"]
    vars(inner)["_variables"] = [v for v in tracked if v is not ours]
    optimizer.save_own_variables(store)
    vars(inner)["_variables"] = tracked
    assert len(store) == len(before), f"Keras {keras.version()} saves other variables"
    inner._untrack_variable(ours)
    assert [v.path for v in optimizer.variables] == [v.path for v in before]


def test_fit_asks_the_model_for_its_first_epoch():
    class StartAt(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            _keras.begin_at_epoch(self.model, 2)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 1))
    history = model.fit(x, x, epochs=4, callbacks=[StartAt()], verbose=0)
    assert history.epoch == [2, 3], f"Keras {keras.version()} no longer reads _initial_epoch"


def test_a_list_of_callbacks_dies_with_the_call_of_fit():
    seen, over = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(_keras.PresentFit())
            seen[0].when_over(lambda: over.append(True))

        def on_epoch_end(self, epoch, logs=None):
            over.append(not seen[0].is_running())

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 1))
    model.fit(x, x, callbacks=[Watch()], verbose=0)
    assert over == [False, True], f"Keras {keras.version()} makes or keeps CallbackList otherwise"
    assert not seen[0].is_running()


def test_optimizers_keep_their_averages_beside_the_weights():
    weight = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build([weight])
    pairs = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    assert [(w is weight, tuple(average.shape)) for w, average in pairs] == [(True, (2,))], (
        f"Keras {keras.version()}: averages are kept otherwise"
    )


def test_the_global_seed_generator_is_a_global_attribute():
    keras.random.normal((1,))
    generator = _keras.global_seed_generator()
    assert isinstance(generator, keras.random.SeedGenerator), (
        f"Keras {keras.version()} keeps the generator of unseeded calls elsewhere"
    )


def test_the_model_keeps_what_it_was_compiled_with():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", ["mse"], loss_weights=[0.5])
    config = getattr(getattr(model, "_compile_config", None), "config", {})
    assert "loss_weights" in config, (
        f"Keras {keras.version()}: a model no longer keeps `_compile_config.config`"
    )
    assert _keras.loss_weights(model) == [0.5]
