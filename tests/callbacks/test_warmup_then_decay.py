"""WarmupThenDecay in a real `fit`: the rate of every update, read off the weights.

The probe is a linear model of one weight per update. Batch `u` is the unit vector `e_u` and the
loss is minus the output, so SGD adds exactly the rate of update `u` to weight `u`.
"""

import copy
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import tfplaybook as pb
from tfplaybook.callbacks import WarmupThenDecay

PEAK = 0.25
UPDATES = 24


def probe(optimizer=None, *, updates=UPDATES, dtype=None, **compile_options):
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=dtype)
    model = keras.Sequential([keras.Input((updates,)), layer])
    model.compile(
        optimizer=optimizer or keras.optimizers.SGD(PEAK),
        loss=lambda y_true, y_pred: -ops.mean(y_pred, axis=-1),
        **compile_options,
    )
    return model


def unit_batches(updates=UPDATES, *, repeat=1):
    x = np.repeat(np.eye(updates, dtype="float32"), repeat, axis=0)
    return x, np.zeros(len(x), "float32")


def train(model, callbacks, *, epochs=1, batch_size=1, repeat=1, **options):
    """Train over all unit vectors once, in `epochs` equal parts."""
    updates = model.input_shape[-1]
    x, y = unit_batches(updates, repeat=repeat)
    steps = len(x) // batch_size // epochs
    return model.fit(
        _endless(x, y, batch_size),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
        **options,
    )


def _endless(x, y, batch_size):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size, True).repeat()

    def batches():
        while True:
            for start in range(0, len(x), batch_size):
                yield x[start : start + batch_size], y[start : start + batch_size]

    return batches()


def applied(model):
    return model.trainable_variables[0].numpy()[:, 0]


def expected(updates=UPDATES, *, peak=PEAK, warmup_steps=4, decay="cosine", **options):
    schedule = pb.schedules.WarmupDecaySchedule(
        peak_learning_rate=peak,
        warmup_steps=warmup_steps,
        decay_steps=updates - warmup_steps,
        decay=decay,
        **options,
    )
    return ops.convert_to_numpy(schedule(np.arange(updates)))


def assert_applied(model, rates, *, rtol=1e-6):
    np.testing.assert_allclose(applied(model), rates, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 8])
def test_exact_at_every_update(jit_compile, steps_per_execution):
    model = probe(jit_compile=jit_compile, steps_per_execution=steps_per_execution)
    history = train(model, [WarmupThenDecay(warmup_steps=4)], epochs=3)
    assert_applied(model, expected())
    np.testing.assert_allclose(
        history.history["learning_rate"], expected()[[7, 15, 23]], rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(
    "options",
    [
        {"decay": "linear", "hold_steps": 3},
        {"decay": "polynomial", "decay_power": 2.0, "initial_fraction": 0.5},
        {"decay": "inverse_sqrt", "final_fraction": 0.3, "warmup_power": 2.0},
        {"decay": "constant"},
    ],
)
def test_passes_its_options_to_the_schedule(options):
    model = probe()
    callback = WarmupThenDecay(warmup_steps=4, **options)
    train(model, [callback])
    schedule = pb.schedules.WarmupDecaySchedule(
        peak_learning_rate=PEAK,
        warmup_steps=4,
        decay_steps=UPDATES - 4 - options.get("hold_steps", 0),
        **options,
    )
    assert callback.schedule.get_config() == schedule.get_config()
    assert_applied(model, ops.convert_to_numpy(schedule(np.arange(UPDATES))))


def test_counts_updates_under_gradient_accumulation():
    optimizer = keras.optimizers.SGD(PEAK, gradient_accumulation_steps=3)
    model = probe(optimizer)
    train(model, [WarmupThenDecay(warmup_steps=4)], repeat=3, epochs=2)
    assert_applied(model, expected())


def test_mixed_precision_skips_no_step_of_the_schedule_when_a_step_overflows():
    optimizer = keras.optimizers.SGD(PEAK)
    model = probe(optimizer, dtype="mixed_float16", auto_scale_loss=True)
    scaled = keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=256.0)
    model.compile(scaled, loss=lambda y_true, y_pred: -ops.mean(y_pred, axis=-1))
    x, y = unit_batches()
    # The first batch overflows float16 once scaled; its update is skipped and the scale halves.
    x = np.concatenate([x[:1] * 1000.0, x[:-1]])
    model.fit(
        _endless(x, y, 1),
        steps_per_epoch=UPDATES,
        callbacks=[WarmupThenDecay(warmup_steps=4, initial_fraction=0.5)],
        shuffle=False,
        verbose=0,
    )
    rates = expected(initial_fraction=0.5)[:-1]
    assert_applied(model, np.append(rates, 0.0), rtol=1e-3)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_exact_under_mirrored_strategy(dtype):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = probe(dtype=dtype)
    history = train(model, [WarmupThenDecay(warmup_steps=4)], batch_size=2, repeat=2, epochs=2)
    assert_applied(model, expected())
    assert history.history["learning_rate"][-1] == pytest.approx(expected()[-1])


@pytest.mark.parametrize("make", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_equals_compiling_with_the_schedule_for_any_optimizer(make):
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(size=(2, 48, 3)).astype("float32")
    schedule = pb.schedules.WarmupDecaySchedule(
        peak_learning_rate=0.1, warmup_steps=4, decay_steps=20
    )
    weights = []
    for rate, callbacks in [
        (schedule, []),
        (0.1, [WarmupThenDecay(warmup_steps=4)]),
        (0.7, [WarmupThenDecay(warmup_steps=4, peak_learning_rate=0.1)]),
    ]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
        model.compile(make(rate), "mse")
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights[2], weights[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [keras.optimizers.SGD, keras.optimizers.Nadam])
def test_gives_the_optimizer_back_as_it_found_it(make):
    model = probe(make(0.125))
    train(model, [])
    before = model.optimizer.get_config()
    variables = [variable.path for variable in model.optimizer.variables]
    attributes = set(vars(model.optimizer))
    train(model, [WarmupThenDecay(warmup_steps=4, peak_learning_rate=3.0)])
    assert model.optimizer.get_config() == before
    assert [variable.path for variable in model.optimizer.variables] == variables
    assert set(vars(model.optimizer)) == attributes
    if make is keras.optimizers.SGD:
        reset(model)
        train(model, [])
        assert_applied(model, np.full(UPDATES, 0.125))


def reset(model):
    model.trainable_variables[0].assign(np.zeros((model.input_shape[-1], 1)))


def test_a_second_fit_is_a_new_schedule_and_initial_epoch_continues_one():
    model, callback = probe(), WarmupThenDecay(warmup_steps=4)
    train(model, [callback])
    reset(model)
    train(model, [callback])
    assert_applied(model, expected())

    model = probe()
    x, y = unit_batches()
    half = UPDATES // 2
    options = {"steps_per_epoch": half, "shuffle": False, "verbose": 0}
    callback = WarmupThenDecay(warmup_steps=4, total_steps=UPDATES)
    model.fit(_endless(x[:half], y[:half], 1), callbacks=[callback], **options)
    model.fit(
        _endless(x[half:], y[half:], 1),
        initial_epoch=1,
        epochs=2,
        callbacks=[WarmupThenDecay(warmup_steps=4)],
        **options,
    )
    assert_applied(model, expected())


def test_kept_installed_it_goes_on_until_the_next_one_takes_it_out():
    model = probe()
    train(model, [WarmupThenDecay(warmup_steps=4, final_fraction=0.5, keep_installed=True)])
    reset(model)
    train(model, [])
    assert_applied(model, np.full(UPDATES, PEAK * 0.5))
    reset(model)
    train(model, [WarmupThenDecay(warmup_steps=4)])
    assert_applied(model, expected())
    assert model.optimizer.learning_rate.numpy() == PEAK


def test_a_model_trained_with_it_can_be_saved_loaded_and_trained_again(tmp_path):
    model = keras.Sequential([keras.Input((UPDATES,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.Adam(PEAK), "mse")
    x, y = unit_batches()
    options = {"batch_size": 1, "shuffle": False, "verbose": 0}
    model.fit(x, y + 1, callbacks=[WarmupThenDecay(warmup_steps=4)], **options)
    model.save(tmp_path / "model.keras")
    weights = []
    for again in (model, keras.models.load_model(tmp_path / "model.keras")):
        again.fit(x, y + 1, callbacks=[WarmupThenDecay(warmup_steps=4)], **options)
        weights.append(applied(again))
    np.testing.assert_array_equal(weights[0], weights[1])


def test_an_interrupted_fit_does_not_disturb_the_next():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                raise KeyboardInterrupt

    model = probe()
    with pytest.raises(KeyboardInterrupt):
        train(model, [WarmupThenDecay(warmup_steps=4, peak_learning_rate=9.0), Interrupt()])
    reset(model)
    train(model, [WarmupThenDecay(warmup_steps=4)])
    assert_applied(model, expected())


def test_after_an_interrupted_fit_uninstall_gives_the_optimizer_back():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model, warmup = probe(), WarmupThenDecay(warmup_steps=4, peak_learning_rate=9.0)
    with pytest.raises(KeyboardInterrupt):
        train(model, [warmup, Interrupt()])
    warmup.uninstall()
    reset(model)
    train(model, [])
    assert_applied(model, np.full(UPDATES, PEAK))


def test_a_restored_checkpoint_brings_its_multiplier_whatever_the_order():
    class Restore(keras.callbacks.Callback):
        """Assigns what a checkpoint of this run held: peak x multiplier."""

        def on_train_begin(self, logs=None):
            self.model.optimizer.learning_rate = PEAK * 0.5

    for order in (1, -1):
        model = probe()
        history = train(model, [Restore(), WarmupThenDecay(warmup_steps=4)][::order], epochs=2)
        assert_applied(model, 0.5 * expected())
        logged = history.history["learning_rate"]
        np.testing.assert_allclose(logged, 0.5 * expected()[[11, 23]], rtol=1e-6, atol=1e-8)


def test_refuses_a_rate_of_zero_assigned_by_another_callback():
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    with pytest.raises(ValueError, match=r"assigned the learning rate 0 .* Use one of the two"):
        train(probe(), [WarmupThenDecay(warmup_steps=4), schedule], epochs=3)


def test_a_rate_assigned_between_fits_is_the_next_peak():
    model = probe()
    train(model, [WarmupThenDecay(warmup_steps=4, keep_installed=True)])
    model.optimizer.learning_rate = 0.5
    reset(model)
    train(model, [WarmupThenDecay(warmup_steps=4)])
    assert_applied(model, expected(peak=0.5))


def test_the_multiplier_scales_the_rest_of_the_schedule():
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                warmup.multiplier = 0.5

    model, warmup = probe(), WarmupThenDecay(warmup_steps=4)
    history = train(model, [Halve(), warmup], epochs=2)
    rates = expected()
    rates[UPDATES // 2 :] *= 0.5
    assert_applied(model, rates)
    np.testing.assert_allclose(
        history.history["learning_rate"], rates[[UPDATES // 2 - 1, -1]], rtol=1e-6
    )
    assert model.optimizer.learning_rate.numpy() == PEAK


def test_its_state_carries_the_multiplier_into_the_next_fit():
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            warmup.multiplier = 0.5

    warmup = WarmupThenDecay(warmup_steps=4)
    train(probe(), [warmup, Halve()])
    state = warmup.state_dict()
    assert state == {"multiplier": np.array(0.5)}
    model, again = probe(), WarmupThenDecay(warmup_steps=4)
    again.load_state_dict(state)
    train(model, [again])
    assert_applied(model, 0.5 * expected())
    with pytest.raises(ValueError, match=r"must be the state_dict of a WarmupThenDecay"):
        again.load_state_dict({"history": np.zeros(3)})


def test_reduce_lr_on_plateau_scales_the_rest_of_the_schedule():
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", mode="max", factor=0.5, patience=1, min_delta=1e6
    )
    for order in (1, -1):
        model = probe()
        train(model, [WarmupThenDecay(warmup_steps=4), copy.copy(plateau)][::order], epochs=3)
        rates = expected()
        rates[UPDATES * 2 // 3 :] *= 0.5
        assert_applied(model, rates, rtol=1e-5)


def test_other_callbacks_read_the_current_rate_from_the_optimizer():
    seen = []

    class Read(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    train(probe(), [Read(), WarmupThenDecay(warmup_steps=4)])
    np.testing.assert_allclose(seen[:-1], expected()[1:], rtol=1e-6, atol=1e-8)


def test_writes_the_rate_of_every_update_into_the_recorded_run(tmp_path):
    for order in (1, -1):
        recorder = pb.runs.RunRecorder(tmp_path / str(order))
        warmup = WarmupThenDecay(warmup_steps=4, update_freq="batch")
        train(probe(steps_per_execution=8), [recorder, warmup][::order], epochs=3)
        curve = pb.runs.load_run(tmp_path / str(order)).curves["learning_rate"]
        np.testing.assert_array_equal(curve.steps, np.arange(1, UPDATES + 1))
        np.testing.assert_allclose(curve.values, expected(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("update_freq", "steps"), [("epoch", [12, 24]), (5, [5, 10, 15, 20])])
def test_writes_tensorboard_events_of_its_own(tmp_path, update_freq, steps):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(
        probe(),
        [WarmupThenDecay(warmup_steps=4, log_dir=tmp_path, update_freq=update_freq)],
        epochs=2,
    )
    events = EventAccumulator(str(tmp_path)).Reload().Tensors("learning_rate")
    assert [event.step for event in events] == steps
    values = [event.tensor_proto.float_val[0] for event in events]
    np.testing.assert_allclose(values, expected()[np.array(steps) - 1], rtol=1e-6, atol=1e-8)


def test_a_copy_is_as_new_also_of_a_callback_that_has_trained():
    callback = WarmupThenDecay(warmup_steps=4, decay="linear", peak_learning_rate=0.5)
    train(probe(), [callback])
    model = probe()
    train(model, [copy.deepcopy(callback)])
    assert_applied(model, expected(peak=0.5, decay="linear"))


LOAD_WITHOUT_TFPLAYBOOK = """
import sys, warnings, keras
warnings.simplefilter("error")
model = keras.models.load_model(sys.argv[1], compile=False)
model = keras.models.load_model(sys.argv[1], custom_objects={"negative": lambda t, p: -p})
print(int(model.optimizer.iterations), float(model.optimizer.learning_rate))
print(sum(float(abs(keras.ops.sum(v))) > 0 for v in model.optimizer.variables[2:]))
assert "tfplaybook" not in sys.modules
"""


@pytest.mark.tensorflow
def test_a_model_saved_during_training_loads_without_tfplaybook(tmp_path):
    path = tmp_path / "model.keras"
    model = keras.Sequential([keras.Input((UPDATES,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(PEAK), "mse")
    x, y = unit_batches()
    save = keras.callbacks.ModelCheckpoint(path)
    model.fit(x, y + 1, batch_size=1, callbacks=[save, WarmupThenDecay(warmup_steps=4)], verbose=0)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_TFPLAYBOOK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(UPDATES), str(PEAK), "4"]


def test_trains_on_a_given_schedule():
    short = pb.schedules.WarmupDecaySchedule(
        peak_learning_rate=0.5, warmup_steps=4, decay_steps=8, decay="linear"
    )
    longer = pb.schedules.lengthen(short, UPDATES)
    model = probe()
    callback = WarmupThenDecay.from_schedule(longer)
    train(model, [callback])
    assert callback.schedule.get_config() == longer.get_config()
    assert_applied(model, ops.convert_to_numpy(longer(np.arange(UPDATES))))


def test_refuses_an_optimizer_compiled_with_a_schedule():
    model = probe(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(ValueError, match=r"constant learning rate.*CosineDecay.*prepend_warmup"):
        train(model, [WarmupThenDecay(warmup_steps=4)])


def test_refuses_two_schedules_in_one_fit():
    with pytest.raises(ValueError, match="Two learning-rate schedules in one `fit`"):
        train(probe(), [WarmupThenDecay(warmup_steps=4), WarmupThenDecay(warmup_steps=2)])


@pytest.mark.parametrize("rate", [0.0, float("nan")])
def test_refuses_a_compiled_rate_that_is_no_peak(rate):
    model = probe(keras.optimizers.SGD(rate))
    with pytest.raises(ValueError, match="The compiled learning rate is the peak, so it must be"):
        train(model, [WarmupThenDecay(warmup_steps=4)])


def test_refuses_a_warmup_longer_than_the_run_and_leaves_no_trace():
    model = probe()
    with pytest.raises(ValueError, match=r"Received: 24 of 24 \(epochs=2 x steps_per_epoch=12\)"):
        train(model, [WarmupThenDecay(warmup_steps=20, hold_steps=4)], epochs=2)
    train(model, [])
    assert_applied(model, np.full(UPDATES, PEAK))
    with pytest.raises(ValueError, match=r"Received: 24 of 10 \(total_steps\)"):
        WarmupThenDecay(warmup_steps=24, total_steps=10)


def test_an_explicit_length_is_compared_with_the_run():
    with pytest.raises(ValueError, match=r"Received: 30 of 24 \(epochs=1 x steps_per_epoch=24\)"):
        train(probe(), [WarmupThenDecay(warmup_steps=30, total_steps=100)])
    with pytest.warns(UserWarning, match="The schedule ends after 12 of the 24 updates"):
        train(probe(), [WarmupThenDecay(warmup_steps=4, total_steps=12)])
    model = probe()
    train(model, [WarmupThenDecay(warmup_steps=4, total_steps=100)])
    assert_applied(model, expected(100)[:UPDATES])


def test_an_epoch_without_an_update_has_the_rate_of_the_next_one():
    model = probe(keras.optimizers.SGD(PEAK, gradient_accumulation_steps=4))
    x, y = unit_batches(repeat=4)
    warmup = WarmupThenDecay(warmup_steps=4, initial_fraction=0.5)
    history = model.fit(
        _endless(x, y, 1),
        epochs=UPDATES * 2,
        steps_per_epoch=2,
        callbacks=[warmup],
        shuffle=False,
        verbose=0,
    ).history
    assert len(history["learning_rate"]) == len(history["loss"]) == UPDATES * 2
    assert history["learning_rate"][:2] == [pytest.approx(PEAK * 0.5)] * 2


def test_a_schedule_that_takes_one_step_at_a_time_can_be_the_decay(tmp_path):
    class Halving(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return ops.cond(step < 8.0, lambda: ops.ones(()), lambda: 0.5 * ops.ones(()))

    model = probe()
    warmup = WarmupThenDecay(warmup_steps=4, decay=Halving(), log_dir=tmp_path, update_freq="batch")
    train(model, [warmup], epochs=2)
    rates = PEAK * np.concatenate([np.arange(4) / 4, np.ones(8), np.full(12, 0.5)])
    assert_applied(model, rates)


def test_refuses_endless_data_of_unknown_length():
    x, y = unit_batches()
    with pytest.raises(ValueError, match="Pass `steps_per_epoch` to `fit` "):
        probe().fit(
            _endless(x, y, 1), callbacks=[WarmupThenDecay(warmup_steps=4)], shuffle=False, verbose=0
        )


def test_refuses_optimizers_that_compute_their_rate_in_their_own_way():
    class Own(keras.optimizers.SGD):
        def _get_current_learning_rate(self):
            return 0.5 * super()._get_current_learning_rate()

    with pytest.raises(ValueError, match="does not know how Own computes its learning rate"):
        train(probe(Own(PEAK)), [WarmupThenDecay(warmup_steps=4)])
    with pytest.raises(TypeError, match=r"must be a tfplaybook\.schedules\.WarmupDecaySchedule"):
        WarmupThenDecay.from_schedule(keras.optimizers.schedules.CosineDecay(0.1, 10))


BAD = [
    ({"warmup_steps": -1}, "`warmup_steps` must be an integer of at least 0"),
    ({"warmup_steps": 0.1}, "`warmup_steps` must be an integer"),
    ({"peak_learning_rate": 0.0}, "`peak_learning_rate` must be a finite number greater than 0"),
    ({"peak_learning_rate": float("nan")}, "`peak_learning_rate` must be a finite number"),
    ({"decay": "linar"}, "Did you mean 'linear'"),
    ({"total_steps": 0.5}, "`total_steps` must be an integer"),
    ({"update_freq": "step"}, "`update_freq` must be 'epoch', 'batch' or an integer"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_refuses_bad_arguments_at_construction(change, message):
    with pytest.raises(ValueError, match=message):
        WarmupThenDecay(**{"warmup_steps": 10, **change})


@pytest.mark.tensorflow
def test_refuses_a_legacy_model():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"legacy `tf_keras` .*unset TF_USE_LEGACY_KERAS"):
        model.fit(np.ones((4, 2)), np.ones(4), callbacks=[WarmupThenDecay(warmup_steps=1)])


def test_refuses_a_model_that_is_not_compiled():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"needs a compiled model.*model.compile"):
        WarmupThenDecay(warmup_steps=1).set_model(model)


def test_the_schedule_and_the_multiplier_are_known_in_training_only():
    callback = WarmupThenDecay(warmup_steps=4)
    with pytest.raises(ValueError, match=r"call model\.fit first"):
        _ = callback.schedule
    with pytest.raises(ValueError, match="can be assigned during training"):
        callback.multiplier = 0.5
