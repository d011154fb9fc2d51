"""What is read from datasets by private attributes, and stages that are made again."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import pipelines
from pipelines._measurement import make_dataset
from pipelines._stage_chain import CallSites, links, make_again, map_again, rebuild


def double(x):
    return 2 * x


def examples():
    numbers = tf.data.Dataset.range(24)
    numbers = numbers.shuffle(8, seed=3)
    numbers = numbers.interleave(
        lambda x: tf.data.Dataset.from_tensors(x).repeat(2), cycle_length=2
    )
    numbers = numbers.map(double, num_parallel_calls=2, deterministic=True)
    numbers = numbers.filter(lambda x: x > 3).flat_map(tf.data.Dataset.from_tensors)
    numbers = numbers.cache().repeat(2).skip(1).take(60).shard(2, 1)
    numbers = numbers.apply(tf.data.experimental.assert_cardinality(30)).batch(
        4, drop_remainder=True
    )
    return numbers.prefetch(3)


def line_of(function, text):
    import inspect

    lines, first = inspect.getsourcelines(function)
    return f"test_stage_chain.py:{first + next(i for i, each in enumerate(lines) if text in each)}"


def test_every_stage_has_its_kind_and_the_line_that_made_it():
    found = links(*make_dataset(examples))
    assert [link.kind for link in found] == [
        *("Prefetch", "Batch", "AssertCardinality", "Shard", "Take", "Skip", "Repeat", "Cache"),
        *("FlatMap", "Filter", "Map", "Interleave", "Shuffle", "Range"),
    ], "TensorFlow has renamed its datasets: see pipelines/_stage_chain.py"
    lines = {link.kind: link.source for link in found}
    assert lines["Shuffle"] == line_of(examples, ".shuffle(8")
    assert lines["Map"] == line_of(examples, ".map(double")
    assert lines["Prefetch"] == line_of(examples, ".prefetch(3)")


def test_a_dataset_shows_the_lines_of_its_functions():
    found = {link.kind: link for link in links(*make_dataset(examples()))}
    assert found["Map"].label == "map double"
    assert found["Map"].source == line_of(double, "def double")
    assert found["Shuffle"].source is None


def test_the_functions_of_partial_objects_and_methods_are_named():
    class Scale:
        def apply(self, x):
            return 3 * x

    def add(x, more):
        return x + more

    numbers = tf.data.Dataset.range(3).map(functools.partial(add, more=1)).map(Scale().apply)
    assert [link.label for link in links(numbers, CallSites())] == ["map apply", "map add", "range"]


def test_a_finished_pipeline_shows_what_it_is_made_of():
    train = pipelines.training_pipeline((np.zeros((8, 2)), np.zeros(8)), batch_size=2, seed=0)
    kinds = [link.kind for link in links(train, CallSites())]
    assert kinds[0] == "Prefetch"
    assert "Pipeline" not in "".join(kinds)


@pytest.mark.parametrize("training", [True, False])
def test_a_finished_pipeline_shows_the_users_function_and_its_line(training):
    def halve(x, y):
        return x / 2, y

    arrays = np.zeros((8, 2)), np.zeros(8)
    if training:
        made = pipelines.training_pipeline(arrays, batch_size=2, seed=0, map=halve)
    else:
        made = pipelines.evaluation_pipeline(arrays, batch_size=2, map=halve)
    found = {link.label: link.source for link in links(made, CallSites())}
    line = halve.__code__.co_firstlineno
    assert found["map halve"] == f"test_stage_chain.py:{line}"


def test_what_unbatch_puts_before_itself_is_shown_as_unbatch():
    numbers = tf.data.Dataset.range(4).batch(2).unbatch()
    labels = [link.label for link in links(numbers, CallSites())]
    assert labels == ["unbatch", "unbatch", "batch", "range"]


@pytest.mark.parametrize("kind", ["Map", "Interleave", "Shuffle"])
def test_stages_made_again_give_the_same_elements(kind):
    expected = [batch.tolist() for batch in examples().as_numpy_iterator()]
    dataset, sites = make_dataset(examples)
    changed = next(link.dataset for link in links(dataset, sites) if link.kind == kind)
    again = rebuild(dataset, changed, make_again, sites)
    assert again is not dataset
    assert [batch.tolist() for batch in again.as_numpy_iterator()] == expected
    assert [link.source for link in links(again, sites)] == [
        link.source for link in links(dataset, sites)
    ]


def test_options_stay():
    options = tf.data.Options()
    options.threading.private_threadpool_size = 3
    dataset = tf.data.Dataset.range(4).map(double).with_options(options).batch(2)
    changed = links(dataset, CallSites())[1].dataset
    again = rebuild(dataset, changed, lambda stage, given: map_again(stage, given, 2), CallSites())
    assert again.options().threading.private_threadpool_size == 3
    assert links(again, CallSites())[1].is_parallel


def test_what_cannot_be_made_again_is_said():
    windows = tf.data.Dataset.range(8).map(double).window(2)
    changed = links(windows, CallSites())[1].dataset
    with pytest.raises(ValueError, match="kind 'Window' cannot be made again"):
        rebuild(windows, changed, make_again, CallSites())
    zipped = tf.data.Dataset.zip(tf.data.Dataset.range(8).map(double), tf.data.Dataset.range(8))
    changed = links(zipped, CallSites())[1].dataset
    with pytest.raises(ValueError, match="before one that joins 2 datasets"):
        rebuild(zipped, changed, make_again, CallSites())


def test_another_profile_function_is_put_back():
    import sys

    def note(frame, event, argument):
        return None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        with CallSites():
            assert sys.getprofile() is not note
        assert sys.getprofile() is note
    finally:
        sys.setprofile(before)
