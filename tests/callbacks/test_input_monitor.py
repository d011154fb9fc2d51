"""InputMonitor in a real `fit`: what it measures, and that training is what it was."""

import copy
import gc
import tempfile
import time

import keras
import numpy as np
import pytest

import tfplaybook as pb
from tfplaybook.callbacks import InputMonitor
from tfplaybook.runs import RunRecorder, load_run

pytestmark = pytest.mark.tensorflow

STEPS = 40
X = np.random.default_rng(0).normal(size=(STEPS * 8, 4)).astype("float32")


def batches(slow_seconds=0.0):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(8)
    if slow_seconds:

        def wait(x, y):
            (x,) = tf.py_function(lambda x: time.sleep(slow_seconds) or [x], [x], [tf.float32])
            return tf.ensure_shape(x, (None, 4)), y

        dataset = dataset.map(wait)
    return dataset


def compiled(units=4, **options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse", **options)
    return model


def fit(model, *callbacks, data=None, epochs=1, **options):
    data = batches() if data is None else data
    return model.fit(
        data, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks), **options
    )


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_training_has_the_same_bits(steps_per_execution):
    plain = compiled(steps_per_execution=steps_per_execution)
    watched = compiled(steps_per_execution=steps_per_execution)
    expected = fit(plain, epochs=2).history
    monitor = InputMonitor(overhead_fraction=1.0)
    got = fit(watched, monitor, epochs=2).history
    assert monitor.waits
    assert got.pop("input_wait_fraction")
    assert got == expected
    for one, other in zip(plain.variables, watched.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_a_slow_input_is_waited_for_and_a_ready_one_is_not(steps_per_execution):
    slow, fast = InputMonitor(), InputMonitor()
    options = {"steps_per_execution": steps_per_execution}
    fit(compiled(**options), slow, data=batches(slow_seconds=0.02))
    # Batches are made while the step computes.
    fit(
        compiled(units=20_000, **options), fast, data=batches().cache().repeat(), steps_per_epoch=40
    )
    assert slow.waits[0].fraction > 0.6
    assert fast.waits[0].fraction < 0.4


def test_the_curve_is_in_the_logs_and_in_tensorboard(tmp_path):
    monitor = InputMonitor(log_dir=tmp_path / "events")
    history = fit(compiled(), monitor, RunRecorder(tmp_path / "run")).history
    assert history["input_wait_fraction"] == [np.mean([wait.fraction for wait in monitor.waits])]
    assert list((tmp_path / "events").glob("events.*"))


def test_a_recorder_gets_the_curve(tmp_path):
    monitor = InputMonitor()
    fit(compiled(), monitor, RunRecorder(tmp_path))
    curve = load_run(tmp_path).curves["input_wait_fraction"]
    assert monitor.waits[0].step in curve.steps


def test_an_epoch_without_a_trace_repeats_the_last(monkeypatch):
    monitor = InputMonitor(overhead_fraction=1e-9)
    history = fit(compiled(), monitor, epochs=3).history
    assert len(monitor.waits) == 1
    assert history["input_wait_fraction"] == [monitor.waits[0].fraction] * 3


def test_an_interrupted_fit_leaves_no_trace_running():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                raise KeyboardInterrupt

    monitor = InputMonitor()
    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, monitor, Stop())
    fit(model, monitor)
    assert len(monitor.waits) == 1


def test_another_profiler_is_left_alone(tmp_path):
    import tensorflow as tf

    monitor = InputMonitor()
    with (
        tf.profiler.experimental.Profile(str(tmp_path)),
        pytest.warns(UserWarning, match="has measured nothing in this `fit`") as caught,
    ):
        history = fit(compiled(), monitor).history
    assert sum("InputMonitor" in str(warning.message) for warning in caught) == 1
    assert monitor.waits == ()
    assert np.isnan(history["input_wait_fraction"]).all()


@pytest.mark.parametrize("window", [(10, 20), 3, (39, 40)])
def test_tensorboard_profiles_its_batches_and_the_others_are_measured(tmp_path, window):
    monitor = InputMonitor(overhead_fraction=1.0)
    board = keras.callbacks.TensorBoard(tmp_path, profile_batch=window)
    fit(compiled(), monitor, board, epochs=2)
    assert list(tmp_path.rglob("*.xplane.pb")), (
        f"Keras {keras.version()}: TensorBoard keeps its batches elsewhere than `_start_batch` and "
        "`_stop_batch`, or `params` are no longer those of the `fit`"
    )
    assert monitor.waits


class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            raise RuntimeError("broken")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    (tmp_path / "traces").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "traces"))
    return lambda: list((tmp_path / "traces").glob("input-trace-*"))


def test_a_failed_fit_hinders_no_other_monitor_and_no_tensorboard(tmp_path, folders):
    failed, monitor = InputMonitor(), InputMonitor()
    with pytest.raises(RuntimeError, match="broken"):
        fit(compiled(), failed, Fail())
    assert folders()
    board = keras.callbacks.TensorBoard(tmp_path / "board", profile_batch=(10, 12))
    fit(compiled(), monitor, board, epochs=2)
    assert monitor.waits
    assert list((tmp_path / "board").rglob("*.xplane.pb"))
    assert failed.waits == ()
    assert not folders()


def test_the_trace_of_a_failed_fit_ends_with_its_monitor(tmp_path, folders):
    import tensorflow as tf

    def run():
        with pytest.raises(RuntimeError, match="broken"):
            fit(compiled(), InputMonitor(), Fail())

    run()
    gc.collect()
    assert not folders()
    with tf.profiler.experimental.Profile(str(tmp_path)):
        pass


@pytest.mark.parametrize("steps", [1, 2])
def test_short_epochs_have_a_value_each(steps):
    monitor = InputMonitor(overhead_fraction=1.0)
    model = compiled()
    for _ in range(2):
        history = fit(model, monitor, epochs=4, data=batches().take(steps)).history
        fractions = history["input_wait_fraction"]
        assert len(fractions) == len(history["loss"]) == 4
        assert np.isnan(fractions[0])
        assert np.isfinite(fractions[1:]).all()


def test_replicas_count_once():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = compiled()
    monitor = InputMonitor()
    fit(model, monitor, data=batches(slow_seconds=0.02))
    assert monitor.waits, "TensorFlow's trace names the operations of waiting otherwise"
    assert 0.3 < monitor.waits[0].fraction <= 1.0


def test_evaluation_is_not_measured():
    monitor = InputMonitor(window_steps=10_000, overhead_fraction=1.0)
    slow = batches(slow_seconds=0.02)
    fit(compiled(), monitor, validation_data=slow, data=batches())
    assert len(monitor.waits) == 1
    assert monitor.waits[0].seconds < STEPS * 0.02


def test_a_copy_is_as_new():
    monitor = InputMonitor(window_steps=3)
    fit(compiled(), monitor)
    other = copy.deepcopy(monitor)
    assert (other.window_steps, other.waits) == (3, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_steps": 0}, "`window_steps` must be an integer of at least 1"),
        ({"overhead_fraction": 0.0}, "`overhead_fraction` must be a finite number greater than 0"),
        ({"overhead_fraction": 1.5}, "`overhead_fraction` must be .* at most 1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pb.callbacks.InputMonitor(**options)
