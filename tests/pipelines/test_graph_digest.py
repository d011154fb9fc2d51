"""The digest of a dataset: the same for the same computation, another for any other."""

import tensorflow as tf

from pipelines._graph_digest import GraphDigest


def branching(factor=2, below=3):
    def read(number):
        inner = tf.data.Dataset.range(number).map(lambda i: (i, tf.strings.as_string(i)))
        return inner.filter(lambda i, _: i < below)

    def change(number, text):
        larger = tf.cond(number > 1, lambda: number * factor, lambda: number)
        tf.debugging.assert_less(larger, tf.constant(100, tf.int64))
        return larger, text

    return tf.data.Dataset.range(4).interleave(read).map(change).batch(2)


def test_it_does_not_depend_on_names_and_counters():
    assert len({GraphDigest(branching()).hexdigest() for _ in range(20)}) == 1


def test_it_sees_constants_branches_assertions_and_order():
    def checked(limit):
        def change(number):
            tf.debugging.assert_less(number, tf.constant(limit, tf.int64))
            return number

        return tf.data.Dataset.range(4).map(change)

    numbers = tf.data.Dataset.range(4)
    datasets = [
        branching(),
        branching(factor=3),
        branching(below=2),
        branching().take(2),
        checked(9),
        checked(8),
        numbers.map(lambda i: (i, 2 * i)),
        numbers.map(lambda i: (2 * i, i)),
        numbers.map(lambda i: i - 1),
        numbers.map(lambda i: 1 - i),
        numbers.batch(2).map(lambda pair: tf.unstack(tf.ensure_shape(pair, [2]))[0]),
        numbers.batch(2).map(lambda pair: tf.unstack(tf.ensure_shape(pair, [2]))[1]),
    ]
    assert len({GraphDigest(dataset).hexdigest() for dataset in datasets}) == len(datasets)


def test_it_knows_the_operations_of_nested_functions():
    assert {"FilterDataset", "AsString"} <= GraphDigest(branching()).ops
