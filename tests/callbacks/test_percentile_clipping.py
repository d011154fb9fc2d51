"""PercentileClipping in a real `fit`, against the same training written in NumPy.

The network has one hidden layer and is trained by SGD on targets with heavy tails, so that norms
differ by orders of magnitude from batch to batch and many updates are clipped.
"""

import contextlib
import copy
import gc
import math
import os
import re
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import tfplaybook as pb
from tfplaybook.callbacks import Calibrated, PercentileClipping, Rolling, WarmupThenDecay

UPDATES = 48
BATCH = 16
RATE = 0.05
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(UPDATES * BATCH, 4)).astype("float32")
Y = (_RNG.standard_t(2, size=(UPDATES * BATCH, 1)) + X[:, :1]).astype("float32")
START = [
    0.3 * _RNG.normal(size=(4, 6)).astype("float32"),
    np.zeros(6, "float32"),
    0.3 * _RNG.normal(size=(6, 1)).astype("float32"),
    np.zeros(1, "float32"),
]
RULE = Rolling(window=16, min_history=4)


class Reference:
    """What training should do, in float64.

    Args:
        rule: `Rolling`, `Calibrated`, a float, or None for no clipping.
        accumulation: Batches of one update.
        skip: Batches that are not applied.
        rates: Learning rate of each update.
    """

    def __init__(self, rule=RULE, *, percentile=90.0, accumulation=1, skip=(), rates=None):
        self.weights = [weight.astype("float64") for weight in START]
        self.norms, self.thresholds, self.averages = [], [], None
        self._rule, self._percentile = rule, percentile
        gradients = []
        for batch in range(UPDATES):
            if batch in skip:
                continue
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            gradients.append(self._gradient(X[rows], Y[rows]))
            if len(gradients) == accumulation:
                rate = RATE if rates is None else rates[len(self.norms)]
                self._apply(
                    [np.mean(parts, axis=0) for parts in zip(*gradients, strict=True)], rate
                )
                gradients = []

    def _gradient(self, x, y):
        kernel, bias, out, out_bias = self.weights
        hidden = np.maximum(x @ kernel + bias, 0.0)
        error = 2.0 * (hidden @ out + out_bias - y) / len(x)
        back = (error @ out.T) * (hidden > 0.0)
        return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]

    def _apply(self, gradient, rate):
        norm = math.sqrt(sum(float(np.sum(part**2)) for part in gradient))
        threshold = self._threshold(norm)
        self.norms.append(norm)
        self.thresholds.append(threshold)
        scale = min(1.0, threshold / norm)
        self.weights = [w - rate * scale * g for w, g in zip(self.weights, gradient, strict=True)]
        if self.averages is None:
            self.averages = self.weights
        self.averages = [
            0.9 * a + 0.1 * w for a, w in zip(self.averages, self.weights, strict=True)
        ]

    def _threshold(self, norm):
        rule, norms = self._rule, [*self.norms, norm]
        if isinstance(rule, Rolling):
            enough = len(norms) >= rule.min_history
            return np.percentile(norms[-rule.window :], self._percentile) if enough else math.inf
        if isinstance(rule, Calibrated):
            enough = len(self.norms) >= rule.steps
            return np.percentile(norms[: rule.steps], self._percentile) if enough else math.inf
        return math.inf if rule is None else rule


def network(optimizer=None, *, lazy=False, weights=START, cls=keras.Sequential, **options):
    layers = [keras.layers.Dense(6, activation="relu"), keras.layers.Dense(1)]
    model = cls(layers if lazy else [keras.Input((4,)), *layers])
    if not lazy:
        model.set_weights(weights)
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **options)
    return model


def fit(model, callbacks, *, batches=slice(None), **options):
    rows = slice(
        None if batches.start is None else batches.start * BATCH,
        None if batches.stop is None else batches.stop * BATCH,
    )
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **options}
    return model.fit(X[rows], Y[rows], callbacks=callbacks, **options)


def assert_same(model, clipping, reference, *, rtol=1e-6, atol=1e-6):
    np.testing.assert_allclose(clipping.norms, reference.norms, rtol=rtol, atol=atol)
    np.testing.assert_allclose(clipping.thresholds, reference.thresholds, rtol=rtol, atol=atol)
    assert_weights(model, reference.weights, atol=atol)


def assert_weights(model, weights, *, atol=1e-6):
    for found, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def clipped(clipping):
    return clipping.norms > clipping.thresholds


COMPILED = [
    {},
    {"steps_per_execution": 8},
    {"jit_compile": True},
    {"jit_compile": True, "steps_per_execution": 8},
    {"run_eagerly": True},
]


@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_equals_numpy_however_the_step_is_compiled(options):
    model, clipping = network(**options), PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    reference = Reference()
    assert_same(model, clipping, reference)
    assert 4 <= np.sum(clipped(clipping)) <= UPDATES // 2
    np.testing.assert_array_equal(clipping.steps, np.arange(1, UPDATES + 1))


@pytest.mark.parametrize(
    ("threshold", "percentile"), [(Calibrated(steps=10), 90.0), (Rolling(window=1000), 99.0)]
)
@pytest.mark.parametrize("steps_per_execution", [1, 8])
def test_equals_numpy_for_every_threshold(threshold, percentile, steps_per_execution):
    model = network(steps_per_execution=steps_per_execution)
    clipping = PercentileClipping(threshold=threshold, percentile=percentile)
    fit(model, [clipping])
    reference = Reference(threshold, percentile=percentile)
    assert_same(model, clipping, reference)


def test_a_number_is_a_threshold_from_the_first_step_on():
    model, clipping = network(), PercentileClipping(threshold=0.5)
    with pytest.warns(UserWarning, match="of the updates were clipped over steps 1-48"):
        fit(model, [clipping])
    assert_same(model, clipping, Reference(0.5))
    assert clipped(clipping)[0]


def test_monitor_only_records_and_changes_nothing():
    model, clipping = network(), PercentileClipping(threshold=RULE, monitor_only=True)
    fit(model, [clipping])
    assert_weights(model, Reference(None).weights)
    np.testing.assert_allclose(clipping.norms, Reference(None).norms, rtol=1e-6)
    assert clipped(clipping).any()


@pytest.mark.parametrize("options", COMPILED[:4], ids=str)
def test_counts_updates_under_gradient_accumulation(options):
    model = network(keras.optimizers.SGD(RATE, gradient_accumulation_steps=3), **options)
    clipping = PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    reference = Reference(accumulation=3)
    assert len(clipping.norms) == UPDATES // 3
    assert_same(model, clipping, reference)


def test_averages_of_the_weights_are_of_clipped_updates():
    model = network(keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.9))
    clipping = PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    assert_weights(model, Reference().averages)


@pytest.mark.parametrize("options", COMPILED[:4], ids=str)
def test_norms_are_unscaled_and_overflowed_steps_are_no_updates(options):
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0**10)
    model, clipping = network(scaled, **options), PercentileClipping(threshold=RULE)
    x = X.copy()
    x[3 * BATCH] = np.inf
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    model.fit(x, Y, callbacks=[clipping], **options)
    assert_same(model, clipping, Reference(skip=[3]))
    assert float(scaled.dynamic_scale.numpy()) == 2.0**9


def test_a_fixed_loss_scale_is_divided_out():
    model = network(keras.optimizers.SGD(RATE, loss_scale_factor=64.0))
    clipping = PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    assert_same(model, clipping, Reference())


def test_an_optimizer_that_is_built_by_the_first_step():
    model, clipping = network(lazy=True), PercentileClipping(threshold=RULE)
    model(X[:1])
    model.set_weights(START)
    assert not model.optimizer.built
    fit(model, [clipping])
    assert_same(model, clipping, Reference())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_repeated_indices_of_an_embedding_count_once(jit_compile):
    def embedding():
        table = keras.layers.Embedding(5, 3, embeddings_initializer="ones")
        model = keras.Sequential([keras.Input((4,), dtype="int32"), table])
        model.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=jit_compile)
        return model

    tokens = np.array([[0, 1, 1, 1], [3, 0, 0, 2]])
    y = np.arange(24, dtype="float32").reshape(2, 4, 3)
    gradient = np.zeros((5, 3))
    np.add.at(gradient, tokens.ravel(), 2.0 * (1.0 - y.reshape(8, 3)) / 24)
    norm = np.linalg.norm(gradient)
    for threshold in (norm / 2, norm * 2):
        model, clipping = embedding(), PercentileClipping(threshold=threshold)
        model.fit(tokens, y, callbacks=[clipping], verbose=0)
        np.testing.assert_allclose(clipping.norms, [norm], rtol=1e-6)
        expected = 1.0 - RATE * min(1.0, threshold / norm) * gradient
        np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)


def test_weights_without_a_gradient_are_left_alone():
    class OneOfTwo(keras.layers.Layer):
        def build(self, shape):
            self.used = self.add_weight(shape=(1,), initializer="ones")
            self.unused = self.add_weight(shape=(1,), initializer="ones")

        def call(self, x):
            return x * self.used

    model = keras.Sequential([keras.Input((1,)), OneOfTwo()])
    model.compile(keras.optimizers.SGD(RATE), "mae")
    clipping = PercentileClipping(threshold=0.5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gradients do not exist")  # Keras' own
        model.fit(np.full((2, 1), 3.0), np.zeros((2, 1)), callbacks=[clipping], verbose=0)
    np.testing.assert_allclose(clipping.norms, [3.0], rtol=1e-6)
    np.testing.assert_allclose(model.get_weights()[0], 1.0 - RATE * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[1], 1.0)


def test_every_fit_starts_anew_and_a_state_goes_on():
    half = UPDATES // 2
    model, clipping = network(), PercentileClipping(threshold=RULE)
    fit(model, [clipping], batches=slice(0, half))
    first = clipping.norms
    state = clipping.state_dict()
    fit(model, [clipping], batches=slice(half, None))
    assert len(clipping.norms) == half
    np.testing.assert_array_equal(clipping.steps, np.arange(half, UPDATES) + 1)
    assert np.isinf(clipping.thresholds[: RULE.min_history - 1]).all()

    model, clipping = network(), PercentileClipping(threshold=RULE)
    fit(model, [clipping], batches=slice(0, half))
    for resumed in (clipping, PercentileClipping(threshold=RULE)):
        again = network(weights=model.get_weights())
        resumed.load_state_dict(state)
        np.testing.assert_array_equal(resumed.state_dict()["history"], state["history"])
        fit(again, [resumed], batches=slice(half, None))
        reference = Reference()
        assert_weights(again, reference.weights)
        np.testing.assert_allclose(
            np.append(first, resumed.norms), reference.norms, rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("threshold", [RULE, Calibrated(steps=40), 4.0], ids=str)
def test_a_run_resumed_at_any_step_is_the_run_that_was_not_stopped(threshold):
    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            resumed.load_state_dict(state)

    model, whole = network(steps_per_execution=2), PercentileClipping(threshold=threshold)
    fit(model, [whole])
    for stop in (2, 18):
        first = network(steps_per_execution=2)
        clipping = PercentileClipping(threshold=threshold)
        fit(first, [clipping], batches=slice(0, stop))
        state = {name: np.array(value) for name, value in clipping.state_dict().items()}
        second = network(weights=first.get_weights(), steps_per_execution=2)
        resumed = PercentileClipping(threshold=threshold)
        fit(second, [Restore(), resumed], batches=slice(stop, None))
        np.testing.assert_array_equal(np.append(clipping.norms, resumed.norms), whole.norms)
        for one, other in zip(second.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_train_on_batch_with_the_callback_driven_by_hand():
    model, clipping = network(), PercentileClipping(threshold=RULE)
    callbacks = keras.callbacks.CallbackList([clipping], model=model)
    callbacks.on_train_begin()
    for batch in range(UPDATES):
        rows = slice(batch * BATCH, (batch + 1) * BATCH)
        model.train_on_batch(X[rows], Y[rows])
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    assert_same(model, clipping, Reference())


def test_kept_installed_it_goes_on_in_train_on_batch_until_the_next_one_takes_it_out():
    model = network()
    model.optimizer.build(model.trainable_variables)
    attributes = set(vars(model.optimizer))
    half = UPDATES // 2
    clipping = PercentileClipping(threshold=RULE, keep_installed=True)
    fit(model, [clipping], batches=slice(0, half))
    for batch in range(half, UPDATES):
        rows = slice(batch * BATCH, (batch + 1) * BATCH)
        model.train_on_batch(X[rows], Y[rows])
    assert_weights(model, Reference().weights)
    assert len(clipping.norms) == half
    fit(model, [PercentileClipping(monitor_only=True)])
    assert set(vars(model.optimizer)) == attributes


def test_a_custom_train_step():
    class Custom(keras.Sequential):
        if keras.backend.backend() == "tensorflow":

            def train_step(self, data):
                import tensorflow as tf

                x, y = data
                with tf.GradientTape() as tape:
                    loss = ops.mean(ops.square(self(x, training=True) - y))
                weights = self.trainable_variables
                self.optimizer.apply(tape.gradient(loss, weights), weights)
                return {"loss": loss}

        else:

            def train_step(self, state, data):
                logs, state = super().train_step(state, data)
                return {"loss": logs["loss"]}, state

    model, clipping = network(cls=Custom), PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    assert_same(model, clipping, Reference())


def train_on_replicas(replicas):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = network()
    clipping = PercentileClipping(threshold=RULE)
    history = fit(model, [clipping])
    assert_same(model, clipping, Reference())
    assert history.history["gradient_norm"][0] == pytest.approx(clipping.norms[-1])

    for bad_replica in (0, replicas - 1):
        with strategy.scope():
            inner = keras.optimizers.SGD(RATE)
            scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**10)
            model = network(scaled)
        x = X.copy()
        x[3 * BATCH + bad_replica * BATCH // replicas] = np.inf
        clipping = PercentileClipping(threshold=RULE)
        model.fit(x, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clipping])
        assert_same(model, clipping, Reference(skip=[3]))
        assert "check_finite" not in vars(scaled)

    keras.config.set_dtype_policy("mixed_float16")
    with strategy.scope():
        model = network(
            keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=16.0)
        )
    assert {layer.compute_dtype for layer in model.layers} == {"float16"}
    x = X.copy()
    x[3 * BATCH + BATCH - 1] = 1e5  # overflows in float16, on the last replica
    clipping = PercentileClipping(threshold=RULE)
    model.fit(x, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clipping])
    assert_same(model, clipping, Reference(skip=[3]), rtol=0.01, atol=0.01)


@pytest.mark.tensorflow
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_train_like_one_device_and_skip_a_step_that_overflowed_on_any(replicas):
    # In a process of its own: TensorFlow has replica groups of one size in a process, and matches
    # the collectives of two strategies by numbers that both start at 100.
    run(
        "import conftest, test_percentile_clipping as t; "
        f"t.train_on_replicas({replicas}); print('equal')"
    )


JAX_DATA_PARALLEL = """
import keras, numpy as np
import test_percentile_clipping as t
keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
import jax
assert len(jax.devices()) == 4
for options in ({}, {"steps_per_execution": 8}):
    model = t.network(**options)
    clipping = t.PercentileClipping(threshold=t.RULE)
    t.fit(model, [clipping])
    t.assert_same(model, clipping, t.Reference())
    devices = {len(v.value.devices()) for v in model.trainable_variables}
    assert devices == {4}, devices
print("equal")
"""


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="keras.distribution works on JAX")
def test_four_devices_of_jax_train_like_one():
    run(JAX_DATA_PARALLEL, XLA_FLAGS="--xla_force_host_platform_device_count=4")


def run(code, **environment):
    """Run `code` beside this module in a new process; it prints `equal`."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(here), *map(str, (here.parent, *sys.path))]),
            "KERAS_BACKEND": keras.backend.backend(),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["equal"]


@pytest.mark.parametrize("order", [1, -1])
def test_clips_beside_a_learning_rate_schedule_in_either_order(order):
    model, clipping = network(), PercentileClipping(threshold=RULE)
    warmup = WarmupThenDecay(warmup_steps=8)
    model.optimizer.build(model.trainable_variables)
    before = set(vars(model.optimizer))
    fit(model, [clipping, warmup][::order])
    rates = ops.convert_to_numpy(warmup.schedule(np.arange(UPDATES)))
    assert_same(model, clipping, Reference(rates=rates))
    assert set(vars(model.optimizer)) == before


def test_records_every_norm_of_a_run_longer_than_the_ring():
    for steps_per_execution in (1, 700):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.0), "mae", steps_per_execution=steps_per_execution)
        x = np.random.default_rng(0).permutation(2500).astype("float32")[:, None]
        clipping = PercentileClipping(monitor_only=True)
        model.fit(
            x, x + 1e6, batch_size=1, shuffle=False, callbacks=[clipping], epochs=2, verbose=0
        )
        np.testing.assert_array_equal(clipping.norms, np.tile(x[:, 0], 2))


def test_a_lost_norm_is_an_error_that_says_how_to_keep_it():
    model, clipping = network(), PercentileClipping()
    callbacks = keras.callbacks.CallbackList([clipping], model=model)
    callbacks.on_train_begin()
    for _ in range(1030):
        model.train_on_batch(X[:2], Y[:2])
    with pytest.raises(ValueError, match=r"norms of 6 updates are lost.*on_train_batch_end"):
        _ = clipping.norms


def one_weight(**options):
    """A model whose gradient norm is the batch's absolute input."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(
        keras.optimizers.SGD(1e-9), loss=lambda y_true, y_pred: ops.mean(y_pred), **options
    )
    return model


def fit_norms(norms, clipping, **options):
    x = np.array(norms, "float32")[:, None]
    model = one_weight(**options)
    model.set_weights([np.zeros((1, 1))])
    model.fit(x, x, batch_size=1, shuffle=False, callbacks=[clipping], verbose=0)
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
def test_zero_gradients_and_equal_norms_clip_nothing(jit_compile):
    for norms in ([0.0] * 8, [0.1] * 8, [0.0] * 12 + [3.0]):
        clipping = PercentileClipping(threshold=Rolling(window=20, min_history=1))
        model = fit_norms(norms, clipping, jit_compile=jit_compile)
        np.testing.assert_allclose(clipping.norms, norms, rtol=1e-6)
        assert not clipped(clipping).any()
        expected = -1e-9 * np.sum(np.array(norms, "float32"))
        np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("threshold", [Rolling(window=4, min_history=2), Calibrated(steps=2), 5.0])
def test_a_gradient_that_is_not_finite_is_counted_and_changes_no_threshold(threshold, jit_compile):
    norms = [1.0, np.nan, 2.0, np.inf, 3.0, 4.0]
    clipping = PercentileClipping(threshold=threshold)
    with pytest.warns(
        UserWarning, match="2 of 6 gradient norms were not finite, the first at step 2"
    ):
        model = fit_norms(norms, clipping, jit_compile=jit_compile)
    np.testing.assert_array_equal(np.isfinite(clipping.norms), np.isfinite(norms))
    assert not np.isnan(clipping.thresholds).any()
    clean = PercentileClipping(threshold=threshold)
    fit_norms([1.0, 2.0, 3.0, 4.0], clean, jit_compile=jit_compile)
    finite = np.isfinite(norms)
    np.testing.assert_array_equal(clipping.thresholds[finite], clean.thresholds)
    assert not np.isfinite(model.get_weights()[0]).any()


def test_logs_have_the_last_norm_and_threshold_and_the_fraction_of_the_epoch():
    model, clipping = network(), PercentileClipping(threshold=RULE)
    x, y = X[: 24 * BATCH], Y[: 24 * BATCH]
    history = model.fit(
        x, y, batch_size=BATCH, shuffle=False, epochs=2, callbacks=[clipping], verbose=0
    ).history
    ends = [23, 47]
    np.testing.assert_array_equal(history["gradient_norm"], clipping.norms[ends])
    np.testing.assert_array_equal(history["clip_threshold"], clipping.thresholds[ends])
    np.testing.assert_allclose(
        history["clipped_fraction"], clipped(clipping).reshape(2, 24).mean(axis=1)
    )


@pytest.mark.parametrize("order", [1, -1])
def test_writes_every_norm_into_the_recorded_run(tmp_path, order):
    clipping = PercentileClipping(threshold=RULE)
    fit(
        network(steps_per_execution=8),
        [clipping, pb.runs.RunRecorder(tmp_path)][::order],
    )
    curves = pb.runs.load_run(tmp_path).curves
    np.testing.assert_array_equal(curves["gradient_norm"].steps, np.arange(1, UPDATES + 1))
    np.testing.assert_array_equal(curves["gradient_norm"].values, clipping.norms)
    set_at = np.isfinite(clipping.thresholds)
    np.testing.assert_array_equal(curves["clip_threshold"].steps, clipping.steps[set_at])
    np.testing.assert_array_equal(curves["clip_threshold"].values, clipping.thresholds[set_at])
    assert curves["clipped_fraction"].values == [np.mean(clipped(clipping))]


def test_writes_curves_and_the_histogram_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    clipping = PercentileClipping(threshold=RULE, log_dir=tmp_path, update_freq=12)
    fit(network(), [clipping])
    events = EventAccumulator(str(tmp_path)).Reload()
    norms = events.Tensors("gradient_norm")
    assert [event.step for event in norms] == [12, 24, 36, 48]
    np.testing.assert_allclose(
        [event.tensor_proto.float_val[0] for event in norms], clipping.norms[11::12]
    )
    (chart,) = drawn_together(events)
    assert [tag for tag in events.Tags()["tensors"] if re.search("|".join(chart.tag), tag)] == [
        "gradient_norm",
        "clip_threshold",
    ]
    (histogram,) = events.Tensors("gradient_norm_log10")
    low, high, count = tensor_util.make_ndarray(histogram.tensor_proto).T
    assert count.sum() == UPDATES
    assert low[0] == pytest.approx(np.log10(clipping.norms.min()))
    assert high[-1] == pytest.approx(np.log10(clipping.norms.max()))


def drawn_together(events):
    """The charts of several curves that TensorBoard shows under "Custom Scalars"."""
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    name = metadata.CONFIG_SUMMARY_TAG
    assert events.SummaryMetadata(name).plugin_data.plugin_name == metadata.PLUGIN_NAME
    (event,) = events.Tensors(name)
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return [chart.multiline for category in layout.category for chart in category.chart]


def test_a_threshold_from_an_earlier_run_clips_the_first_step(tmp_path):
    first = [PercentileClipping(monitor_only=True), pb.runs.RunRecorder(tmp_path)]
    fit(network(), first)
    threshold = pb.callbacks.threshold_from(tmp_path, percentile=60)
    assert threshold == np.percentile(first[0].norms, 60)
    model, clipping = network(), PercentileClipping(threshold=threshold)
    fit(model, [clipping])
    assert_same(model, clipping, Reference(threshold))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("make", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_gives_the_optimizer_back_as_it_found_it(make, scaled):
    inner = make(RATE)
    model = network(keras.optimizers.LossScaleOptimizer(inner) if scaled else inner)
    fit(model, [])
    config = model.optimizer.get_config()
    paths = [variable.path for variable in model.optimizer.variables]
    attributes = set(vars(model.optimizer)), set(vars(inner))
    fit(model, [PercentileClipping()])
    assert model.optimizer.get_config() == config
    assert [variable.path for variable in model.optimizer.variables] == paths
    assert (set(vars(model.optimizer)), set(vars(inner))) == attributes


def test_an_interrupted_fit_does_not_disturb_the_next_and_its_norms_can_be_read():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                raise KeyboardInterrupt

    model, interrupted = network(), PercentileClipping(threshold=0.01)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [interrupted, Interrupt()])
    np.testing.assert_allclose(interrupted.norms[0], Reference().norms[0], rtol=1e-6)
    assert len(interrupted.norms) == 6
    model.set_weights(START)
    clipping = PercentileClipping(threshold=RULE)
    fit(model, [clipping])
    assert_same(model, clipping, Reference())
    assert len(interrupted.norms) == 6


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_model_that_was_clipped_can_be_freed(interrupt, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if interrupt:
                raise KeyboardInterrupt

    def train():
        model = network()
        with contextlib.suppress(KeyboardInterrupt):
            fit(
                model,
                [
                    PercentileClipping(),
                    WarmupThenDecay(warmup_steps=1),
                    pb.runs.RunRecorder(tmp_path),
                    Interrupt(),
                ],
            )
        return weakref.ref(model)

    model = train()
    gc.collect()
    assert model() is None


@pytest.mark.parametrize("keep_installed", [False, True])
def test_uninstall_gives_the_optimizer_back_after_an_interrupted_or_a_kept_fit(keep_installed):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not keep_installed:
                raise KeyboardInterrupt

    model = network()
    model.optimizer.build(model.trainable_variables)
    attributes = set(vars(model.optimizer))
    clipping = PercentileClipping(threshold=0.01, keep_installed=keep_installed)
    with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* of the updates were clipped")
        fit(model, [clipping, Interrupt()])
    norms = clipping.norms
    assert len(norms) == (UPDATES if keep_installed else 1)
    assert set(vars(model.optimizer)) != attributes
    for _ in range(2):
        clipping.uninstall()
        assert set(vars(model.optimizer)) == attributes
        np.testing.assert_array_equal(clipping.norms, norms)
    model.set_weights(START)
    fit(model, [])
    assert_weights(model, Reference(None).weights)


LOAD_WITHOUT_TFPLAYBOOK = """
import sys, warnings, keras
warnings.simplefilter("error")
model = keras.models.load_model(sys.argv[1])
inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
print(int(inner.iterations))
print(sum(float(keras.ops.sum(keras.ops.abs(v))) > 0 for v in inner.variables[2:]))
assert "tfplaybook" not in sys.modules
"""


@pytest.mark.parametrize("scaled", [False, True])
def test_a_model_saved_during_training_loads_without_tfplaybook(tmp_path, scaled):
    path = tmp_path / "model.keras"
    inner = keras.optimizers.Adam(RATE)
    model = network(keras.optimizers.LossScaleOptimizer(inner) if scaled else inner)
    fit(model, [keras.callbacks.ModelCheckpoint(path), PercentileClipping()])
    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_TFPLAYBOOK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(UPDATES), "8"]
    weights = []
    for again in (model, keras.models.load_model(path)):
        fit(again, [PercentileClipping()])
        weights.append(again.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_backup_and_restore_restores_the_optimizer_beside_it(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def train(callbacks):
        model = network(keras.optimizers.Adam(RATE))
        clipping = PercentileClipping(threshold=RULE, monitor_only=True)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        fit(model, [clipping, backup, *callbacks], epochs=2)
        return model, clipping

    with pytest.raises(KeyboardInterrupt):
        train([Stop()])
    model, clipping = train([])
    np.testing.assert_array_equal(clipping.steps, np.arange(UPDATES, 2 * UPDATES) + 1)
    whole = network(keras.optimizers.Adam(RATE))
    fit(whole, [], epochs=2)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_copy_is_as_new_also_of_a_callback_that_has_trained():
    clipping = PercentileClipping(threshold=RULE)
    fit(network(), [clipping])
    copied = copy.deepcopy(clipping)
    assert len(copied.norms) == 0
    model = network()
    fit(model, [copied])
    assert_same(model, copied, Reference())


def test_plots_the_run_before_during_and_after_trouble(tmp_path):
    clipping = PercentileClipping(threshold=Rolling(window=4, min_history=2))
    assert [text.get_text() for text in clipping.plot().axes[0].texts] == ["no update was recorded"]
    with pytest.warns(UserWarning, match="not finite"):
        fit_norms([1.0, 2.0, 3.0, 8.0, np.nan], clipping)
    figure = clipping.plot()
    figure.savefig(tmp_path / "clipping.png")
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["norm", "clipped: 60.0% of the updates", "threshold", "not finite: 1"]


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_refuses_an_optimizer_that_clips_by_itself(option):
    model = network(keras.optimizers.SGD(RATE, **{option: 1.0}))
    with pytest.raises(ValueError, match=rf"SGD with {option}=1.0. Leave {option} out"):
        fit(model, [PercentileClipping()])


def test_refuses_two_in_one_fit():
    with pytest.raises(ValueError, match="Two clippings in one `fit`"):
        fit(network(), [PercentileClipping(), PercentileClipping()])


def test_refuses_an_optimizer_that_applies_gradients_in_its_own_way():
    class Own(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            self._iterations.assign_add(1)

    class Batches(keras.callbacks.Callback):
        count = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.count += 1

    batches = Batches()
    with pytest.raises(ValueError, match="PercentileClipping clipped nothing: Own was updated"):
        fit(network(Own(RATE), run_eagerly=True), [PercentileClipping(), batches])
    assert batches.count == 1


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("options", "accumulation", "message"),
    [
        ({"jit_compile": True}, None, r"jit_compile=True \(keras#19005\)"),
        ({"steps_per_execution": 2}, None, r"steps_per_execution=2 \(keras#19246\)"),
        ({}, 2, r"gradient_accumulation_steps=2 \(keras#20582\)"),
    ],
)
def test_names_what_keras_cannot_train_on_replicas(options, accumulation, message):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=accumulation)
        model = network(optimizer, **options)
        with pytest.raises(ValueError, match=rf"2 replicas of MirroredStrategy with {message}"):
            PercentileClipping().set_model(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0}, "`percentile` must be a finite number greater than 0"),
        ({"percentile": 100.0}, "`percentile` must be less than 100"),
        ({"percentile": 90, "threshold": 1.0}, "`percentile` has no meaning for a threshold"),
        ({"threshold": -1.0}, "`threshold` must be"),
        ({"update_freq": "step"}, "`update_freq` must be 'epoch', 'batch' or an integer"),
    ],
)
def test_refuses_bad_arguments_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        PercentileClipping(**options)


@pytest.mark.parametrize("state", [{}, {"history": np.zeros(3), "count": np.array(0)}])
def test_refuses_the_state_of_another_threshold(state):
    with pytest.raises(ValueError, match=r"history': \(16,\).*Received"):
        PercentileClipping(threshold=RULE).load_state_dict(state)
