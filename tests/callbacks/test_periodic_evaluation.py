"""PeriodicEvaluation in a real `fit`: what it measures, when, and that training is what it was."""

import copy
import random
import re

import keras
import numpy as np
import pytest
from keras import ops

import tfplaybook as pb
from tfplaybook import _keras_evaluation
from tfplaybook.callbacks import Evaluation, PeriodicEvaluation, compare_sample
from tfplaybook.runs import Curve, RunRecorder, compare_predictions, load_predictions, load_run

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(160, 4)).astype("float32")
Y = _RNG.integers(0, 3, 160)
BATCH = 16
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COMPILED = [{}, {"steps_per_execution": 8}]
if keras.backend.backend() == "tensorflow":
    COMPILED += [{"run_eagerly": True}, {"jit_compile": True}]


class AlwaysNoisy(keras.layers.Layer):
    """Draws at evaluation too, as Monte Carlo dropout does."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)
        self.calls = 0

    def call(self, x):
        self.calls += 1
        return x + 0.1 * keras.random.normal(ops.shape(x), seed=self.generator)


def noisy_model(**options):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4,)),
            AlwaysNoisy(),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3),
        ]
    )
    optimizer = keras.optimizers.AdamW(1e-2, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, LOGITS, metrics=["accuracy"], **options)
    return model


def linear_model(optimizer="sgd", loss=LOGITS, units=3, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(units, name="scores")(inputs))
    model.compile(optimizer, loss, **options)
    return model


def fit(model, callbacks, *, rows=160, **options):
    options = {"batch_size": BATCH, "verbose": 0, **options}
    return model.fit(X[:rows], Y[:rows], callbacks=callbacks, **options)


def states(model):
    return [
        np.array(ops.convert_to_numpy(v.value))
        for v in [*model.variables, *model.optimizer.variables]
    ]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", COMPILED, ids=str)
def test_training_is_bit_for_bit_what_it_is_without(options):
    results = []
    for callbacks in (
        [],
        [
            PeriodicEvaluation((X[:50], Y[:50]), every_steps=5, batch_size=16, count_correct=True),
            PeriodicEvaluation((X, Y), every_steps=7, use_ema=True, prefix="ema_"),
        ],
    ):
        model = noisy_model(**options)
        history = fit(model, callbacks).history
        logs = {name: history[name] for name in ("loss", "accuracy")}
        generators = random.getstate(), np.random.get_state()[1].tolist()
        results.append((states(model), logs, generators))
    assert_same(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]
    assert len(callbacks[1].evaluations) >= 2
    assert callbacks[0].evaluations[-1].metrics["val_loss"] > 0


@pytest.mark.parametrize("drawn_before", [False, True])
def test_unseeded_draws_during_an_evaluation_leave_no_trace(drawn_before):
    def draw():
        return float(keras.random.normal(())), random.random(), float(np.random.rand())

    model = linear_model()
    results = []
    for evaluates in (False, True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(5)
        if drawn_before:
            draw()
        if evaluates:
            with _keras_evaluation.undisturbed(model):
                draw()
        results.append(draw())
    assert results[0] == results[1]


@pytest.mark.tensorflow
def test_two_replicas_train_as_without_and_evaluate_averaged_batch_statistics():
    import tensorflow as tf

    def moving_means(model):
        return [v.numpy() for v in model.layers[2].moving_mean.value.values]

    results = []
    for every in (None, 4):
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            model = noisy_model()
        callbacks = []
        if every:
            evaluation = PeriodicEvaluation((X[:51], Y[:51]), every_steps=every, count_correct=True)
            found = []
            evaluation.on_evaluation = lambda _, m=model, f=found: f.append(moving_means(m))
            callbacks = [evaluation]
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
        history = model.fit(data, verbose=0, shuffle=False, callbacks=callbacks).history
        weights = [v.numpy() for v in [*model.trainable_variables, *model.optimizer.variables]]
        seeds = [
            part.numpy() for layer in (0, 3) for part in _seed_of(model.layers[layer]).value.values
        ]
        results.append((weights, seeds, (history["loss"], history["accuracy"])))
        if not every:
            assert not np.array_equal(*moving_means(model))
    assert_same(results[0][0], results[1][0])
    assert_same(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]
    assert [e.step for e in evaluation.evaluations] == [4, 8, 10]
    for replicas in found:
        np.testing.assert_array_equal(*replicas)
    last = evaluation.evaluations[-1]
    assert sum(last.examples_per_class) == 51
    with strategy.scope():
        again = noisy_model()
    with pytest.raises(ValueError, match=r"multiple of the 2 replicas.*Received: 25\. Pass 26"):
        again.fit(
            data,
            verbose=0,
            shuffle=False,
            callbacks=[PeriodicEvaluation((X, Y), every_steps=1, batch_size=25)],
        )


def _seed_of(layer):
    return next(v for v in layer.variables if "seed" in v.path)


def softmax_loss(outputs, y):
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log[np.arange(len(y)), y]


@pytest.mark.parametrize(("size", "batch"), [(1, 1), (1, 4), (5, 4), (50, 16), (48, 16), (7, 100)])
def test_padding_leaves_every_metric_exact(size, batch):
    model = linear_model(
        keras.optimizers.SGD(0.0),
        metrics=[
            "accuracy",
            keras.metrics.SparseCategoricalCrossentropy("entropy", from_logits=True),
        ],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")],
    )
    x, y = X[:size], Y[:size]
    weight = np.linspace(0.5, 2.0, size)
    evaluations = [
        PeriodicEvaluation((x, y), every_steps=1, batch_size=batch, prefix="plain_"),
        PeriodicEvaluation((x, y, weight), every_steps=1, batch_size=batch, prefix="own_"),
    ]
    fit(model, evaluations, rows=1, batch_size=1)
    kernel, bias = model.get_weights()
    outputs = (x @ kernel + bias).astype("float64")
    losses, right = softmax_loss(outputs, y), outputs.argmax(axis=1) == y
    expected = {
        "plain_": (losses.mean(), right.mean()),
        "own_": ((weight * losses).mean(), (weight * right).sum() / weight.sum()),
    }
    for evaluation in evaluations:
        [found] = evaluation.evaluations
        prefix = evaluation.prefix
        loss, weighted = expected[prefix]
        np.testing.assert_allclose(found.metrics[f"{prefix}loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(found.metrics[f"{prefix}accuracy"], right.mean(), rtol=1e-6)
        np.testing.assert_allclose(found.metrics[f"{prefix}entropy"], losses.mean(), rtol=1e-5)
        np.testing.assert_allclose(found.metrics[f"{prefix}weighted"], weighted, rtol=1e-5)
        assert found.num_examples == size


@pytest.mark.parametrize("columns", [1, 3, 4])
def test_padding_is_exact_for_targets_of_several_axes(columns):
    class Repeat(keras.layers.Layer):
        def call(self, x):
            return ops.stack([x, 2.0 * x, 3.0 * x], axis=1)

    model = keras.Sequential([keras.Input((columns,)), Repeat()])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
    x = _RNG.normal(size=(6, columns)).astype("float32")
    y = np.zeros((6, 3, columns), "float32")
    evaluation = PeriodicEvaluation((x, y), every_steps=1, batch_size=4)
    outputs = np.stack([x, 2.0 * x, 3.0 * x], axis=1)
    # There is nothing to train: what is evaluated is the evaluator's arithmetic.
    evaluation._data.prepare(1)
    found = evaluation._evaluator.evaluate(model, evaluation._data.batches())
    np.testing.assert_allclose(found["loss"], np.mean(outputs**2), rtol=1e-5)
    np.testing.assert_allclose(found["mae"], np.mean(np.abs(outputs)), rtol=1e-5)


@pytest.mark.tensorflow
def test_a_padded_pipeline_counts_no_padding():
    import pipelines

    model = linear_model(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    data = pipelines.evaluation_pipeline((X[:50], Y[:50]), batch_size=16)
    evaluation = PeriodicEvaluation(data, every_steps=1, count_correct=True)
    fit(model, [evaluation], rows=BATCH)
    [found] = evaluation.evaluations
    plain = model.evaluate(X[:50], Y[:50], verbose=0, return_dict=True)
    assert found.metrics["val_accuracy"] == pytest.approx(plain["accuracy"], rel=1e-6)
    assert found.metrics["val_loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert sum(found.correct_per_class) == round(50 * plain["accuracy"])
    assert found.num_examples == sum(found.examples_per_class) == 50


@pytest.mark.parametrize(
    ("options", "accumulation", "arguments", "steps"),
    [
        ({}, None, {"every_steps": 7}, [7, 14, 20]),
        ({}, None, {"every_steps": 10}, [10, 20]),
        ({}, None, {"every_steps": 100}, [20]),
        ({}, None, {"every_steps": 10, "every_step_until": 3}, [1, 2, 3, 10, 20]),
        ({}, 4, {"every_steps": 2}, [2, 4, 5]),
        ({"steps_per_execution": 8}, None, {"every_steps": 5}, [8, 10, 18, 20]),
        (
            {"steps_per_execution": 8},
            None,
            {"every_steps": 9, "every_step_until": 9},
            [8, 10, 18, 20],
        ),
    ],
    ids=str,
)
def test_when_it_evaluates(options, accumulation, arguments, steps):
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulation)
    model = linear_model(optimizer, **options)
    evaluation = PeriodicEvaluation((X[:8], Y[:8]), batch_size=16, **arguments)
    weights = {}
    evaluation.on_evaluation = lambda found: weights.update({found.step: model.get_weights()})
    fit(model, [evaluation], epochs=2)
    assert [found.step for found in evaluation.evaluations] == steps
    assert list(weights) == steps
    assert_same(weights[steps[-1]], model.get_weights())


def test_the_evaluation_step_is_traced_once_in_a_fit():
    layer = AlwaysNoisy()
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(3)])
    model.compile("sgd", LOGITS)
    fit(model, [])
    layer.calls = 0
    evaluation = PeriodicEvaluation((X[:50], Y[:50]), every_steps=2, batch_size=16)
    fit(model, [evaluation], epochs=2)
    assert len(evaluation.evaluations) == 10
    assert layer.calls == 1
    assert model.test_function is None


def test_stands_beside_the_validation_of_fit_under_another_prefix():
    results = []
    for every in (None, 4):
        evaluation = PeriodicEvaluation((X, Y), every_steps=4, prefix="periodic_")
        model = noisy_model()
        history = fit(
            model, [evaluation] if every else [], epochs=2, validation_data=(X[:32], Y[:32])
        ).history
        results.append((states(model), {n: v for n, v in history.items() if "periodic" not in n}))
    assert_same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert set(history) >= {"val_loss", "periodic_loss"}
    with pytest.raises(ValueError, match=r"'val_accuracy' is reported twice.*prefix='periodic_'"):
        fit(
            linear_model(metrics=["accuracy"]),
            [PeriodicEvaluation((X, Y), every_steps=4)],
            validation_data=(X[:32], Y[:32]),
        )


def test_averages_are_evaluated_and_the_weights_are_back_before_anybody_looks():
    model = linear_model(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5))
    raw, averages = [model.get_weights()], [model.get_weights()]

    class Follow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights = self.model.get_weights()
            old = averages[-1] if len(raw) > 1 else weights
            averages.append([0.5 * a + 0.5 * w for a, w in zip(old, weights, strict=True)])
            raw.append(weights)

    evaluation = PeriodicEvaluation((X, Y), every_steps=3, use_ema=True)
    assert evaluation.uses_average
    seen = []
    evaluation.on_evaluation = lambda found: seen.append(evaluation.model.get_weights())
    fit(model, [Follow(), evaluation])
    assert [found.step for found in evaluation.evaluations] == [3, 6, 9, 10]
    for found, weights in zip(evaluation.evaluations, seen, strict=True):
        assert_same(weights, raw[found.step])
        kernel, bias = averages[found.step]
        loss = softmax_loss((X @ kernel + bias).astype("float64"), Y).mean()
        assert found.metrics["val_loss"] == pytest.approx(loss, rel=1e-5)
    with pytest.raises(ValueError, match=r"Received: SGD without them\. Compile with SGD"):
        fit(linear_model(), [PeriodicEvaluation((X, Y), every_steps=3, use_ema=True)])


@pytest.mark.parametrize("order", [1, -1])
def test_curves_have_the_very_steps_and_logs_the_latest_values(order, tmp_path):
    model = linear_model(metrics=["accuracy"])
    evaluation = PeriodicEvaluation(
        (X, Y), every_steps=4, count_correct=True, log_dir=tmp_path / "board"
    )
    history = fit(model, [RunRecorder(tmp_path), evaluation][::order], epochs=2).history
    curves = load_run(tmp_path).curves
    found = evaluation.evaluations
    assert curves["val_loss"].steps.tolist() == [4, 8, 12, 16, 20]
    assert curves["val_loss"].values.tolist() == [e.metrics["val_loss"] for e in found]
    assert curves["val_correct/1"].values.tolist() == [e.correct_per_class[1] for e in found]
    assert history["val_accuracy"] == [found[i].metrics["val_accuracy"] for i in (1, 4)]
    assert all(e.seconds > 0 for e in found)
    [events] = (tmp_path / "board").iterdir()
    assert b"val_correct/1" in events.read_bytes()


def test_the_last_update_is_evaluated_when_another_callback_ends_the_run():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    for callbacks in (lambda e: [Stop(), e], lambda e: [e, Stop()]):
        evaluation = PeriodicEvaluation((X, Y), every_steps=4)
        fit(linear_model(), callbacks(evaluation), epochs=3)
        assert [found.step for found in evaluation.evaluations] == [4, 8, 10]


def test_a_resumed_run_goes_on_with_the_list_and_the_steps():
    whole = PeriodicEvaluation((X, Y), every_steps=4, count_correct=True)
    model = linear_model()
    fit(model, [whole], epochs=2, shuffle=False)
    first = PeriodicEvaluation((X, Y), every_steps=4, count_correct=True)
    model = linear_model()
    fit(model, [first], shuffle=False)
    state = {name: np.array(value) for name, value in first.state_dict().items()}
    second = PeriodicEvaluation((X, Y), every_steps=4, count_correct=True)
    second.load_state_dict(state)
    assert_same(second.state_dict().values(), state.values())
    fit(model, [second], epochs=2, initial_epoch=1, shuffle=False)
    assert [found.step for found in second.evaluations] == [4, 8, 10, 12, 16, 20]
    uninterrupted = [f for f in second.evaluations if f.step != 10]
    for one, other in zip(uninterrupted, whole.evaluations, strict=True):
        assert (one.step, one.metrics) == (other.step, other.metrics)
        assert one.correct_per_class == other.correct_per_class
    second.load_state_dict(PeriodicEvaluation((X, Y), every_steps=4).state_dict())
    assert second.state_dict()["steps"].shape == (0,)
    with pytest.raises(ValueError, match=r"`state` must be the state_dict.*'multiplier'"):
        second.load_state_dict({"multiplier": np.ones(())})


def test_goes_on_after_a_fit_that_was_interrupted_in_the_same_process():
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    class Resume(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            evaluation.load_state_dict(state)

    model = linear_model()
    evaluation = PeriodicEvaluation((X, Y), every_steps=4)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [evaluation, Interrupt()], epochs=2)
    state = evaluation.state_dict()
    fit(model, [Resume(), evaluation], epochs=2, initial_epoch=1)
    assert [found.step for found in evaluation.evaluations] == [4, 8, 12, 16, 20]


def test_a_copy_shares_the_data_and_is_as_new():
    data = (X, Y)
    evaluation = PeriodicEvaluation(data, every_steps=4)
    fit(linear_model(), [evaluation])
    again = copy.deepcopy(evaluation)
    assert again.validation_data is data
    assert again.evaluations == ()
    assert again.every_steps == 4


@pytest.mark.parametrize(
    ("loss", "units", "targets", "true"),
    [
        ("sparse_categorical_crossentropy", 3, Y, Y),
        ("categorical_crossentropy", 3, np.eye(3)[Y], Y),
        (keras.losses.BinaryCrossentropy(from_logits=True), 1, Y > 0, Y > 0),
        ([keras.losses.BinaryCrossentropy(from_logits=True)], 1, Y > 0, Y > 0),
        ({"scores": keras.losses.BinaryCrossentropy(from_logits=True)}, 1, Y > 0, Y > 0),
        ("binary_crossentropy", 1, (Y > 0)[:, None].astype("float32"), Y > 0),
    ],
    ids=["sparse", "categorical", "logit", "logit in a list", "logit in a dict", "probability"],
)
def test_counts_correct_examples_of_each_class(loss, units, targets, true):
    model = linear_model(keras.optimizers.SGD(0.0), loss, units)
    evaluation = PeriodicEvaluation(
        (X[:50], targets[:50]), every_steps=1, batch_size=16, count_correct=True
    )
    model.fit(X[:BATCH], targets[:BATCH], batch_size=BATCH, verbose=0, callbacks=[evaluation])
    kernel, bias = model.get_weights()
    outputs, true = X[:50] @ kernel + bias, true[:50].astype(int)
    threshold = 0.5 if loss == "binary_crossentropy" else 0.0
    predicted = outputs.argmax(axis=1) if units > 1 else (outputs[:, 0] > threshold).astype(int)
    [found] = evaluation.evaluations
    classes = range(max(units, 2))
    assert found.examples_per_class == tuple(np.sum(true == c) for c in classes)
    assert found.correct_per_class == tuple(np.sum((true == c) & (predicted == c)) for c in classes)


def test_only_a_classifier_has_classes_to_count():
    evaluation = PeriodicEvaluation((X, X[:, :1]), every_steps=1, count_correct=True)
    model = linear_model(loss="mse", units=1)
    with pytest.raises(ValueError, match=r"needs a classifier.*outputs \(160, 1\), targets"):
        model.fit(X, X[:, :1], batch_size=BATCH, verbose=0, callbacks=[evaluation])


def test_predictions_are_kept_with_their_ids_and_without_the_padding(tmp_path):
    ids = [f"bild-ä-{i}" for i in range(50)]
    model = linear_model(keras.optimizers.SGD(1.0))
    evaluation = PeriodicEvaluation(
        (X[:50], Y[:50]), every_steps=5, batch_size=16, predictions=True, ids=ids
    )
    fit(model, [evaluation, RunRecorder(tmp_path)])
    kept = load_predictions(tmp_path, 10)
    assert kept.ids.tolist() == ids
    np.testing.assert_array_equal(kept.targets, Y[:50])
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kept.predictions, X[:50] @ kernel + bias, atol=1e-5)
    change = compare_predictions(load_run(tmp_path), 5, 10)
    before = load_predictions(tmp_path, 5).predictions.argmax(axis=1)
    after = kept.predictions.argmax(axis=1)
    order = np.argsort(ids)
    np.testing.assert_array_equal(change.changed, (before != after)[order])
    np.testing.assert_array_equal(
        change.became_right, ((before != Y[:50]) & (after == Y[:50]))[order]
    )


@pytest.mark.tensorflow
def test_ids_can_be_a_feature_of_a_dataset(tmp_path):
    import tensorflow as tf

    import pipelines

    inputs = {
        "x": keras.Input((4,), name="x"),
        "name": keras.Input((), dtype="string", name="name"),
    }
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs["x"]))
    model.compile("sgd", LOGITS)
    names = np.array([f"n{i}" for i in range(10)])
    features = {"x": X[:10], "name": names}
    data = pipelines.evaluation_pipeline((features, Y[:10]), batch_size=4)
    train = tf.data.Dataset.from_tensor_slices((features, Y[:10])).batch(4)
    evaluation = PeriodicEvaluation(data, every_steps=9, predictions=tmp_path, ids="name")
    model.fit(train, shuffle=False, verbose=0, callbacks=[evaluation])
    assert load_predictions(tmp_path, 3).ids.tolist() == names.tolist()
    bad = PeriodicEvaluation(data, every_steps=9, predictions=tmp_path, ids="nam")
    with pytest.raises(ValueError, match=r"must be a feature of x. Received: 'nam'.*'name', 'x'"):
        model.fit(train, shuffle=False, verbose=0, callbacks=[bad])


def test_warns_of_evaluation_batches_below_the_training_batch():
    evaluation = PeriodicEvaluation((X, Y), every_steps=2, batch_size=8)
    with pytest.warns(UserWarning, match=r"batches of 8 examples, and training 16 \(I2") as caught:
        fit(linear_model(), [evaluation], epochs=2)
    assert sum("I2" in str(warning.message) for warning in caught) == 1


@pytest.mark.tensorflow
def test_warns_when_the_optimizer_counts_nothing():
    class Idle(keras.Sequential):
        def train_step(self, data):
            return {"loss": 0.0}

    model = Idle([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", LOGITS)
    evaluation = PeriodicEvaluation((X, Y), every_steps=2)
    with pytest.warns(UserWarning, match=r"evaluated nothing: .* no update in 10 batches"):
        fit(model, [evaluation])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_steps": 0}, "`every_steps` must be an integer of at least 1"),
        ({"every_step_until": -1}, "`every_step_until` must be an integer of at least 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"prefix": ""}, "`prefix` must be a string that tells"),
        ({"ids": [1]}, "pass predictions=True too"),
        ({"ids": [1, 2], "predictions": True}, r"Received: 2 ids for 160 examples"),
        ({"ids": np.ones(160), "predictions": True}, "`ids` must be integers or strings"),
        ({"validation_data": X}, r"must be a tf\.data\.Dataset, or a tuple of arrays"),
        ({"validation_data": (X,)}, r"Received: tuple of 1\."),
        ({"validation_data": (X, Y[:5])}, r"same number of examples.*\(160, 4\), \(5,\)"),
        ({"validation_data": (X[:0], Y[:0])}, "must have an example"),
    ],
    ids=str,
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PeriodicEvaluation(**{"validation_data": (X, Y), "every_steps": 5, **arguments})


@pytest.mark.tensorflow
def test_refuses_datasets_that_cannot_be_evaluated():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    for bad, options, message in [
        (data.repeat(), {}, "Received: an endless dataset"),
        (data, {"batch_size": 8}, "a dataset is batched already"),
        (tf.data.Dataset.from_tensor_slices(X).batch(8), {}, "elements of the form TensorSpec"),
    ]:
        with pytest.raises(ValueError, match=message):
            PeriodicEvaluation(bad, every_steps=5, **options)


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_dataset_that_yields_nothing_is_refused(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    with pytest.raises(ValueError, match=r"must have an example.*yields no batch"):
        PeriodicEvaluation(data.take(0), every_steps=5)
    for options in [{}, {"predictions": tmp_path}, {"count_correct": True}]:
        nothing = data.filter(lambda x, y: False)
        found_out_late = PeriodicEvaluation(nothing, every_steps=5, **options)
        with pytest.raises(ValueError, match=r"must have an example.*yields no batch"):
            fit(linear_model(), [found_out_late])


def test_predictions_need_a_run():
    evaluation = PeriodicEvaluation((X, Y), every_steps=5, predictions=True)
    with pytest.raises(ValueError, match="a `fit` without a RunRecorder"):
        fit(linear_model(), [evaluation])


def evaluations(values, *, size=None, name="val_accuracy"):
    return [Evaluation(step, {name: value}, 1.0, size) for step, value in values.items()]


def test_compare_sample_in_closed_form():
    full = evaluations({10: 0.5, 20: 0.7, 30: 0.9}, size=1001)
    sample = evaluations({5: 0.1, 10: 0.51, 20: 0.69, 30: 0.93}, size=101)
    check = compare_sample(full, sample, metric="val_accuracy")
    assert check.steps == (10, 20, 30)
    assert check.bias == pytest.approx(0.01)
    assert (check.largest_difference, check.largest_difference_step) == (pytest.approx(0.03), 30)
    assert check.correlation == pytest.approx(
        np.corrcoef([0.5, 0.7, 0.9], [0.51, 0.69, 0.93])[0, 1]
    )
    assert check.standard_error == pytest.approx(np.sqrt(0.21 / 101 * 900 / 1000))
    assert check.tracks
    assert "bias +0.01 (0.2 standard errors of 0.0433)" in str(check)


@pytest.mark.parametrize(
    ("sample", "options", "tracks", "message"),
    [
        ([0.5, 0.7, 0.9], {}, True, r"correlation 1\.000 over 3 steps"),
        ([0.3, 0.5, 0.7], {"sample_size": 1000}, False, "draw the sample at random"),
        ([0.3, 0.5, 0.7], {}, True, "no standard error known"),
        ([0.9, 0.7, 0.5], {}, False, "Take a larger sample"),
        ([0.6, 0.6, 0.6], {}, False, "correlation nan"),
        ([0.3, 0.5, 0.7], {"sample_size": 100, "example_std": 2.0}, True, "errors of 0.2"),
    ],
)
def test_the_verdict_of_compare_sample(sample, options, tracks, message):
    steps = np.array([10, 20, 30])
    full = Curve(steps, np.array([0.5, 0.7, 0.9]))
    check = compare_sample(full, Curve(steps, np.array(sample)), metric="val_accuracy", **options)
    assert check.tracks is tracks
    assert re.search(message, str(check)), str(check)


def test_compare_sample_refuses_what_cannot_be_compared():
    full = evaluations({10: 0.5, 20: 0.7})
    with pytest.raises(ValueError, match=r"two common steps at least. Received: 1 of 2 steps"):
        compare_sample(full, evaluations({20: 0.7, 30: 0.9}), metric="val_accuracy")
    with pytest.raises(ValueError, match=r"`full` must have the metric 'val_loss'. It has"):
        compare_sample(full, full)
    with pytest.raises(ValueError, match="must be finite at the common steps"):
        compare_sample(full, evaluations({10: 0.5, 20: np.nan}), metric="val_accuracy")
    assert pb.callbacks.compare_sample(full, full, metric="val_accuracy").tracks
