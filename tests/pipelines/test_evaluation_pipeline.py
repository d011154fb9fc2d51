"""Evaluation pipelines: exact over the set, whatever the batch size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import pipelines

GRID = [(num_examples, batch_size) for num_examples in (1, 5, 8, 9) for batch_size in (1, 4, 8, 12)]


def classes(num_examples):
    rng = np.random.default_rng(num_examples)
    x = rng.normal(size=(num_examples, 4)).astype("float32")
    return x, rng.integers(0, 3, size=num_examples)


def losses_and_hits(model, x, y):
    """Per-example cross entropy and correctness, in NumPy."""
    kernel, bias = (np.asarray(weight, "float64") for weight in model.get_weights())
    logits = x @ kernel + bias
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(y)), y], logits.argmax(axis=1) == y


def classifier(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    options = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)} | options
    model.compile(**options)
    return model


def evaluate(model, valid):
    return model.evaluate(valid, verbose=0, return_dict=True)


@pytest.fixture(scope="module")
def model():
    return classifier(
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="unweighted")],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


class TestExact:
    @pytest.mark.parametrize(("num_examples", "batch_size"), GRID)
    def test_evaluate_equals_numpy(self, model, num_examples, batch_size):
        x, y = classes(num_examples)
        valid = pipelines.evaluation_pipeline((x, y), batch_size=batch_size)
        results = evaluate(model, valid)
        losses, hits = losses_and_hits(model, x, y)
        assert results["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert results["accuracy"] == pytest.approx(hits.mean(), rel=1e-6)

    def test_a_stream_with_a_map_is_exact_too(self, model):
        x, y = classes(9)
        source = tf.data.Dataset.from_tensor_slices({"x": x - 1, "y": y})
        valid = pipelines.evaluation_pipeline(
            source, batch_size=4, map=lambda example: (example["x"] + 1, example["y"])
        )
        losses, hits = losses_and_hits(model, x, y)
        results = evaluate(model, valid)
        assert results["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert results["accuracy"] == pytest.approx(hits.mean(), rel=1e-6)

    def test_own_sample_weights_are_kept(self, model):
        x, y = classes(5)
        own = np.array([1.0, 2.0, 0.0, 3.0, 0.5])
        valid = pipelines.evaluation_pipeline((x, y, own), batch_size=4)
        losses, hits = losses_and_hits(model, x, y)
        results = evaluate(model, valid)
        assert results["loss"] == pytest.approx((own * losses).mean(), rel=1e-5)
        assert results["accuracy"] == pytest.approx((own * hits).sum() / own.sum(), rel=1e-6)

    def test_sample_weights_per_time_step_are_kept(self):
        own = np.arange(15.0).reshape(5, 3)
        x, y = np.ones((5, 3, 2)), np.ones((5, 3))
        valid = pipelines.evaluation_pipeline((x, y, own), batch_size=4, unit_weights=True)
        weights = np.concatenate([weight for _, _, weight in valid])
        np.testing.assert_array_equal(weights, np.concatenate([own, np.zeros((3, 3))]))


class TestWhatTheDocstringSays:
    """Facts about Keras that decide how padding has to be weighed."""

    def test_unweighted_metrics_count_the_padding(self, model):
        x, y = classes(5)
        _, hits = losses_and_hits(model, x, y)
        results = evaluate(model, pipelines.evaluation_pipeline((x, y), batch_size=4))
        padded = np.concatenate([hits, hits[-1:].repeat(3)])
        assert padded.mean() != hits.mean()
        assert results["unweighted"] == pytest.approx(padded.mean(), rel=1e-6)

    def test_unit_weights_make_the_loss_too_small(self, model):
        x, y = classes(5)
        losses, hits = losses_and_hits(model, x, y)
        valid = pipelines.evaluation_pipeline((x, y), batch_size=4, unit_weights=True)
        results = evaluate(model, valid)
        assert results["loss"] == pytest.approx(losses.mean() * 5 / 8, rel=1e-5)
        assert results["accuracy"] == pytest.approx(hits.mean(), rel=1e-6)

    @pytest.mark.parametrize(("unit_weights", "count"), [(True, 5.0), (False, 8.0)])
    def test_unit_weights_make_counts_exact(self, unit_weights, count):
        always_positive = keras.layers.Dense(
            1, activation="sigmoid", kernel_initializer="zeros", bias_initializer="ones"
        )
        model = keras.Sequential([keras.Input([4]), always_positive])
        positives = keras.metrics.TruePositives(name="positives")
        model.compile(loss="binary_crossentropy", weighted_metrics=[positives])
        source = (np.ones((5, 4), "float32"), np.ones(5))
        valid = pipelines.evaluation_pipeline(source, batch_size=4, unit_weights=unit_weights)
        assert evaluate(model, valid)["positives"] == count

    def test_mean_with_sample_weight_is_not_exact(self):
        x, y = classes(5)
        model = classifier(
            loss=keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            )
        )
        losses, _ = losses_and_hits(model, x, y)
        results = evaluate(model, pipelines.evaluation_pipeline((x, y), batch_size=4))
        of_batches = (losses[:4].mean() + losses[4]) / 2
        assert of_batches != pytest.approx(losses.mean(), rel=1e-2)
        assert results["loss"] == pytest.approx(of_batches, rel=1e-5)


def sequences(shape, *, classes=None):
    """Seven examples: x, targets of `shape`, and a model whose output fits them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 2)).astype("float32")
    if classes is None:
        y = rng.normal(size=(7, *shape)).astype("float32")
        outputs = shape or (1,)
    else:
        y = rng.integers(0, classes, size=(7, *shape))
        outputs = (*(shape[:-1] if shape[-1:] == (1,) else shape), classes)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(int(np.prod(outputs))), keras.layers.Reshape(outputs)]
    return x, y, keras.Sequential([keras.Input([2]), *layers])


def evaluated_one_by_one(model, x, y):
    """Mean of the results on single examples, which need no weights."""
    results = [model.evaluate(x[i : i + 1], y[i : i + 1], verbose=0) for i in range(len(x))]
    return np.mean(results, axis=0)


class TestTargetsWithInnerAxes:
    """Keras broadcasts (B,) weights onto a (B, T) loss: an error, or wrong where T = B."""

    @pytest.mark.parametrize("batch_size", [4, 5])
    @pytest.mark.parametrize(
        ("shape", "rank"), [((), 1), ((1,), 1), ((3,), 1), ((4, 3), 2), ((4, 1), 2), ((4, 5, 2), 3)]
    )
    def test_mse(self, shape, rank, batch_size):
        x, y, model = sequences(shape)
        model.compile(loss="mse", weighted_metrics=["mae"])
        valid = pipelines.evaluation_pipeline((x, y), batch_size=batch_size)
        assert valid.element_spec[2].shape.as_list() == [batch_size] + [1] * (rank - 1)
        np.testing.assert_allclose(
            model.evaluate(valid, verbose=0), evaluated_one_by_one(model, x, y), rtol=1e-5
        )

    @pytest.mark.parametrize("batch_size", [4, 5])
    @pytest.mark.parametrize(
        ("shape", "rank"), [((), 1), ((1,), 1), ((4,), 2), ((4, 1), 2), ((4, 5), 3)]
    )
    def test_sparse_categorical_crossentropy(self, shape, rank, batch_size):
        x, y, model = sequences(shape, classes=3)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(loss=loss, weighted_metrics=["sparse_categorical_accuracy"])
        valid = pipelines.evaluation_pipeline((x, y), batch_size=batch_size)
        assert valid.element_spec[2].shape.as_list() == [batch_size] + [1] * (rank - 1)
        np.testing.assert_allclose(
            model.evaluate(valid, verbose=0), evaluated_one_by_one(model, x, y), rtol=1e-5
        )

    @pytest.mark.parametrize("batch_size", [3, 4])
    def test_own_weights_of_examples_reach_every_time_step(self, batch_size):
        x, y, model = sequences((4, 3))
        model.compile(loss="mse")
        own = np.array([1.0, 2.0, 0.0, 3.0, 0.5, 1.0, 1.0])
        valid = pipelines.evaluation_pipeline((x, y, own), batch_size=batch_size)
        losses = np.square(model.predict(x, verbose=0) - y).mean(axis=(1, 2))
        assert model.evaluate(valid, verbose=0) == pytest.approx((own * losses).mean(), rel=1e-5)

    @pytest.mark.parametrize("batch_size", [4, 5])
    def test_outputs_of_unequal_rank(self, batch_size):
        x, y, _ = sequences((4, 3))
        inputs = keras.Input([2])
        steps = keras.layers.Reshape([4, 3], name="steps")(keras.layers.Dense(12)(inputs))
        outputs = {"plain": keras.layers.Dense(1, name="plain")(inputs), "steps": steps}
        model = keras.Model(inputs, outputs)
        model.compile(loss={"plain": "mse", "steps": "mse"})
        targets = {"plain": x[:, :1], "steps": y}
        valid = pipelines.evaluation_pipeline((x, targets), batch_size=batch_size)
        predicted = model.predict(x, verbose=0)
        expected = sum(np.square(predicted[name] - targets[name]).mean() for name in targets)
        assert evaluate(model, valid)["loss"] == pytest.approx(expected, rel=1e-5)

    def test_a_loss_of_one_value_per_example_states_its_rank(self):
        def mean_square(y_true, y_pred):
            return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=[1, 2, 3])

        x, y, model = sequences((4, 5, 2))
        model.compile(loss=mean_square)
        valid = pipelines.evaluation_pipeline((x, y), batch_size=4, loss_rank=1)
        expected = np.square(model.predict(x, verbose=0) - y).mean()
        assert model.evaluate(valid, verbose=0) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("loss_rank", [0, 1.5, True])
    def test_the_rank_is_checked(self, loss_rank):
        with pytest.raises(ValueError, match="`loss_rank` must be an integer of at least 1"):
            pipelines.evaluation_pipeline(classes(3), batch_size=2, loss_rank=loss_rank)

    def test_the_rank_fits_the_targets(self):
        with pytest.raises(ValueError, match=r"number of axes of a batch of targets, 1 here.*2"):
            pipelines.evaluation_pipeline(classes(3), batch_size=2, loss_rank=2)


class TestElements:
    @pytest.mark.parametrize(("num_examples", "batch_size"), GRID)
    def test_one_pass_in_order_then_copies_of_weight_zero(self, num_examples, batch_size):
        x, y = classes(num_examples)
        valid = pipelines.evaluation_pipeline((x, y), batch_size=batch_size)
        batches = list(valid)
        assert len(batches) == valid.steps == valid.cardinality()
        assert {batch[0].shape[0] for batch in batches} == {batch_size}
        inputs, labels, weights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        np.testing.assert_array_equal(inputs[:num_examples], x)
        np.testing.assert_array_equal(labels[:num_examples], y)
        assert np.all(inputs[num_examples:] == x[-1])
        assert np.all(weights[:num_examples] > 0)
        assert np.all(weights[num_examples:] == 0)
        assert weights.mean() == pytest.approx(1.0, rel=1e-6)

    def test_it_is_a_dataset_of_static_shape_that_knows_its_numbers(self):
        valid = pipelines.evaluation_pipeline(classes(9), batch_size=4)
        assert isinstance(valid, tf.data.Dataset)
        assert [spec.shape.as_list() for spec in valid.element_spec] == [[4, 4], [4], [4]]
        assert valid.element_spec[2].dtype == tf.float32
        assert (valid.batch_size, valid.num_examples, valid.steps) == (4, 9, 3)

    def test_every_pass_is_the_same(self):
        valid = pipelines.evaluation_pipeline(classes(9), batch_size=4)
        for first, second in zip(valid, valid, strict=True):
            for part_a, part_b in zip(first, second, strict=True):
                np.testing.assert_array_equal(part_a, part_b)

    def test_a_set_larger_than_a_read_block(self):
        number = np.arange(2500)
        valid = pipelines.evaluation_pipeline((number, number), batch_size=999)
        labels = np.concatenate([y for _, y, _ in valid])
        np.testing.assert_array_equal(labels[:2500], number)

    def test_padding_is_finite_where_zeros_would_not_be(self):
        """A loss of log(x) at zero is infinite, and 0 * inf is NaN."""
        source = (np.full((3, 1), 2.0, "float32"), np.zeros(3))
        model = keras.Sequential([keras.Input([1]), keras.layers.Lambda(keras.ops.log)])
        model.compile(loss="mse")
        results = evaluate(model, pipelines.evaluation_pipeline(source, batch_size=2))
        assert results["loss"] == pytest.approx(np.log(2.0) ** 2, rel=1e-6)


class TestErrors:
    @pytest.mark.parametrize(
        "source",
        [
            {"x": np.ones(3), "y": np.ones(3)},
            (np.ones(3),),
            (np.ones(3), np.ones(3), {"a": np.ones(3)}),
            tf.data.Dataset.range(3),
        ],
    )
    def test_examples_that_cannot_be_weighed_are_refused(self, source):
        with pytest.raises(ValueError, match=r"must be \(x, y\) or \(x, y, sample_weight\)"):
            pipelines.evaluation_pipeline(source, batch_size=2)

    def test_a_map_that_needs_a_seed_is_refused(self):
        def augment(x, y, *, seed):
            return x, y

        with pytest.raises(ValueError, match=r"must not need a seed in evaluation.*`seed=None`"):
            pipelines.evaluation_pipeline(classes(3), batch_size=2, map=augment)

    @pytest.mark.parametrize("value", [0, -1, 2.5, True])
    def test_the_batch_size_is_checked(self, value):
        with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
            pipelines.evaluation_pipeline(classes(3), batch_size=value)

    def test_an_infinite_source_is_refused(self):
        train = pipelines.training_pipeline(classes(3), batch_size=2, seed=0)
        with pytest.raises(ValueError, match="must be finite"):
            pipelines.evaluation_pipeline(train, batch_size=2)
