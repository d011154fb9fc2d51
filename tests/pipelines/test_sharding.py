"""Hosts read disjoint shares in equal steps, whatever the files and batch sizes."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelines
from pipelines._host import share
from pipelines._record_index import Run
from pipelines._records import RecordStream, _assign


def labels(pipeline, steps):
    return np.concatenate([batch[1].numpy() for batch in pipeline.take(steps)])


def shares(source, count, **options):
    options = {"batch_size": 2, "seed": 0, "cache_bytes": 0} | options
    return [
        pipelines.training_pipeline(source, host=pipelines.Host(index, count), **options)
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def record_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    number = 0
    for place, length in enumerate([6, 6, 5, 7]):
        with tf.io.TFRecordWriter(str(folder / f"{place}.tfrecord")) as writer:
            for _ in range(length):
                writer.write(b"%d" % number)
                number += 1
    return pipelines.TFRecordFiles(str(folder / "*.tfrecord"))


def to_pair(record):
    number = tf.strings.to_number(record, tf.int64)
    return tf.cast(number, tf.float32), number


class TestRecordPlan:
    """The division of records among hosts, without a file."""

    lengths = st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(lambda run: sum(run) > 0)

    @settings(deadline=None, max_examples=200)
    @given(lengths=lengths, count=st.integers(1, 7), batch_size=st.integers(1, 6))
    def test_each_record_is_read_by_one_host(self, lengths, count, batch_size):
        stream = RecordStream(
            tuple(Run(str(place), 0, 0, length) for place, length in enumerate(lengths)),
            parse=lambda record: record,
        )
        read = []
        for runs in stream._shares(count, batch_size):
            for run, first in runs:
                assert run.skip + run.take <= lengths[int(run.path)]
                offset = sum(lengths[: int(run.path)]) + run.skip
                assert offset == first
                read += range(first, first + run.take)
        assert sorted(read) == list(range(sum(lengths)))

    @settings(deadline=None, max_examples=200)
    @given(lengths=lengths, count=st.integers(1, 7), batch_size=st.integers(1, 6))
    def test_no_step_is_lost_to_the_files(self, lengths, count, batch_size):
        runs = tuple(Run(str(place), 0, 0, length) for place, length in enumerate(lengths))
        stream = RecordStream(runs, parse=lambda record: record)
        steps = [length // batch_size for length in stream.shard_lengths(count, batch_size)]
        assert min(steps) == sum(lengths) // count // batch_size

    def test_equal_files_go_to_hosts_whole_and_others_do_not(self):
        runs = tuple(Run(str(place), 0, 0, 100) for place in range(16))
        stream = RecordStream(runs, parse=lambda record: record)
        assert all(run.take == 100 for runs in stream._shares(4, 10) for run, _ in runs)
        # By file, 16 files over 5 hosts would make 400 and 300 records: 30 steps instead of 32.
        assert stream.shard_lengths(5, 10) == [320] * 5
        assert stream.shard_lengths(32, 10) == [50] * 32

    def test_long_files_are_given_out_first(self):
        runs = [Run("", 0, 0, take) for take in (1, 5, 3, 3, 2)]
        assert _assign(runs, 2) == [1, 0, 1, 1, 0]


@settings(deadline=None, max_examples=100)
@given(num_examples=st.integers(0, 50), count=st.integers(1, 8))
def test_shares_are_even_to_one_example(num_examples, count):
    ranges = [share(num_examples, pipelines.Host(index, count)) for index in range(count)]
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(num_examples))
    sizes = [stop - start for start, stop in ranges]
    assert max(sizes) - min(sizes) <= 1


class TestTraining:
    def test_the_hosts_of_a_step_make_the_batch_of_one_host(self, numbered):
        alone = pipelines.training_pipeline(numbered, batch_size=6, seed=0)
        parts = shares(numbered, 3)
        assert {part.steps_per_epoch for part in parts} == {alone.steps_per_epoch} == {1}
        for step in (0, 2):
            together = [labels(part.starting_at(step), 1) for part in parts]
            np.testing.assert_array_equal(
                np.concatenate(together), labels(alone.starting_at(step), 1)
            )

    @pytest.mark.parametrize("kind", ["arrays", "dataset", "records"])
    @pytest.mark.parametrize(("count", "batch_size"), [(2, 3), (3, 4), (4, 6), (5, 1)])
    def test_no_example_twice_and_as_few_dropped_as_can_be(
        self, record_files, kind, count, batch_size
    ):
        number = np.arange(24)
        source, options = {
            "arrays": ((number, number), {}),
            "dataset": (tf.data.Dataset.from_tensor_slices((number, number)), {}),
            "records": (record_files, {"map": to_pair}),
        }[kind]
        parts = shares(source, count, batch_size=batch_size, **options)
        steps = 24 // count // batch_size
        assert {part.steps_per_epoch for part in parts} == {steps}
        read = np.concatenate([labels(part, steps) for part in parts])
        assert len(set(read)) == len(read) == count * batch_size * steps
        assert set(read) <= set(range(24))

    def test_a_share_is_sought_like_a_whole(self, record_files):
        for part in shares(record_files, 2, map=to_pair):
            whole = labels(part, 9)
            np.testing.assert_array_equal(labels(part.starting_at(7), 2), whole[14:])

    def test_hosts_shuffle_streams_differently(self):
        number = np.arange(200)
        source = tf.data.Dataset.from_tensor_slices((number, number))
        first, second = (labels(part, 50) for part in shares(source, 2))
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.4

    def test_examples_keep_their_seeds(self, numbered):
        def noisy(x, y, *, seed):
            return tf.random.stateless_uniform([], seed), y

        def noise(pipeline, steps):
            return {
                int(y): float(x)
                for xs, ys in pipeline.take(steps)
                for x, y in zip(xs, ys, strict=True)
            }

        alone = pipelines.training_pipeline(numbered, batch_size=4, seed=0, map=noisy)
        expected = noise(alone, 2)
        for part in shares(numbered, 2, map=noisy):
            own = noise(part, 2)
            assert own == {number: expected[number] for number in own}

    def test_describe_names_the_level(self, record_files, numbered):
        whole, parts = (
            pipelines.describe(shares(record_files, count, map=to_pair)[0]) for count in (2, 5)
        )
        assert "by file: 12 records in 2 files, host 0 of 2" in whole
        assert "below file level: 4 records in 1 files, host 0 of 5" in parts
        assert "one batch of 2 in 2 of the order, from batch 0 on" in pipelines.describe(
            shares(numbered, 2)[0]
        )

    def test_auto_sharding_is_off_once_sharded(self, numbered):
        off = tf.data.experimental.AutoShardPolicy.OFF
        for pipeline in (
            shares(numbered, 2)[0],
            pipelines.evaluation_pipeline(numbered, batch_size=2, host=pipelines.Host(0, 2)),
        ):
            assert pipeline.options().experimental_distribute.auto_shard_policy == off
        alone = pipelines.training_pipeline(numbered, batch_size=2, seed=0)
        assert alone.options().experimental_distribute.auto_shard_policy != off

    @pytest.mark.tensorflow
    def test_the_input_context_of_a_strategy(self, numbered):
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        hosts = []

        def build(context):
            hosts.append(pipelines.Host.from_input_context(context))
            return pipelines.training_pipeline(
                numbered,
                batch_size=context.get_per_replica_batch_size(4),
                seed=0,
                host=hosts[-1],
            )

        _, replicas = next(iter(strategy.distribute_datasets_from_function(build)))
        assert hosts == [pipelines.Host(0, 1)]
        read = np.concatenate(strategy.experimental_local_results(replicas))
        expected = pipelines.training_pipeline(numbered, batch_size=2, seed=0)
        np.testing.assert_array_equal(read, labels(expected, 2))

    @pytest.mark.parametrize(
        ("index", "count", "message"),
        [
            (0, 0, "`count` must be an integer of at least 1"),
            (2, 2, "`index` must be an integer of at least 0 and at most 1. Received: 2"),
            (-1, 2, "`index` must be an integer"),
            (0, 1.5, "`count` must be an integer"),
        ],
    )
    def test_hosts_outside_are_refused(self, index, count, message):
        with pytest.raises(ValueError, match=message):
            pipelines.Host(index, count)

    def test_what_is_no_host_is_refused(self, numbered):
        with pytest.raises(TypeError, match=r"`context` must be a tf.distribute.InputContext"):
            pipelines.Host.from_input_context(3)
        with pytest.raises(TypeError, match=r"`host` must be a `pipelines.Host\(index, count\)`"):
            pipelines.training_pipeline(numbered, batch_size=2, seed=0, host=(0, 2))

    def test_too_few_examples_are_refused_with_the_arithmetic(self, numbered):
        with pytest.raises(ValueError, match=r"Received: 4 \* 3 = 12, above 10\. .* to 3 or fewer"):
            shares(numbered, 3, batch_size=4)


class TestEvaluation:
    @pytest.mark.parametrize(
        ("num_examples", "count", "batch_size"), [(9, 2, 4), (10, 3, 2), (7, 7, 3)]
    )
    def test_shares_make_the_whole_in_equal_steps(self, num_examples, count, batch_size):
        values = np.random.default_rng(0).normal(size=num_examples)
        parts = [
            pipelines.evaluation_pipeline(
                (values, np.arange(num_examples)),
                batch_size=batch_size,
                host=pipelines.Host(index, count),
            )
            for index in range(count)
        ]
        steps = math.ceil(math.ceil(num_examples / count) / batch_size)
        read, total = [], 0.0
        for part in parts:
            batches = list(part)
            assert len(batches) == part.steps == steps
            for x, y, weight in batches:
                assert x.shape == (batch_size,)
                read += list(y.numpy()[weight.numpy() > 0])
                total += float(np.sum(x.numpy() * weight.numpy()))
        assert read == list(range(num_examples))
        # Keras' loss on a host is the mean over its rows; here, over all hosts' rows.
        assert total / (steps * batch_size * count) == pytest.approx(values.mean(), rel=1e-5)

    def test_a_host_without_an_example_is_refused(self, numbered):
        with pytest.raises(ValueError, match="10 examples for 11 hosts"):
            pipelines.evaluation_pipeline(numbered, batch_size=2, host=pipelines.Host(0, 11))
