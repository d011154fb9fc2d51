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


def test_our_own_pipelines_have_none():
    arrays = np.zeros((10, 2), "float32"), np.zeros(10)
    assert pipelines.lint(pipelines.training_pipeline(arrays, batch_size=2, seed=0)) == ()
    assert pipelines.lint(pipelines.evaluation_pipeline(arrays, batch_size=2)) == ()


def test_nothing_is_run():
    def fail(x):
        tf.debugging.assert_equal(x, tf.constant(-1, tf.int64))
        return x

    assert pipelines.lint(lambda: numbers().map(fail)) == ()


@pytest.mark.parametrize("wrong", [3, lambda: 3])
def test_only_datasets(wrong):
    with pytest.raises(TypeError, match=r"must be a `tf\.data\.Dataset` or a function"):
        pipelines.lint(wrong)
