"""Checkpoints chosen afterwards, and runs that go on."""

import copy
import json
import math
import shutil
import warnings

import keras
import numpy as np
import pytest

import tfplaybook as pb
from tfplaybook import _keras_state
from tfplaybook.callbacks import RetrospectiveCheckpoint

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
STEPS = 3


def make_network(units=4):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units), keras.layers.Dropout(0.2),
         keras.layers.Dense(1)]
    )  # fmt: skip


def make_model(rate=0.05, units=4):
    model = make_network(units)
    model.compile(keras.optimizers.Adam(rate), "mse", run_eagerly=True)
    return model


def fit(model, callbacks, epochs, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, **options
    )


class Score(keras.callbacks.Callback):
    """Report given numbers as a metric, from behind the checkpoint in the list."""

    def __init__(self, values, name="score"):
        super().__init__()
        self.values = values
        self.name = name

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class Interrupt(keras.callbacks.Callback):
    """End the process's training as an interrupt from the keyboard would."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def train(directory, epochs=5, *, callbacks=(), interrupt=None, model=None, **options):
    """Train or go on, and return the checkpoint callback."""
    model = model or make_model()
    checkpoint = RetrospectiveCheckpoint(directory, **{"monitor": "loss", **options})
    callbacks = [checkpoint, *callbacks]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run in .* (its data starts anew|has ended)")
        if interrupt is None:
            fit(model, callbacks, epochs)
            return checkpoint
        with pytest.raises(KeyboardInterrupt):
            fit(model, [*callbacks, Interrupt(interrupt)], epochs)
    return checkpoint


def entries(directory):
    return pb.runs.CheckpointReader(directory / "checkpoints").entries()


def steps(directory):
    return [entry.step for entry in entries(directory)]


def state(model):
    return {
        _keras_state._comparable(name): value.tobytes()
        for name, value in _keras_state.capture(model).items()
    }


# Keeping.


def test_a_run_that_has_ended_removes_what_a_killed_process_could_not(tmp_path):
    """Killed after its last commit and before the collection of garbage."""

    def steps():
        return [
            entry.step for entry in pb.runs.CheckpointReader(tmp_path / "run/checkpoints").entries()
        ]

    scores = Score([1.0, 5.0, 4.0, 3.0, 2.0])
    train(tmp_path / "run", callbacks=[scores], monitor="score", mode="min", keep_best=1)
    kept = steps()
    train(tmp_path / "all", callbacks=[scores], monitor="score", mode="min", keep_best=5)
    left = pb.runs.CheckpointReader(tmp_path / "all/checkpoints").entries()[2]
    assert left.step not in kept
    shutil.copytree(left.path, tmp_path / "run/checkpoints" / left.path.name)
    train(tmp_path / "run", callbacks=[scores], monitor="loss", keep_best=1)
    assert steps() == sorted([*kept, left.step]), "by another monitor, nothing is deleted"
    train(tmp_path / "run", callbacks=[scores], monitor="score", mode="min", keep_best=1)
    assert steps() == kept


@pytest.mark.parametrize(
    ("values", "mode", "best", "kept"),
    [
        ([5, 1, 3, 2, 4], "min", 2, [2, 4, 5]),
        ([5, 1, 3, 2, 4], "max", 1, [1, 5]),
        ([2, 1, 1, 1, 2], "min", 2, [2, 3, 5]),
        ([math.nan, 1, math.inf, -math.inf, math.nan], "min", 2, [2, 5]),
        ([math.nan] * 5, "min", None, [5]),
    ],
    ids=["smallest", "largest", "ties: the earlier", "not finite", "none finite"],
)
def test_the_best_and_the_latest_stay(values, mode, best, kept, tmp_path):
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="score", mode=mode, keep_best=2)
    fit(make_model(), [checkpoint, Score(values)], 5)
    assert steps(tmp_path) == [epoch * STEPS for epoch in kept]
    if best is None:
        assert checkpoint.best is None
    else:
        assert checkpoint.best.step == best * STEPS
        assert checkpoint.best.value == values[best - 1]
        assert checkpoint.best.last_step == 5 * STEPS


def test_each_of_several_monitors_keeps_its_own(tmp_path):
    checkpoint = RetrospectiveCheckpoint(
        tmp_path, monitor=["val_loss", "val_accuracy"], keep_best=1
    )
    callbacks = [checkpoint, Score([1, 2, 3, 4], "val_loss"), Score([0, 9, 0, 0], "val_accuracy")]
    fit(make_model(), callbacks, 4)
    assert steps(tmp_path) == [3, 6, 12]
    model = make_model()
    assert pb.runs.load_checkpoint(model, tmp_path).step == 3
    assert pb.runs.load_checkpoint(model, tmp_path, monitor="val_accuracy").step == 6
    with pytest.raises(ValueError, match="`monitor` must be one that the run was ranked by"):
        pb.runs.load_checkpoint(model, tmp_path, monitor="accuracy")


def test_a_policy_keeps_more(tmp_path):
    keep = pb.runs.EveryNSteps(6)
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="loss", keep_best=0, keep=keep)
    fit(make_model(), [checkpoint], 5)
    assert steps(tmp_path) == [6, 12, 15]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"monitor": "score"}, ValueError, "mode='auto' cannot tell from the name 'score'"),
        ({"mode": "maximise"}, ValueError, r"`mode` must be one of \('auto', 'min', 'max'\)"),
        ({"mode": ["min", "max"]}, ValueError, "`mode` must be one word, or one for each monitor"),
        ({"monitor": []}, ValueError, "`monitor` must be the name of a metric"),
        ({"monitor": ["loss", "loss"]}, ValueError, "must not name a metric twice"),
        ({"keep_best": -1}, ValueError, "`keep_best` must be an integer of at least 0"),
        ({"keep": 3}, TypeError, "`keep` must be a retention policy"),
        ({"data": (X, Y)}, TypeError, "`data` must be a pipeline with a variable `start_step`"),
        ({"evaluation": 5}, TypeError, "`evaluation` must be a .*PeriodicEvaluation"),
    ],
)
def test_bad_arguments(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        RetrospectiveCheckpoint(tmp_path, **{"monitor": "loss", **options})


def test_a_metric_that_is_not_reported_is_an_error_after_one_epoch_which_is_saved(tmp_path):
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="los", mode="min")
    with pytest.raises(
        ValueError, match=r"one of \['loss'\]. Received: 'los'. Did you mean 'loss'"
    ):
        fit(make_model(), [checkpoint], 3)
    assert train(tmp_path, 3).resumed_step == STEPS


def test_a_validation_that_does_not_come_is_warned_of(tmp_path):
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="val_loss")
    with (
        pytest.warns(UserWarning, match="Pass `validation_data` to `fit`"),
        pytest.warns(UserWarning, match=r"No checkpoint is ranked by \['val_loss'\]"),
    ):
        fit(make_model(), [checkpoint], 2)


def test_epochs_without_an_evaluation_are_saved_unranked(tmp_path):
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="val_loss", keep_best=2)
    with pytest.warns(UserWarning, match="The first epoch is not ranked.*'val_loss'"):
        fit(make_model(), [checkpoint], 5, validation_data=(X, Y), validation_freq=2)
    assert steps(tmp_path) == [6, 12, 15]


def test_a_directory_is_needed(tmp_path):
    with pytest.raises(ValueError, match="needs a `directory`, except inside `QuasiRandomSearch`"):
        fit(make_model(), [RetrospectiveCheckpoint(monitor="loss")], 1)


# Going on.


def evaluated(directory, interrupt=None, *, units=4):
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=2)
    return train(
        directory, 3, interrupt=interrupt, model=make_model(units=units), monitor="val_loss",
        keep_best=9, evaluation=evaluation,
    )  # fmt: skip


class InterruptBatch(keras.callbacks.Callback):
    """Interrupt in an epoch."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("batches", [3, 5])
def test_what_an_interrupted_epoch_has_left_is_not_of_the_run_that_goes_on(batches, tmp_path):
    """Interrupted before any whole epoch, another run starts anew; after one, it goes on."""
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=2)
    left = RetrospectiveCheckpoint(tmp_path, monitor="val_loss", keep_best=9, evaluation=evaluation)
    model = make_model(units=5 if batches == 3 else 4)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [left, InterruptBatch(batches)], 3)
    left.end_execution()
    before = steps(tmp_path)
    assert before[-1] == batches - 1
    if batches == 5:
        with pytest.raises(ValueError, match="units: 4 -> 6"):
            evaluated(tmp_path, units=6)
        assert steps(tmp_path) == before
    evaluated(tmp_path, interrupt=0 if batches == 3 else 1)
    assert steps(tmp_path) == ([] if batches == 3 else [2, 3])


def test_a_run_of_which_the_end_is_damaged_has_not_ended(tmp_path):
    train(tmp_path, 4)
    (entries(tmp_path)[-1].path / "state.safetensors").unlink()
    model = make_model()
    with pytest.warns(UserWarning, match="Damaged checkpoints are passed over"):
        train(tmp_path, 4, model=model)
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 4 * STEPS
    assert steps(tmp_path)[-1] == 4 * STEPS


def test_a_newer_format_is_not_written_over(tmp_path):
    train(tmp_path, 3)
    record = entries(tmp_path)[-1].path / "record.json"
    record.write_text('{"format": 2}')
    with pytest.raises(ValueError, match=r"has format 2; .* Upgrade tfplaybook"):
        train(tmp_path, 4)
    assert record.read_text() == '{"format": 2}'


@pytest.mark.parametrize("interrupt", [None, 1, 2, 3])
def test_the_step_never_goes_back_while_gradients_are_accumulated(interrupt, tmp_path):
    """Of 8 batches for an update the first two epochs, of three, make none."""

    def model():
        model = make_model()
        optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=8)
        model.compile(optimizer, "mse", run_eagerly=True)
        return model

    if interrupt is not None:
        train(tmp_path, 6, model=model(), interrupt=interrupt, keep_best=9)
    last = model()
    assert train(tmp_path, 6, model=last, keep_best=9).resumed_step == (
        None if interrupt is None else interrupt * STEPS // 8
    )
    assert steps(tmp_path) == [0, 1, 2]
    latest = pb.runs.CheckpointReader(tmp_path / "checkpoints").load_latest().checkpoint
    assert latest.record["epoch"] == 6
    assert keras.ops.convert_to_numpy(last.optimizer.iterations) == 2


def test_an_epoch_without_an_update_keeps_the_evaluation_of_its_step(tmp_path):
    model = make_model()
    model.compile(
        keras.optimizers.SGD(0.01, gradient_accumulation_steps=3), "mse", run_eagerly=True
    )
    evaluation = pb.callbacks.PeriodicEvaluation((X[:8], Y[:8]), every_steps=1)
    checkpoint = RetrospectiveCheckpoint(
        tmp_path, monitor="val_loss", keep_best=9, evaluation=evaluation
    )
    model.fit(
        X[:16], Y[:16], batch_size=8, epochs=5, shuffle=False, verbose=0, callbacks=[checkpoint]
    )
    assert [found.step for found in evaluation.evaluations] == [1, 2, 3]
    assert {entry.step for entry in entries(tmp_path) if "val_loss" in entry.metrics} == {1, 2, 3}


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path):
    class Weights(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            ends.append(state(self.model))

    ends = []
    whole = train(tmp_path / "whole", callbacks=[Weights()])
    interrupted = train(tmp_path / "run", interrupt=3)
    resumed = train(tmp_path / "run", callbacks=[Weights()])
    assert (interrupted.resumed_step, resumed.resumed_step) == (None, 9)
    assert ends[0] == ends[1]
    assert resumed.best == whole.best
    assert steps(tmp_path / "run") == steps(tmp_path / "whole")


def test_data_that_starts_anew_is_warned_of(tmp_path):
    train(tmp_path, interrupt=2)
    with pytest.warns(UserWarning, match="goes on after epoch 2, but its data starts anew"):
        fit(make_model(), [RetrospectiveCheckpoint(tmp_path, monitor="loss")], 3)


def test_a_run_that_has_ended_is_not_trained_again_but_can_be_continued(tmp_path):
    train(tmp_path, 3)
    model = make_model()
    assert train(tmp_path, 3, model=model).resumed_step == 9
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 9
    assert train(tmp_path, 5).resumed_step == 9
    assert steps(tmp_path)[-1] == 15
    assert train(tmp_path, 4).resumed_step == 15  # fewer than were trained: nothing to do


def test_a_run_that_is_not_trained_again_says_so(tmp_path):
    train(tmp_path, 3)
    with pytest.warns(UserWarning, match=r"has ended after 3 epochs \(step 9\).*a higher `epochs`"):
        fit(make_model(), [RetrospectiveCheckpoint(tmp_path, monitor="loss")], 3)


def test_a_run_that_was_stopped_early_has_ended(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    train(tmp_path, 5, callbacks=[Stop()])
    model = make_model()
    train(tmp_path, 5, model=model)
    assert keras.ops.convert_to_numpy(model.optimizer.iterations) == 2 * STEPS


def test_a_run_that_was_stopped_early_and_killed_right_after_has_ended(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    train(tmp_path, callbacks=[Stop()])
    (tmp_path / "checkpoints" / "finished.json").unlink()
    train(tmp_path, callbacks=[Stop()])
    assert max(steps(tmp_path)) == 2 * STEPS


def test_the_next_fit_without_it_trains_from_epoch_0(tmp_path):
    model = make_model()
    train(tmp_path, interrupt=2)
    train(tmp_path, 3, model=model)
    assert fit(model, [], 2).epoch == [0, 1]


def test_a_changed_configuration_is_an_error_with_the_difference(tmp_path):
    train(tmp_path, interrupt=2)
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate: 0\.05\S* -> 0\.5"):
        train(tmp_path, model=make_model(rate=0.5))
    with pytest.raises(ValueError, match=r"architecture\S*units: 4 -> 5"):
        train(tmp_path, model=make_model(units=5))
    with pytest.raises(ValueError, match=r"callbacks\.PercentileClipping:0: None -> "):
        train(tmp_path, callbacks=[pb.callbacks.PercentileClipping()])
    assert train(tmp_path).resumed_step == 6  # the errors have damaged nothing


def loss_1(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


def loss_2(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("earlier", "now", "difference"),
    [
        ({"loss": loss_1}, {"loss": loss_2}, r"model\.loss: 'loss_1' -> 'loss_2'"),
        (
            {"loss": ["mse"], "loss_weights": [1.0]},
            {"loss": ["mse"], "loss_weights": [0.5]},
            r"model\.loss_weights\[0\]: 1\.0 -> 0\.5",
        ),
        (
            {"loss": ["mse"]},
            {"loss": ["mse"], "loss_weights": [0.5]},
            r"model\.loss_weights: None -> \[0\.5\]",
        ),
    ],
)
def test_another_loss_is_an_error(earlier, now, difference, tmp_path):
    def compiled(loss):
        model = make_model()
        model.compile(keras.optimizers.Adam(0.05), run_eagerly=True, **loss)
        return model

    train(tmp_path, model=compiled(earlier), interrupt=2)
    with pytest.raises(ValueError, match=difference):
        train(tmp_path, model=compiled(now))
    assert train(tmp_path, model=compiled(earlier)).resumed_step == 6


def test_names_that_keras_numbers_are_no_change(tmp_path):
    """The second model of a process has `dense_2` where the first has `dense`."""

    def branched():
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(4)(inputs)
        hidden = keras.layers.BatchNormalization()(hidden) * 2.0
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model = keras.Model(inputs, inner(hidden) + keras.layers.Dense(1)(hidden))
        model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
        return model

    first, second = branched(), branched()
    assert first.layers[1].name != second.layers[1].name
    train(tmp_path, model=first, interrupt=2)
    assert train(tmp_path, model=second).resumed_step == 6


def test_a_run_whose_configuration_is_gone_is_not_resumed(tmp_path):
    train(tmp_path, interrupt=2)
    (tmp_path / "checkpoints" / "configuration.json").unlink()
    with pytest.raises(ValueError, match=r"configuration\.json is missing.*Put it back"):
        train(tmp_path)


def test_a_run_without_a_checkpoint_may_change(tmp_path):
    train(tmp_path, interrupt=0)
    train(tmp_path, 2, model=make_model(rate=0.5))
    assert steps(tmp_path) == [3, 6]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path):
    train(tmp_path, 3)
    latest = entries(tmp_path)[-1].path / "state.safetensors"
    data = bytearray(latest.read_bytes())
    data[-1] ^= 1
    latest.write_bytes(bytes(data))
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="loss")
    with (
        pytest.warns(UserWarning, match="Damaged checkpoints are passed over"),
        pytest.warns(UserWarning, match="starts anew"),
    ):
        fit(make_model(), [checkpoint], 4)
    assert checkpoint.resumed_step == 6


def test_a_run_of_which_nothing_is_whole_does_not_begin_anew_by_itself(tmp_path):
    train(tmp_path, 2)
    for entry in entries(tmp_path):
        (entry.path / "state.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is whole, so the run cannot go on(.*\n){3}.*begin anew"):
        train(tmp_path, 3)
    assert steps(tmp_path) == [3, 6]


def test_epochs_that_were_not_evaluated_are_none_when_the_run_goes_on(tmp_path):
    def run(directory, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The first epoch is not ranked")
            return train(
                directory, callbacks=[Sparse()], monitor=["loss", "val_score"],
                mode=["min", "max"], **options
            )  # fmt: skip

    class Sparse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch % 2:
                logs["val_score"] = math.nan if epoch == 1 else 1.0

    whole = run(tmp_path / "whole")
    run(tmp_path / "run", interrupt=3)
    resumed = run(tmp_path / "run")
    curves = [c._history.curve("val_score") for c in (whole, resumed)]
    assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]] == [6, 12]


def test_the_state_of_our_other_callbacks_goes_on_whatever_their_place(tmp_path):
    def callbacks():
        rolling = pb.callbacks.Rolling(window=8, min_history=2)
        return (
            pb.callbacks.PercentileClipping(percentile=50, threshold=rolling),
            pb.callbacks.WarmupThenDecay(warmup_steps=2, total_steps=15),
        )

    def run(directory, interrupt, first):
        model = make_model()
        clipping, schedule = callbacks()
        checkpoint = RetrospectiveCheckpoint(directory, monitor="loss")
        ours = [checkpoint, clipping, schedule] if first else [schedule, clipping, checkpoint]
        recorder = pb.runs.RunRecorder(directory)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The run in .* (its data starts anew|has ended)")
            try:
                fit(model, [recorder, *ours, *([Interrupt(interrupt)] if interrupt else [])], 5)
            except KeyboardInterrupt:
                return None
        return state(model)

    whole = run(tmp_path / "whole", None, True)
    for first in (True, False):
        directory = tmp_path / str(first)
        run(directory, 3, first)
        assert run(directory, None, first) == whole
        ours, expected = (pb.runs.load_run(d).curves for d in (directory, tmp_path / "whole"))
        assert ours.keys() == expected.keys()
        for name, curve in expected.items():
            assert curve.steps.tolist() == ours[name].steps.tolist()
            assert curve.values.tolist() == ours[name].values.tolist()


def test_a_rate_that_is_reduced_behind_it_in_the_list_is_saved(tmp_path):
    class Reduce(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate = 0.001

    model = make_model()
    train(tmp_path, callbacks=[Reduce()], interrupt=2)
    train(tmp_path, 3, model=model)
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.001)


# Choosing.


def test_the_best_weights_can_be_put_back(tmp_path):
    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(self.model.get_weights())

    kept = []
    model = make_model()
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="score", mode="max", restore_best=True)
    fit(model, [checkpoint, Keep(), Score([1, 9, 2, 3])], 4)
    for weight, best in zip(model.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(weight, best)
    other = make_model(rate=1.0)
    assert pb.runs.load_checkpoint(other, tmp_path, "best").step == 6
    for weight, best in zip(other.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(weight, best)
    assert pb.runs.load_checkpoint(other, tmp_path, "latest", include_optimizer=True).step == 12
    assert keras.ops.convert_to_numpy(other.optimizer.iterations) == 12


def test_a_best_value_in_the_first_tenth_of_the_run_is_warned_of(tmp_path):
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="score", mode="min")
    with pytest.warns(UserWarning, match=r"at step 3 of 30 \(10% of the run\).*first 10%.*H2"):
        fit(make_model(), [checkpoint, Score([1, *range(2, 11)])], 10)


@pytest.mark.parametrize(
    ("step", "evaluations", "words"),
    [(10, 10, "first 10%"), (11, 10, ""), (75, 10, ""), (76, 10, "last 25%"), (10, 9, "")],
)
def test_the_place_of_the_best_value(step, evaluations, words):
    best = pb.callbacks.BestCheckpoint("loss", "min", 0.5, step, 100, evaluations)
    assert words in best.advice
    assert bool(best.advice) == bool(words)
    assert str(best).startswith(f"The best loss, 0.5, was measured at step {step} of 100")


def test_a_checkpoint_can_be_exported(tmp_path):
    train(tmp_path, 3)
    model = make_model(rate=0.1)
    _keras_state.build_optimizer(model)
    own = state(model)
    entry = pb.runs.export_checkpoint(model, tmp_path, tmp_path / "best.keras", 6)
    assert state(model) == own
    loaded = keras.models.load_model(tmp_path / "best.keras")
    pb.runs.load_checkpoint(model, tmp_path, entry.step, include_optimizer=True)
    assert keras.ops.convert_to_numpy(loaded.optimizer.iterations) == entry.step == 6
    for exported, saved in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(exported, saved)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(ValueError, match="`filepath` must not exist yet"):
        pb.runs.export_checkpoint(model, tmp_path, tmp_path / "best.keras")
    with pytest.raises(ValueError, match=r"`filepath` must end in '\.keras'"):
        pb.runs.export_checkpoint(model, tmp_path, tmp_path / "best.h5")


def test_an_export_has_the_averages_that_were_ranked_and_the_optimizer(tmp_path):
    def compiled():
        model = make_model()
        optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.5)
        model.compile(optimizer, "mse", run_eagerly=True)
        return model

    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=3, use_ema=True)
    fit(
        compiled(),
        [RetrospectiveCheckpoint(tmp_path, monitor="val_loss", evaluation=evaluation)],
        2,
    )
    entry = pb.runs.export_checkpoint(compiled(), tmp_path, tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    found = loaded.evaluate(X, Y, verbose=0)
    assert found == pytest.approx(entry.metrics["val_loss"], rel=1e-6)
    assert keras.ops.convert_to_numpy(loaded.optimizer.iterations) == entry.step


def test_a_model_with_another_optimizer_is_not_exported_but_one_without_is(tmp_path):
    train(tmp_path, 2)
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse")
    with pytest.raises(ValueError, match="of another model or optimizer"):
        pb.runs.export_checkpoint(model, tmp_path, tmp_path / "sgd.keras")
    bare = make_network()
    pb.runs.export_checkpoint(bare, tmp_path, tmp_path / "bare.keras", "latest")
    pb.runs.load_checkpoint(model, tmp_path, "latest")
    loaded = keras.models.load_model(tmp_path / "bare.keras")
    assert getattr(loaded, "optimizer", None) is None
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


class Full(keras.layers.Layer):
    """A layer that finds the disk full when it is saved, or traced for serving."""

    is_full = False

    def call(self, x):
        self._write()
        return x

    def save_own_variables(self, store):
        self._write()

    def _write(self):
        if self.is_full:
            raise OSError("No space left on device")


@pytest.mark.parametrize(
    "name", ["best.keras", pytest.param("serving", marks=pytest.mark.tensorflow)]
)
def test_an_export_that_fails_leaves_nothing_and_can_be_tried_again(name, tmp_path):
    full = Full()
    model = keras.Sequential([keras.Input((3,)), full, keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    train(tmp_path / "run", 2, model=model)
    before = state(model)
    full.is_full = True
    (tmp_path / "exports").mkdir()
    with pytest.raises(OSError, match="No space left"):
        pb.runs.export_checkpoint(model, tmp_path / "run", tmp_path / "exports" / name)
    assert list((tmp_path / "exports").iterdir()) == []
    assert state(model) == before
    full.is_full = False
    pb.runs.export_checkpoint(model, tmp_path / "run", tmp_path / "exports" / name)
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [name]


@pytest.mark.tensorflow
def test_a_checkpoint_can_be_exported_for_serving(tmp_path):
    import tensorflow as tf

    train(tmp_path, 3)
    model = make_model()
    entry = pb.runs.export_checkpoint(model, tmp_path, tmp_path / "serving", "latest")
    assert entry.step == 9
    served = tf.saved_model.load(str(tmp_path / "serving"))
    pb.runs.load_checkpoint(model, tmp_path, "latest")
    np.testing.assert_allclose(served.serve(X), model.predict(X, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (7, r"`step` must be one of \[3, 6, 9\]"),
        ("Best", r"`step` must be 'best', 'latest', or .* one of \[3, 6, 9\]\. Received: 'Best'"),
        (2.5, "`step` must be an integer"),
    ],
)
def test_a_checkpoint_that_is_not_there(step, message, tmp_path):
    train(tmp_path, 3)
    with pytest.raises(ValueError, match=message):
        pb.runs.load_checkpoint(make_model(), tmp_path, step)


def test_an_optimizer_needs_a_compiled_model(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(ValueError, match=r"include_optimizer=True\) needs a compiled model"):
        pb.runs.load_checkpoint(make_network(), tmp_path, include_optimizer=True)


def test_checkpoints_of_a_store_of_ones_own(tmp_path):
    saved, model = make_model(), make_model()
    saved.set_weights([weight + 1.0 for weight in saved.get_weights()])
    with pb.runs.CheckpointStore(tmp_path / "checkpoints", keep=pb.runs.LatestN(1)) as store:
        store.save(
            5, _keras_state.capture(saved), metrics={"loss": 1.0}, resumable=False, record={}
        )
    with pytest.raises(ValueError, match=r"a RetrospectiveCheckpoint has noted.*Pass the step"):
        pb.runs.load_checkpoint(model, tmp_path)
    assert pb.runs.load_checkpoint(model, tmp_path, "latest").step == 5
    for weight, other in zip(model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_a_run_without_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="must be a run directory with checkpoints"):
        pb.runs.load_checkpoint(make_model(), tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    train(tmp_path, 2)
    model = make_model(units=5)
    before = state(model)
    with pytest.raises(ValueError, match=r"the model has float32 \(3, 5\), the checkpoint"):
        pb.runs.load_checkpoint(model, tmp_path)
    assert state(model) == before


# Evaluations between epochs.


def test_evaluations_between_epochs_are_ranked_and_epochs_resumed(tmp_path):
    def run(directory, interrupt=None):
        evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=2)
        checkpoint = RetrospectiveCheckpoint(
            directory, monitor="val_loss", keep_best=2, evaluation=evaluation
        )
        model = make_model()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The run in .* (its data starts anew|has ended)")
            try:
                fit(model, [checkpoint, *([Interrupt(interrupt)] if interrupt else [])], 5)
            except KeyboardInterrupt:
                return None
        return checkpoint, evaluation, state(model)

    whole, evaluation, end = run(tmp_path / "whole")
    assert [found.step for found in evaluation.evaluations] == [2, 4, 6, 8, 10, 12, 14, 15]
    ranking = sorted(evaluation.evaluations, key=lambda found: found.metrics["val_loss"])
    assert whole.best.step == ranking[0].step
    kept = {found.step for found in ranking[:2]}
    assert set(steps(tmp_path / "whole")) == kept | {15}
    resumable = {entry.step: entry.resumable for entry in entries(tmp_path / "whole")}
    assert resumable == {step: step % STEPS == 0 for step in resumable}
    run(tmp_path / "run", interrupt=3)
    resumed, again, state_again = run(tmp_path / "run")
    assert resumed.resumed_step == 9
    assert state_again == end
    assert [e.metrics for e in again.evaluations] == [e.metrics for e in evaluation.evaluations]
    assert steps(tmp_path / "run") == steps(tmp_path / "whole")


@pytest.mark.parametrize("first", ["evaluation", "checkpoint"])
def test_an_evaluation_of_an_earlier_step_does_not_rank(first, tmp_path):
    def run(every_steps, epochs, directory):
        evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=every_steps)
        checkpoint = RetrospectiveCheckpoint(directory, monitor="val_loss", keep_best=2)
        callbacks = [evaluation, checkpoint]
        fit(make_model(), callbacks if first == "evaluation" else callbacks[::-1], epochs)
        return checkpoint, evaluation

    with pytest.raises(ValueError, match=r"of step 2 for the checkpoint of step 3.*`evaluation=`"):
        run(2, 3, tmp_path / "stale")
    handed = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=2)
    resumed = train(tmp_path / "stale", 3, monitor="val_loss", evaluation=handed)
    assert resumed.resumed_step == 3
    assert resumed.best.evaluations == len([e for e in handed.evaluations if e.step > 3])
    checkpoint, evaluation = run(STEPS, 3, tmp_path / "fresh")
    assert checkpoint.best.value == min(e.metrics["val_loss"] for e in evaluation.evaluations)
    run(2, 1, tmp_path / "last")  # the last update is always evaluated


def test_averages_that_were_ranked_are_what_is_put_back(tmp_path):
    model = make_model()
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, "mse", run_eagerly=True)
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=3, use_ema=True)
    checkpoint = RetrospectiveCheckpoint(
        tmp_path, monitor="val_loss", evaluation=evaluation, restore_best=True
    )
    fit(model, [checkpoint], 4)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(checkpoint.best.value, rel=1e-6)


def test_predictions_go_to_the_run_of_the_checkpoint(tmp_path):
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=3, predictions=True)
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="val_loss", evaluation=evaluation)
    fit(make_model(), [checkpoint], 1)
    assert pb.runs.load_predictions(tmp_path, 3).predictions.shape == Y.shape


@pytest.mark.parametrize("index", [0, 1])
def test_of_many_hosts_the_first_writes_predictions(index, tmp_path):
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=3, predictions=True)
    checkpoint = RetrospectiveCheckpoint(
        tmp_path,
        monitor="val_loss",
        evaluation=evaluation,
        host=pb.hosts.Host(index, 2, barrier=lambda name: None),
    )
    fit(make_model(), [checkpoint], 1)
    assert [found.step for found in evaluation.evaluations] == [3]
    assert any((tmp_path / "predictions").glob("*")) == (index == 0)


def test_an_evaluation_of_the_checkpoint_is_not_a_callback_too(tmp_path):
    evaluation = pb.callbacks.PeriodicEvaluation((X, Y), every_steps=3)
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="val_loss", evaluation=evaluation)
    with pytest.raises(ValueError, match=r"was given to `fit` twice\. Leave it out of `callbacks`"):
        fit(make_model(), [checkpoint, evaluation], 1)


# Who writes.


def test_the_directory_has_one_writer(tmp_path):
    with (
        pb.runs.CheckpointStore(tmp_path / "checkpoints", keep=pb.runs.LatestN(1)),
        pytest.raises(RuntimeError, match=str(tmp_path)),
    ):
        train(tmp_path)
    train(tmp_path, 1)


@pytest.mark.tensorflow
def test_a_model_that_is_not_built_is_refused_at_once(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match=r"Received: 'sequential.*model\(x\[:1\]\)"):
        train(tmp_path, model=model)
    with pytest.raises(ValueError, match="load_checkpoint needs a model whose weights are there"):
        pb.runs.load_checkpoint(model, tmp_path)
    model(X[:1])
    train(tmp_path, 1, model=model)


@pytest.mark.tensorflow
def test_the_optimizers_of_a_custom_train_step_go_on(tmp_path):
    import tensorflow as tf

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(1)
            self.slow, self.fast = keras.optimizers.SGD(0.01, 0.9), keras.optimizers.Adam(0.05)

        def call(self, x):
            return self.second(self.first(x))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape(persistent=True) as tape:
                loss = self.compute_loss(x, y, self(x))
            for layer, optimizer in ((self.first, self.slow), (self.second, self.fast)):
                weights = layer.trainable_variables
                optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    def model(*, build=True):
        keras.utils.set_random_seed(0)
        model = Two()
        model.compile(loss="mse", run_eagerly=True)
        model(X[:1])
        if build:
            model.slow.build(model.first.trainable_variables)
            model.fast.build(model.second.trainable_variables)
        return model

    with pytest.raises(ValueError, match=r"Received: `fast` of .*model\.fast\.build\(variables\)"):
        train(tmp_path / "unbuilt", model=model(build=False))
    whole, resumed = model(), model()
    train(tmp_path / "whole", model=whole)
    train(tmp_path / "run", model=model(), interrupt=3)
    train(tmp_path / "run", model=resumed)
    assert state(resumed) == state(whole)


def test_two_in_one_fit_are_refused(tmp_path):
    two = [RetrospectiveCheckpoint(tmp_path, monitor=m) for m in ("loss", "val_loss")]
    with pytest.raises(ValueError, match="Two RetrospectiveCheckpoint in one `fit`"):
        fit(make_model(), two, 1)


def test_copies_share_the_data_and_nothing_else(tmp_path):
    class Data:
        start_step = keras.Variable(0, dtype="int32", trainable=False)

        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    data = Data()
    checkpoint = RetrospectiveCheckpoint(tmp_path, monitor="loss", data=data)
    fit(make_model(), [checkpoint], 1)
    twin = copy.deepcopy(checkpoint)
    assert twin._data is data
    assert twin.best is None
    with pytest.raises(ValueError, match=r"A copy .* may not train in the same directory"):
        fit(make_model(), [twin], 1)
    twin.for_execution(tmp_path / "other")
    assert (twin.directory, checkpoint.directory) == (tmp_path / "other", tmp_path)


def test_only_the_first_host_writes(tmp_path):
    waited = []
    host = pb.hosts.Host(1, 2, waited.append)
    model = make_model()
    train(tmp_path, 2, model=model, host=host)
    assert not tmp_path.joinpath("checkpoints").exists()
    assert waited == ["opened", "resumed", "saved"]
    train(tmp_path, 2)
    other = train(tmp_path, 3, host=host)
    assert other.resumed_step == 6
    assert steps(tmp_path) == [3, 6]


@pytest.mark.tensorflow
def test_replicas_go_on_exactly(tmp_path):
    import tensorflow as tf

    def run(directory, interrupt=None):
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            keras.utils.set_random_seed(0)
            model = keras.Sequential(
                [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(),
                 keras.layers.Dropout(0.2), keras.layers.Dense(1)]
            )  # fmt: skip
            model.compile(keras.optimizers.Adam(0.05), "mse")
        checkpoint = RetrospectiveCheckpoint(directory, monitor="val_loss")
        callbacks = [checkpoint, *([Interrupt(interrupt)] if interrupt else [])]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The run in .* (its data starts anew|has ended)")
            try:
                fit(model, callbacks, 4, validation_data=(X, Y))
            except KeyboardInterrupt:
                return None
        return state(model), checkpoint.best

    whole = run(tmp_path / "whole")
    run(tmp_path / "run", interrupt=2)
    assert run(tmp_path / "run") == whole


def test_the_files_are_plain(tmp_path):
    train(tmp_path, 1)
    folder = tmp_path / "checkpoints" / "step_0000000003"
    assert sorted(path.name for path in folder.iterdir()) == ["record.json", "state.safetensors"]
    assert json.loads((folder / "record.json").read_text())
