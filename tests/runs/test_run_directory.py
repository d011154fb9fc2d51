"""A run directory: written by a real `fit`, read back whole, torn, resumed and damaged."""

import copy
import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import tfplaybook as pb
from tfplaybook.runs import RunRecorder, load_run

X = np.ones((8, 2), "float32")
Y = np.ones(8, "float32")


def small_model(optimizer="sgd", loss="mse", **options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss, **options)
    return model


def fit(model, callbacks, *, epochs=3, **options):
    return model.fit(X, Y, batch_size=4, epochs=epochs, callbacks=callbacks, verbose=0, **options)


def events(directory):
    # The reader of the TensorBoard server itself, which drops what a later attempt supersedes.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory)).Reload()
    return {
        tag: [(event.step, event.tensor_proto.float_val[0]) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def test_records_the_metrics_of_every_epoch_against_the_updates(tmp_path):
    model = small_model(metrics=["mae"])
    history = fit(model, [RunRecorder(tmp_path)], validation_data=(X, Y)).history
    curves = load_run(tmp_path).curves
    assert set(curves) == {"loss", "mae", "val_loss", "val_mae"}
    for name, curve in curves.items():
        np.testing.assert_array_equal(curve.steps, [2, 4, 6])
        np.testing.assert_allclose(curve.values, history[name])


def test_writes_the_same_numbers_for_tensorboard(tmp_path):
    fit(small_model(), [RunRecorder(tmp_path)])
    curve = load_run(tmp_path).curves["loss"]
    assert events(tmp_path) == {
        "loss": [(int(s), np.float32(v)) for s, v in zip(curve.steps, curve.values, strict=True)]
    }


def test_describes_what_was_run(tmp_path):
    keras.utils.set_random_seed(7)
    model = small_model(keras.optimizers.Adam(0.125), keras.losses.Huber(delta=2.0))
    fit(model, [RunRecorder(tmp_path, configuration={"units": np.int64(1)}, note="first")])
    info = load_run(tmp_path).info
    assert info["format"] == 1
    assert info["seed"] == 7
    assert (info["configuration"], info["note"]) == ({"units": 1}, "first")
    assert info["model"]["parameters"] == 3
    assert info["model"]["optimizer"]["class"] == "Adam"
    assert info["model"]["optimizer"]["learning_rate"] == 0.125
    assert info["model"]["loss"]["class"] == "Huber"
    assert info["fit"] == {"epochs": 3, "steps": 2}
    assert info["versions"]["keras"] == keras.version()
    assert info["backend"] == keras.backend.backend()
    assert info["command"][1:] == sys.argv


def test_a_lambda_as_loss_is_recorded_by_name_and_never_as_code(tmp_path):
    fit(small_model(loss=lambda t, p: ops.mean(ops.square(p))), [RunRecorder(tmp_path)])
    assert load_run(tmp_path).info["model"]["loss"].endswith("<lambda>")


RECORD_IN_A_CHECKOUT = """
import keras, numpy as np
from tfplaybook.runs import RunRecorder
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[RunRecorder("run")])
"""


def test_records_the_commit_and_the_uncommitted_changes_of_the_script(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    script = tmp_path / "train.py"
    script.write_text(RECORD_IN_A_CHECKOUT)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("config", "color.ui", "always")
    git("config", "diff.noprefix", "true")
    script.write_text(RECORD_IN_A_CHECKOUT + "# changed\n")
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    state = load_run(tmp_path / "run").info["git"]
    assert len(state["commit"]) == 40
    assert state["diff"].startswith("diff --git a/train.py b/train.py")
    assert "\n+# changed\n" in state["diff"]
    assert state["diff_truncated"] is False


def test_training_on_goes_on_in_the_same_files(tmp_path):
    model, recorder = small_model(), RunRecorder(tmp_path)
    fit(model, [recorder], epochs=2)
    fit(model, [recorder], epochs=4, initial_epoch=2)
    run = load_run(tmp_path)
    np.testing.assert_array_equal(run.curves["loss"].steps, [2, 4, 6, 8])
    assert run.info["start_step"] == 4
    assert [attempt["start_step"] for attempt in run.info["previous_attempts"]] == [0]
    assert [step for step, _ in events(tmp_path)["loss"]] == [2, 4, 6, 8]


def test_a_later_attempt_wins_from_its_first_step_on(tmp_path):
    rows = [
        {"attempt": 1, "step": 0},
        {"step": 10, "name": "loss", "value": 1.0},
        {"step": 20, "name": "loss", "value": 2.0},
        {"step": 30, "name": "loss", "value": 3.0},
        {"step": 30, "name": "only_before", "value": 3.0},
        {"attempt": 2, "step": 10},
        {"step": 15, "name": "loss", "value": 1.5},
        {"step": 20, "name": "loss", "value": "NaN"},
    ]
    (tmp_path / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = load_run(tmp_path).curves
    np.testing.assert_array_equal(curves["loss"].steps, [10, 15, 20])
    np.testing.assert_array_equal(curves["loss"].values, [1.0, 1.5, np.nan])
    assert "only_before" not in curves


def test_starting_over_in_the_same_directory_keeps_the_old_lines_but_not_in_the_curve(tmp_path):
    fit(small_model(), [RunRecorder(tmp_path)], epochs=4)
    old = (tmp_path / "curves.jsonl").read_text()
    fit(small_model(), [RunRecorder(tmp_path)], epochs=2)
    assert (tmp_path / "curves.jsonl").read_text().startswith(old)
    np.testing.assert_array_equal(load_run(tmp_path).curves["loss"].steps, [2, 4])
    assert [step for step, _ in events(tmp_path)["loss"]] == [2, 4]


def test_non_finite_values_are_kept_in_strict_json(tmp_path):
    model = small_model(loss=lambda t, p: p * np.inf - np.inf * p)
    fit(model, [RunRecorder(tmp_path)], epochs=1)
    for line in (tmp_path / "curves.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert np.isnan(load_run(tmp_path).curves["loss"].values).all()


KILLED = """
import os, signal, sys, keras, numpy as np
from tfplaybook.runs import RunRecorder

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
callbacks = [RunRecorder(sys.argv[1]), Kill()]
model.fit(np.ones((8, 2)), np.ones(8), batch_size=4, epochs=9, verbose=0, callbacks=callbacks)
"""


def test_what_was_recorded_survives_sigkill_and_a_torn_line_swallows_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    np.testing.assert_array_equal(load_run(tmp_path).curves["loss"].steps, [2, 4, 6, 8])
    assert [step for step, _ in events(tmp_path)["loss"]] == [2, 4, 6, 8]

    path = tmp_path / "curves.jsonl"
    os.truncate(path, path.stat().st_size - 7)
    np.testing.assert_array_equal(load_run(tmp_path).curves["loss"].steps, [2, 4, 6])
    fit(small_model(), [RunRecorder(tmp_path)])
    np.testing.assert_array_equal(load_run(tmp_path).curves["loss"].steps, [2, 4, 6])


def test_can_be_read_at_any_length_while_it_grows(tmp_path):
    fit(small_model(metrics=["mae"]), [RunRecorder(tmp_path)], epochs=2)
    path = tmp_path / "curves.jsonl"
    whole = path.read_bytes()
    lengths = []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lengths.append(sum(len(curve.steps) for curve in load_run(tmp_path).curves.values()))
    assert lengths == sorted(lengths)
    assert lengths[-1] == 4


def test_a_model_that_was_recorded_can_be_freed(tmp_path):
    model = small_model()
    fit(model, [RunRecorder(tmp_path), pb.callbacks.WarmupThenDecay(warmup_steps=1)])
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_a_later_fit_without_a_recorder_leaves_the_run_alone(tmp_path):
    model = small_model()
    recorder = RunRecorder(tmp_path)
    fit(model, [recorder, pb.callbacks.WarmupThenDecay(warmup_steps=1)])
    before = (tmp_path / "curves.jsonl").read_text()
    fit(model, [pb.callbacks.WarmupThenDecay(warmup_steps=1)])
    assert (tmp_path / "curves.jsonl").read_text() == before


def test_a_train_step_that_never_moves_the_counter_is_recorded_against_the_batches(tmp_path):
    model = small_model()
    counter = model.optimizer.iterations

    class Freeze(keras.callbacks.Callback):
        """Stands for a GAN, whose train step applies optimizers of its own."""

        def on_epoch_end(self, epoch, logs=None):
            counter.assign(0)

    fit(model, [Freeze(), RunRecorder(tmp_path)], epochs=4)
    np.testing.assert_array_equal(load_run(tmp_path).curves["loss"].steps, [2, 4, 6, 8])


def test_metrics_that_are_arrays_are_recorded_entry_by_entry_and_text_is_left_out(tmp_path):
    class Text(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["phase"] = "warm"
            logs["f1"] = np.array([0.25, 0.5])

    with pytest.warns(UserWarning, match="leaves out 'phase', which is no number: 'warm'"):
        fit(small_model(), [Text(), RunRecorder(tmp_path)], epochs=1)
    curves = load_run(tmp_path).curves
    assert set(curves) == {"loss", "f1/0", "f1/1"}
    assert curves["f1/1"].values.tolist() == [0.5]


def test_an_event_file_torn_by_a_full_disk_is_not_written_on(tmp_path):
    code = """
import resource, sys
from tfplaybook.runs import EventWriter
writer = EventWriter(sys.argv[1])
writer.scalar("loss", 1, 0.5)
writer.flush()
limit = 200
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
for step in range(2, 6):
    writer.scalar("loss", step, 0.5)
try:
    writer.flush()
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.flush()
"""
    code = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    # A record that was whole before the disk was full is there twice, with the same value.
    assert sorted({step for step, _ in events(tmp_path)["loss"]}) == [1, 2, 3, 4, 5]


def test_copies_are_as_new(tmp_path):
    recorder = RunRecorder(tmp_path, configuration={"a": 1}, seed=0)
    fit(small_model(), [recorder])
    again = copy.deepcopy(recorder)
    assert again.directory == tmp_path
    assert again.configuration == {"a": 1}
    fit(small_model(), [again], epochs=1)
    assert load_run(tmp_path).info["seed"] == 0


def test_a_failed_write_leaves_the_description_as_it_was(tmp_path):
    from tfplaybook._files import replace_json

    path = tmp_path / "run.json"
    replace_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["run.json"]


def test_refuses_bad_input(tmp_path):
    a_file = tmp_path / "file"
    a_file.write_text("")
    with pytest.raises(ValueError, match="`directory` must be a folder"):
        RunRecorder(a_file)
    with pytest.raises(ValueError, match="`configuration` must be plain JSON data"):
        RunRecorder(tmp_path, configuration={"model": keras})
    with pytest.raises(ValueError, match="`configuration` must be plain JSON data"):
        RunRecorder(tmp_path, configuration={"rate": float("nan")})
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0"):
        RunRecorder(tmp_path, seed=-1)
    with pytest.raises(ValueError, match="There is none at"):
        load_run(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"run\.json or curves\.jsonl.*which has neither\.$"):
        load_run(tmp_path)
    (tmp_path / "trial_0000").mkdir()
    with pytest.raises(ValueError, match=r"It looks like a study: use tfplaybook\.studies\.load"):
        load_run(tmp_path)


def test_refuses_newer_formats_and_damaged_descriptions(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"has format 99; .* reads up to 1. Upgrade tfplaybook"):
        load_run(tmp_path)
    path.write_text('{"format": 1, "st')
    with pytest.raises(ValueError, match=r"run.json is damaged.*Move it away"):
        load_run(tmp_path)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="about the JAX backend")
def test_recording_imports_no_tensorflow(tmp_path):
    code = textwrap.dedent(
        """
        import sys, keras, numpy as np, tfplaybook as pb
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        callbacks = [pb.runs.RunRecorder(sys.argv[1]), pb.callbacks.WarmupThenDecay(warmup_steps=1)]
        model.fit(np.ones((8, 2)), np.ones(8), batch_size=4, verbose=0, callbacks=callbacks)
        assert "tensorflow" not in sys.modules
        """
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert set(pb.runs.load_run(tmp_path).curves) == {"loss", "learning_rate"}
