"""Capturing what decides the next step, and putting it back."""

import random

import keras
import numpy as np
import pytest

from tfplaybook import _keras_clipping, _keras_state

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def make_model(units=3, optimizer=None, seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(units),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer or keras.optimizers.Adam(), "mse")
    _keras_state.build_optimizer(model)
    return model


def train(model, steps=3):
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    for _ in range(steps):
        model.train_on_batch(x, x[:, :1])


def states_equal(one, other):
    names = [_keras_state._comparable(name) for name in one]
    assert names == [_keras_state._comparable(name) for name in other]
    pairs = zip(one.values(), other.values(), strict=True)
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "AdamW with averages": lambda: keras.optimizers.AdamW(use_ema=True),
    "accumulation": lambda: keras.optimizers.Adam(gradient_accumulation_steps=3),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    "Nadam": lambda: keras.optimizers.Nadam(),
    "Nadam in a loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Nadam()),
    "Adafactor": lambda: keras.optimizers.Adafactor(),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_if_it_had_not_been_stopped(name):
    model = make_model(optimizer=OPTIMIZERS[name]())
    train(model, 4)
    state = _keras_state.capture(model)
    train(model, 3)
    expected = _keras_state.capture(model)
    other = make_model(optimizer=OPTIMIZERS[name](), seed=1)
    train(other, 1)
    _keras_state.restore(other, state)
    assert states_equal(_keras_state.capture(other), state)
    train(other, 3)
    assert states_equal(_keras_state.capture(other), expected)


def test_a_capture_is_a_copy():
    model = make_model()
    state = _keras_state.capture(model)
    before = {name: value.copy() for name, value in state.items()}
    train(model)
    assert states_equal(state, before)
    assert not states_equal(state, _keras_state.capture(model))


def test_a_capture_reuses_memory_that_fits():
    model = make_model()
    first = _keras_state.capture(model)
    train(model)
    kernel = next(name for name in first if name.endswith("kernel"))
    second = _keras_state.capture(model, first)
    assert second[kernel] is first[kernel]
    assert states_equal(second, _keras_state.capture(model))
    wider = make_model(units=4)
    assert states_equal(_keras_state.capture(wider, first), _keras_state.capture(wider))


def test_the_generators_of_the_host_go_on():
    model = make_model()
    random.gauss(0.0, 1.0)
    np.random.normal()  # each leaves a second number for the next call
    state = _keras_state.capture(model)
    expected = [random.gauss(0, 1), random.random(), *np.random.normal(size=3)]
    _keras_state.restore(model, state)
    assert [random.gauss(0, 1), random.random(), *np.random.normal(size=3)] == expected


def test_the_global_seed_goes_on():
    model = make_model()
    keras.random.normal((1,))
    state = _keras_state.capture(model)
    expected = keras.ops.convert_to_numpy(keras.random.normal((3,)))
    keras.random.normal((1,))
    _keras_state.restore(model, state)
    assert np.array_equal(keras.ops.convert_to_numpy(keras.random.normal((3,))), expected)


def test_layers_numbered_otherwise_are_the_same_model():
    state = _keras_state.capture(make_model())
    later = make_model(seed=1)
    assert later.layers[0].name != "dense"
    _keras_state.restore(later, state)
    assert states_equal(_keras_state.capture(later), state)


def differences():
    wider = make_model(units=4)
    other_optimizer = make_model(optimizer=keras.optimizers.SGD(momentum=0.5))
    deeper = keras.Sequential([*make_model().layers, keras.layers.Dense(1)])
    deeper.build((None, 2))
    deeper.compile(keras.optimizers.Adam(), "mse")
    _keras_state.build_optimizer(deeper)
    return {
        "a shape": (wider, r"kernel: the model has float32 \(2, 4\), the checkpoint float32"),
        "an optimizer": (other_optimizer, r"the checkpoint has none|the model has none"),
        "a layer": (deeper, r"the checkpoint has none"),
    }


@pytest.mark.parametrize("what", ["a shape", "an optimizer", "a layer"])
def test_another_model_is_refused_with_the_difference_and_left_alone(what):
    state = _keras_state.capture(make_model())
    model, message = differences()[what]
    before = _keras_state.capture(model)
    with pytest.raises(ValueError, match=message):
        _keras_state.restore(model, state)
    assert states_equal(_keras_state.capture(model), before)


def test_the_averages_can_take_the_place_of_the_weights():
    model = make_model(optimizer=keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5))
    train(model)
    averages = [
        keras.ops.convert_to_numpy(v) for v in model.optimizer._model_variables_moving_average
    ]
    state = _keras_state.capture(model)
    other = make_model(optimizer="sgd", seed=1)
    _keras_state.restore_model(other, state, use_average=True)
    for weight, average in zip(other.trainable_variables, averages, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(weight), average)
    for weight, kept in zip(
        other.non_trainable_variables, model.non_trainable_variables, strict=True
    ):
        assert np.array_equal(keras.ops.convert_to_numpy(weight), keras.ops.convert_to_numpy(kept))


def test_averages_that_were_not_kept_are_missed():
    model = make_model()
    state = _keras_state.capture(model)
    with pytest.raises(ValueError, match="made without `use_ema=True`"):
        _keras_state.restore_model(model, state, use_average=True)


def test_clipping_is_no_part_of_the_state():
    model = make_model()
    before = _keras_state.capture(model)
    installed = _keras_clipping.InstalledClipping(
        model,
        {"count": np.zeros((), "int32")},
        lambda state, norm: (state, norm),
        clips=True,
        caller="test",
    )
    assert len(_keras_clipping.own_variables(model)) == 2
    assert states_equal(_keras_state.capture(model), before)
    installed.uninstall(model)


def test_optimizers_of_a_custom_train_step_are_captured():
    model = make_model()
    model.second_optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.second_optimizer.build(model.trainable_variables)
    state = _keras_state.capture(model)
    assert any(name.startswith("optimizer/") and "sgd" in name for name in state)


@pytest.mark.tensorflow
def test_batch_statistics_are_averaged_over_replicas():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = make_model()
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    model.fit(x, x[:, :1], batch_size=8, verbose=0, shuffle=False)
    mean = model.layers[1].moving_mean
    replicas = [value.numpy() for value in mean.value.values]
    assert not np.array_equal(*replicas)
    with pytest.raises(ValueError, match=r"The replicas hold different values of .*moving_mean"):
        _keras_state.capture(model)
    assert _keras_state.average_batch_norm(model) == 2
    for value in mean.value.values:
        np.testing.assert_allclose(value.numpy(), np.mean(replicas, axis=0), rtol=1e-6)
    assert _keras_state.average_batch_norm(model) == 0
    state = _keras_state.capture(model)
    alone = make_model(seed=1)
    _keras_state.restore(alone, state)
    assert states_equal(_keras_state.capture(alone), state)
