"""Each known mistake is found where it is, and its correction is not."""

import numpy as np
import pytest
import tensorflow as tf

import pipelines


@pytest.fixture(autouse=True)
def _no_global_seed():
    """With one, as an earlier test may have set it, a shuffle is not unseeded."""
    tf.random.set_seed(None)


def numbers(count=8):
    return tf.data.Dataset.range(count)


def options(**values):
    made = tf.data.Options()
    for name, value in values.items():
        setattr(made.experimental_optimization, name, value)
    return made


def noise(x):
    return tf.random.uniform([])


def drawn(x):
    return tf.random.stateless_uniform([], seed=[1, 2])


def python(x):
    return tf.py_function(lambda x: x, [x], tf.int64)


def images(x):
    return tf.zeros((4, 4, 3), tf.uint8)


def scale(x):
    return tf.cast(x, tf.float32) / 255.0


def label(x):
    return tf.cast(x, tf.uint8)


def weigh(x):
    return x, tf.ones(tf.shape(x))


def files():
    return tf.data.Dataset.from_tensor_slices(["a", "b", "c", "d"])


def read(name):
    return tf.data.Dataset.from_tensors(name)


TABLE = [
    (lambda: numbers().map(noise), "serial map"),
    (lambda: numbers().map(python), "serial map"),
    (lambda: numbers().map(drawn), None),
    (lambda: numbers().map(noise, num_parallel_calls=2), None),
    (lambda: numbers().shuffle(4, seed=1).shard(2, 0), "shuffle before shard"),
    (lambda: numbers().shard(2, 0).shuffle(4, seed=1), None),
    (lambda: numbers().map(drawn).cache(), "cache after random augmentation"),
    (lambda: numbers().cache().map(drawn), None),
    (lambda: numbers().map(images).batch(2).map(scale), "normalised on the host"),
    (lambda: numbers().map(images).batch(2), None),
    (lambda: numbers().skip(1).with_options(options(inject_prefetch=False)), "no prefetch"),
    (
        lambda: numbers().skip(1).with_options(options(apply_default_optimizations=False)),
        "no prefetch",
    ),
    (lambda: numbers().prefetch(1).with_options(options(inject_prefetch=False)), None),
    (lambda: numbers().shuffle(4), "unseeded shuffle"),
    (lambda: numbers().shuffle(4, seed=0), None),
    (lambda: numbers(9).shard(2, 0), "unequal shards"),
    (lambda: numbers(9).repeat().shard(2, 0), None),
    (lambda: numbers().cache("somewhere/cache"), "file cache without a key"),
    (lambda: numbers().cache("somewhere/0123456789abcdef"), None),
    (lambda: numbers().cache(), None),
    (
        lambda: (
            tf.data.Dataset.from_tensors(tf.zeros((1000, 1000))).repeat().shuffle(10**9, seed=1)
        ),
        "shuffle buffer larger than memory",
    ),
    (lambda: tf.data.Dataset.from_tensors(tf.zeros((1000, 1000))).shuffle(10**9, seed=1), None),
    (
        lambda: (
            tf.data.Dataset.from_tensors(tf.zeros((1000, 1000)))
            .repeat()
            .batch(2**10)
            .shuffle(10**6, seed=1)
        ),
        "shuffle buffer larger than memory",
    ),
    # What is joined has no part in what came before in the other.
    (
        lambda: tf.data.Dataset.zip(
            (numbers().cache(), numbers().map(drawn, num_parallel_calls=4))
        ),
        None,
    ),
    (
        lambda: tf.data.Dataset.zip(
            (numbers().shuffle(4, seed=1).take(4), numbers().shard(2, 0)),
        ),
        None,
    ),
    (
        lambda: tf.data.Dataset.zip((numbers(), numbers().map(drawn))).cache(),
        "cache after random augmentation",
    ),
    # Names and indices, all hosts in one order.
    (lambda: files().shuffle(4, seed=0).shard(2, 0).interleave(read), None),
    (lambda: numbers().shuffle(4, seed=0).shard(2, 0).map(scale), None),
    (
        lambda: files().interleave(read).shuffle(4, seed=0).shard(2, 0).map(scale),
        "shuffle before shard",
    ),
    # Single examples, and labels, are no batch of images.
    (lambda: numbers().map(images).batch(2).unbatch().map(scale), None),
    (lambda: numbers().map(label).batch(2).map(scale), None),
    (lambda: numbers().map(images).batch(2).map(weigh), None),
    (
        lambda: numbers().map(images).batch(2).unbatch().batch(2).map(scale),
        "normalised on the host",
    ),
    (lambda: numbers().prefetch(2).repeat().with_options(options(inject_prefetch=False)), None),
    (lambda: numbers().prefetch(2).enumerate().with_options(options(inject_prefetch=False)), None),
    (
        lambda: numbers().prefetch(2).batch(2).with_options(options(inject_prefetch=False)),
        "no prefetch",
    ),
    # Equal steps in the end.
    (lambda: numbers(101).shard(2, 0).batch(10, drop_remainder=True).take(5), None),
    (lambda: numbers(101).shard(2, 0).batch(10, drop_remainder=True), None),
    (lambda: numbers(101).shard(2, 0).batch(10), "unequal shards"),
    (lambda: numbers(101).shard(2, 0).filter(lambda x: x > 3), "unequal shards"),
    (lambda: numbers(101).shard(2, 0).filter(lambda x: x > 3).repeat().take(5), None),
    (lambda: numbers(101).shard(2, 0).skip(1).enumerate(), "unequal shards"),
    (lambda: numbers(101).shard(2, 0).enumerate().take(50), None),
    (
        lambda: tf.data.Dataset.zip((numbers(101).shard(2, 0), numbers(101).shard(2, 0))).take(50),
        None,
    ),
    (lambda: numbers().cache("data/20240101/train_cache"), "file cache without a key"),
    (lambda: numbers().cache("0123456789abcdef/train_cache"), "file cache without a key"),
    (lambda: numbers().cache("train_20240101"), "file cache without a key"),
    (lambda: numbers().cache("data/train-0123456789abcdef"), None),
]


@pytest.mark.parametrize(("factory", "rule"), TABLE)
def test_a_mistake_is_found_with_its_line(factory, rule):
    found = pipelines.lint(factory)
    assert [finding.rule for finding in found] == ([] if rule is None else [rule])
    for finding in found:
        name, line = finding.source.split(":")
        assert name == "test_lint.py"
        code = factory.__code__
        assert code.co_firstlineno <= int(line) <= max(x[2] or 0 for x in code.co_lines())
        assert str(finding).startswith(f"{finding.source}: {finding.stage}: {rule}: ")


def test_findings_come_in_the_order_of_the_stages():
    found = pipelines.lint(lambda: numbers(9).shuffle(3).shard(2, 0).map(noise))
    assert [finding.rule for finding in found] == [
        "unseeded shuffle",
        "shuffle before shard",
        "unequal shards",
        "serial map",
    ]
    assert "come twice" in found[1].message


def test_unequal_steps_are_counted():
    (found,) = pipelines.lint(lambda: numbers(101).shard(2, 0).batch(10))
    assert "101 elements over 2 hosts leave some with one more, 6 steps against 5" in found.message


def test_our_own_pipelines_have_none():
    arrays = np.zeros((10, 2), "float32"), np.zeros(10)
    assert pipelines.lint(pipelines.training_pipeline(arrays, batch_size=2, seed=0)) == ()
    assert pipelines.lint(pipelines.evaluation_pipeline(arrays, batch_size=2)) == ()
    pictures = np.zeros((10, 4, 4, 3), "uint8"), np.zeros((10, 3), "uint8")
    prepare = {"batch_size": 4, "map": lambda x, y: (tf.cast(x, tf.float32) / 255.0, y)}
    assert pipelines.lint(pipelines.evaluation_pipeline(pictures, **prepare)) == ()
    assert pipelines.lint(pipelines.evaluation_pipeline(pictures, batch_size=4)) == ()
    assert pipelines.lint(pipelines.training_pipeline(pictures, seed=0, **prepare)) == ()


def test_nothing_is_run():
    def fail(x):
        tf.debugging.assert_equal(x, tf.constant(-1, tf.int64))
        return x

    assert pipelines.lint(lambda: numbers().map(fail)) == ()


@pytest.mark.parametrize("wrong", [3, lambda: 3])
def test_only_datasets(wrong):
    with pytest.raises(TypeError, match=r"must be a `tf\.data\.Dataset` or a function"):
        pipelines.lint(wrong)
