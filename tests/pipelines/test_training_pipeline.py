"""Training pipelines: repeatable, sought exactly, endless, of one shape."""

import functools
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelines

NUM_EXAMPLES = 10
BATCH_SIZE = 4


def augment(x, y, *, seed):
    return x + tf.random.stateless_normal([2], seed), y


def stream(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def batches(pipeline, steps):
    return [tuple(part.numpy() for part in batch) for batch in pipeline.take(steps)]


def assert_same(batches_a, batches_b):
    assert len(batches_a) == len(batches_b)
    for batch_a, batch_b in zip(batches_a, batches_b, strict=True):
        for part_a, part_b in zip(batch_a, batch_b, strict=True):
            np.testing.assert_array_equal(part_a, part_b, strict=True)


def linear_model():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1e-3), loss="mse")
    return model


def fit(model, train, **options):
    # Keras warns that its own shuffle, on by default, does not apply to a dataset.
    options = {"steps_per_epoch": train.steps_per_epoch, "shuffle": False, "verbose": 0} | options
    return model.fit(train, **options)


@pytest.fixture(params=["arrays", "stream"])
def source(request, numbered):
    return numbered if request.param == "arrays" else stream(numbered)


@pytest.fixture
def train(source):
    return pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=3, map=augment)


class TestShapeAndSize:
    def test_it_is_an_endless_dataset_of_static_shape(self, train):
        assert isinstance(train, tf.data.Dataset)
        assert train.cardinality() == tf.data.INFINITE_CARDINALITY
        x, y = train.element_spec
        assert x.shape == (BATCH_SIZE, 2)
        assert y.shape == (BATCH_SIZE,)

    def test_it_knows_its_numbers(self, train):
        assert train.steps_per_epoch == 2
        assert train.batch_size == BATCH_SIZE
        assert train.num_examples == NUM_EXAMPLES
        assert train.seed == 3
        assert train.start_step.numpy() == 0

    def test_its_methods_return_plain_datasets(self, train):
        assert not isinstance(train.take(1), pipelines.TrainingPipeline)


class TestOrder:
    def test_an_epoch_has_each_example_at_most_once(self, source):
        train = pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=0)
        labels = np.concatenate([y for _, y in batches(train, 20)]).reshape(10, -1)
        for epoch in labels:
            assert len(set(epoch)) == len(epoch) == 8
        assert set(labels.ravel()) == set(range(NUM_EXAMPLES))
        assert len({tuple(epoch) for epoch in labels}) > 1

    def test_without_shuffle_the_order_is_kept(self, source):
        train = pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=0, shuffle=False)
        labels = np.concatenate([y for _, y in batches(train, 4)])
        np.testing.assert_array_equal(labels, [*range(8), *range(8)])

    def test_components_stay_together(self, source):
        train = pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=0)
        for x, y in batches(train, 6):
            np.testing.assert_array_equal(x, np.stack([y, y], axis=1))

    @pytest.mark.parametrize("seeds", [(0, 1), (0, 256), (0, 2**32), (0, 2**63 - 1)])
    def test_seeds_differ(self, source, seeds):
        first, second = (
            np.concatenate(
                [
                    y
                    for _, y in batches(
                        pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=seed), 6
                    )
                ]
            )
            for seed in seeds
        )
        assert not np.array_equal(first, second)

    def test_the_global_seed_and_earlier_iterations_change_nothing(self, source):
        def build():
            return pipelines.training_pipeline(source, batch_size=BATCH_SIZE, seed=3, map=augment)

        expected = batches(build(), 5)
        tf.random.set_seed(1)
        other = build()
        assert_same(batches(other, 5), expected)
        tf.random.set_seed(2)
        assert_same(batches(other, 5), expected)

    def test_a_small_buffer_shuffles_a_stream_within_its_reach(self):
        number = np.arange(100)
        train = pipelines.training_pipeline(
            stream((number, number)), batch_size=10, seed=0, shuffle_buffer_size=5
        )
        labels = np.concatenate([y for _, y in batches(train, 10)])
        assert sorted(labels) == list(range(100))
        assert np.all(labels - np.arange(100) < 5)
        assert not np.array_equal(labels, np.arange(100))

    def test_a_set_of_one_example(self):
        train = pipelines.training_pipeline((np.ones((1, 2)), np.ones(1)), batch_size=1, seed=0)
        assert len(batches(train, 3)) == 3

    def test_two_processes_agree(self, numbered):
        # No TFDS is loaded on the way: arrays and datasets do not need it.
        script = """
import sys
import numpy as np, tensorflow as tf
import pipelines

def augment(x, y, *, seed):
    return x + tf.random.stateless_normal([2], seed), y

number = np.arange(10)
x = np.stack([number, number], axis=1).astype("float32")
train = pipelines.training_pipeline((x, number), batch_size=4, seed=3, map=augment)
assert "tensorflow_datasets" not in sys.modules
print(b"".join(x.numpy().tobytes() + y.numpy().tobytes() for x, y in train.take(5)).hex())
"""
        other = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        train = pipelines.training_pipeline(numbered, batch_size=4, seed=3, map=augment)
        own = b"".join(x.tobytes() + y.tobytes() for x, y in batches(train, 5))
        assert other.stdout.strip() == own.hex()

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep it otherwise")
    def test_the_memory_of_batches_is_used_again(self):
        # In a process of its own, as what other tests have freed counts too.
        script = """
import resource
import numpy as np, tensorflow as tf
import pipelines

def image(x):
    return tf.fill([224, 224, 3], tf.cast(x, tf.uint8))

train = pipelines.training_pipeline((np.zeros(256),), batch_size=64, seed=0, map=image)
batches = iter(train)
for _ in range(60):
    next(batches)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    next(batches)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 40)
"""
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        pages_of_a_batch = 64 * 224 * 224 * 3 / 4096
        assert float(done.stdout) < pages_of_a_batch / 10


class TestSeek:
    @pytest.mark.parametrize("step", [0, 1, 2, 5])
    def test_the_batches_from_a_step_on_are_those_of_the_whole_run(self, train, step):
        whole = batches(train, 8)
        assert_same(batches(train.starting_at(step), 8 - step), whole[step:])

    @settings(deadline=None, max_examples=8)
    @given(step=st.integers(0, 2**40))
    def test_a_far_step_of_arrays_is_reached_at_once(self, numbered, step):
        train = pipelines.training_pipeline(numbered, batch_size=4, seed=0)
        first, second = batches(train.starting_at(step), 2)
        assert_same([second], batches(train.starting_at(step + 1), 1))
        assert len(set(first[1])) == 4

    def test_assigning_start_step_seeks_the_next_iteration(self, train):
        whole = batches(train, 6)
        train.start_step.assign(3)
        assert_same(batches(train, 3), whole[3:])

    def test_an_assigned_step_must_not_be_negative(self, train):
        train.start_step.assign(-1)
        with pytest.raises(tf.errors.InvalidArgumentError, match="`start_step` must not be neg"):
            next(iter(train))

    @pytest.mark.parametrize("step", [-1, 1.5, True, "3"])
    def test_a_step_that_is_no_count_is_refused(self, train, step):
        with pytest.raises(ValueError, match="`step` must be an integer of at least 0"):
            train.starting_at(step)


class TestMap:
    def test_it_sees_examples_and_their_order_stays(self, source):
        plain = pipelines.training_pipeline(source, batch_size=4, seed=0)
        mapped = pipelines.training_pipeline(
            source, batch_size=4, seed=0, map=lambda x, y: (2 * x, y + 1)
        )
        expected = [(2 * x, y + 1) for x, y in batches(plain, 4)]
        assert_same(batches(mapped, 4), expected)

    def test_a_seed_is_a_function_of_seed_epoch_and_example(self, source):
        def seeds_of(x, y, *, seed):
            return seed, y

        train = pipelines.training_pipeline(source, batch_size=5, seed=9, map=seeds_of)
        for step, (seeds, indices) in enumerate(batches(train, 4)):
            for seed, index in zip(seeds, indices, strict=True):
                key = tf.constant([9, step // 2], tf.int64)
                np.testing.assert_array_equal(seed, tf.random.fold_in(key, index))

    def test_an_optional_seed_is_given_in_training(self, numbered):
        def maybe(x, y, seed=None):
            return (x if seed is None else x + 100), y

        train = pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=maybe)
        valid = pipelines.evaluation_pipeline(numbered, batch_size=4, map=maybe)
        assert np.all(batches(train, 1)[0][0] >= 100)
        assert np.all(batches(valid, 1)[0][0] < 100)

    def test_a_seed_bound_by_partial_is_kept(self, numbered):
        bound = functools.partial(lambda x, y, seed: (x + seed, y), seed=100.0)
        train = pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=bound)
        valid = pipelines.evaluation_pipeline(numbered, batch_size=4, map=bound)
        for pipeline in (train, valid):
            x, y = batches(pipeline, 1)[0][:2]
            np.testing.assert_array_equal(x[:, 0], y + 100)

    def test_a_dictionary_is_one_argument(self, numbered):
        x, y = numbered
        train = pipelines.training_pipeline(
            {"features": x, "label": y, "unused": x},
            batch_size=4,
            seed=0,
            keep=["features", "label"],
            map=lambda example: (example["features"], example["label"]),
        )
        expected = pipelines.training_pipeline(numbered, batch_size=4, seed=0)
        assert_same(batches(train, 3), batches(expected, 3))

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda x: x, "`map` '<lambda>' failed on an example of the form"),
            (lambda x, y: None, "`map` must return the new example"),
            (lambda x, y: (tf.image.random_flip_left_right(x[:, None, None]), y), "RandomUniform"),
            (lambda x, y: (x + tf.random.normal([2]), y), r"\['RandomStandardNormal'\]"),
            (
                lambda x, y: (tf.cond(y > 3, lambda: tf.random.uniform([2]), lambda: x), y),
                "RandomUniform",
            ),
            (lambda x, y: (tf.range(y), y), "same known shape"),
        ],
    )
    def test_a_map_that_cannot_work_is_refused(self, numbered, function, message):
        with pytest.raises(ValueError, match=message):
            pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=function)

    @pytest.mark.tensorflow
    def test_a_random_keras_layer_is_refused(self, numbered):
        noise = keras.layers.GaussianNoise(1.0, seed=0)
        with pytest.raises(ValueError, match=r"stateful operations \['Assign.*VariableOp'\]"):
            pipelines.training_pipeline(
                numbered, batch_size=4, seed=0, map=lambda x, y: (noise(x, training=True), y)
            )

    def test_a_map_that_is_no_function_is_refused(self, numbered):
        with pytest.raises(TypeError, match="`map` must be a function of one example"):
            pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=3)


class TestSources:
    def test_nested_arrays_and_sample_weights(self, numbered):
        x, y = numbered
        train = pipelines.training_pipeline(
            ({"a": x, "b": x}, y, np.ones(10)), batch_size=4, seed=0
        )
        inputs, labels, weights = next(iter(train))
        assert set(inputs) == {"a", "b"}
        np.testing.assert_array_equal(inputs["a"][:, 0], labels)
        assert weights.shape == (4,)

    def test_keep_selects_from_a_stream_of_dictionaries(self, numbered):
        x, y = numbered
        train = pipelines.training_pipeline(
            stream({"x": x, "y": y}), batch_size=4, seed=0, keep=["y"]
        )
        assert set(train.element_spec) == {"y"}

    def test_a_function_that_returns_a_dataset(self, numbered):
        made = pipelines.training_pipeline(lambda: stream(numbered), batch_size=4, seed=0)
        given = pipelines.training_pipeline(stream(numbered), batch_size=4, seed=0)
        assert_same(batches(made, 3), batches(given, 3))

    def test_later_changes_of_an_array_do_not_reach_the_pipeline(self):
        x = np.zeros((4, 2))
        train = pipelines.training_pipeline((x, np.zeros(4)), batch_size=4, seed=0)
        x += 1
        assert np.all(batches(train, 1)[0][0] == 0)

    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ((np.ones((3, 2)), np.ones(4)), {}, r"same leading dimension.*\(3, 2\).*\(4,\)"),
            ((np.ones((0, 2)), np.ones(0)), {}, "`source` is empty"),
            ((np.ones((3, 2)), np.ones((3, 0))), {}, r"shape \(3, 0\), whose examples have no"),
            ((), {}, "at least one array"),
            (lambda: (np.ones(3),), {}, "function, which returned a tuple"),
            ((np.ones((3, 2)), np.ones(3)), {"batch_size": 4}, "at most the number of examples, 3"),
            (
                (np.ones((3, 2)), [1, 2, 3]),
                {},
                "must be an array whose first dimension.*np.asarray",
            ),
            ((np.ones((3, 2)), np.array([{}] * 3)), {}, "dtype object.*cannot become a tensor"),
            (
                (np.array([np.ones(2), np.ones(3)], dtype=object), np.ones(2)),
                {},
                r"different shapes, such as \(2,\) and \(3,\).*pad or resize",
            ),
            (
                (np.ma.masked_array(np.ones(3), mask=[0, 1, 0]), np.ones(3)),
                {},
                r"masks 1 values.*`array.filled",
            ),
            ((tf.ragged.constant([[1], [2, 3]]),), {}, r"a RaggedTensor.*`to_tensor\(\)`"),
            ({"x": np.ones(3), 1: np.ones(3)}, {}, "names of different types"),
            ("data/*.tfrecord", {}, "looks like a path: pass `TFRecordFiles`"),
            (np.ones((3, 2)), {}, "`source` must be a tuple of arrays.*ndarray"),
            ([np.ones(3), np.ones(3)], {}, "`source` must be a tuple of arrays.*list"),
            ({"x": np.ones(3)}, {"keep": ["image"]}, r"\['image'\]. It has \['x'\]"),
            ({"x": np.ones(3)}, {"keep": "x"}, "`keep` must be a sequence"),
            ((np.ones(3),), {"keep": ["x"]}, "have no names"),
            ((np.ones(3),), {"split": "train"}, "`split` chooses from a TFDS data set.*tuple"),
            (tf.data.Dataset.range(3).repeat(), {}, r"must be finite.*`repeat\(\)`"),
            (tf.data.Dataset.range(3).filter(lambda _: True), {}, "assert_cardinality"),
            (tf.data.Dataset.range(0), {}, "`source` is empty"),
            (tf.data.Dataset.range(9).batch(2), {}, "single examples rather than batches"),
        ],
    )
    def test_a_source_that_cannot_work_is_refused(self, source, options, message):
        arguments = {"batch_size": 1, "seed": 0} | options
        with pytest.raises(ValueError, match=message):
            pipelines.training_pipeline(source, **arguments)

    @pytest.mark.parametrize("name", ["batch_size", "shuffle_buffer_size"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, True, None])
    def test_counts_are_checked(self, numbered, name, value):
        arguments = {"batch_size": 1, "seed": 0} | {name: value}
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
            pipelines.training_pipeline(numbered, **arguments)

    @pytest.mark.parametrize("name", ["shuffle", "deterministic"])
    @pytest.mark.parametrize("value", ["no", 0, None])
    def test_switches_are_bools(self, numbered, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
            pipelines.training_pipeline(numbered, batch_size=1, seed=0, **{name: value})

    @pytest.mark.parametrize("seed", [-1, 0.5, True, None, 2**63])
    def test_a_seed_that_is_none_is_refused(self, numbered, seed):
        with pytest.raises(ValueError, match="`seed` must be an integer of at least 0 and at most"):
            pipelines.training_pipeline(numbered, batch_size=1, seed=seed)

    def test_a_stated_length_that_is_wrong_fails_when_it_is_read(self):
        assert_length = tf.data.experimental.assert_cardinality(9)
        source = tf.data.Dataset.range(5).map(lambda i: (i, i)).apply(assert_length)
        train = pipelines.training_pipeline(source, batch_size=3, seed=0)
        with pytest.raises(tf.errors.FailedPreconditionError, match="contain 9 elements"):
            batches(train, 3)


class TestFit:
    def test_fit_learns_from_it_and_reports_its_epochs(self, source):
        train = pipelines.training_pipeline(source, batch_size=5, seed=0)
        valid = pipelines.evaluation_pipeline(source, batch_size=4)
        model = linear_model()
        model.compile(keras.optimizers.Adam(0.1), loss="mse")
        history = fit(model, train, validation_data=valid, epochs=20)
        assert model.optimizer.iterations == 40
        assert history.history["val_loss"][-1] < 0.01 * np.mean(np.square(np.arange(10)))

    def test_stopped_and_resumed_equals_uninterrupted(self, numbered):
        train = pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=augment)
        whole, parts = linear_model(), linear_model()
        fit(whole, train, epochs=3)
        fit(parts, train, epochs=1)
        fit(parts, train.starting_at(2), epochs=2)
        assert_same([parts.get_weights()], [whole.get_weights()])

    def test_a_callback_seeks_before_the_first_batch(self, numbered):
        class Seek(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                train.start_step.assign(5)

        train = pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=augment)
        expected, sought = linear_model(), linear_model()
        fit(expected, train.starting_at(5), epochs=2)
        fit(sought, train, epochs=2, callbacks=[Seek()])
        assert_same([sought.get_weights()], [expected.get_weights()])

    @pytest.mark.tensorflow
    def test_replicas_share_the_batch_in_order(self, numbered):
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            train = pipelines.training_pipeline(numbered, batch_size=4, seed=0)
        train.start_step.assign(3)
        _, labels = next(iter(strategy.experimental_distribute_dataset(train)))
        shared = np.concatenate(strategy.experimental_local_results(labels))
        np.testing.assert_array_equal(shared, batches(train, 1)[0][1])
