"""The order is a permutation per (seed, epoch), and a good one."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import _order

sizes = st.one_of(st.integers(1, 40), st.sampled_from([255, 256, 257, 1797, 4096]))
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 10_000)


def permutation(num_examples, *, seed, epoch):
    indices = tf.range(num_examples, dtype=tf.int64)
    epoch = tf.constant(epoch, tf.int64)
    return _order.permute(indices, seed=seed, epoch=epoch, num_examples=num_examples).numpy()


@tf.function
def first_indices(seed_epochs, count, num_examples):
    """The first `count` indices of the order of each (seed, epoch)."""

    def of_one(seed_epoch):
        return _order.permute(
            tf.range(count, dtype=tf.int64),
            seed=seed_epoch[0],
            epoch=seed_epoch[1],
            num_examples=num_examples,
        )

    return tf.map_fn(of_one, seed_epochs)


def correlation_in_sigmas(a, b):
    """Correlation over its standard deviation for independent orders, 1 / sqrt(n)."""
    return abs(np.corrcoef(a, b)[0, 1]) * np.sqrt(len(a))


@settings(deadline=None, max_examples=60)
@given(num_examples=sizes, seed=seeds, epoch=epochs)
def test_every_index_comes_once(num_examples, seed, epoch):
    order = permutation(num_examples, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(num_examples))


@pytest.mark.parametrize("num_examples", [2, 3, 4])
def test_all_permutations_of_a_small_set_are_about_equally_likely(num_examples):
    pairs = [(seed, epoch) for seed in range(20) for epoch in range(30)]
    orders = first_indices(tf.constant(pairs, tf.int64), num_examples, num_examples).numpy()
    _, counts = np.unique(orders, axis=0, return_counts=True)
    expected = len(orders) / len(counts)
    assert len(counts) == {2: 2, 3: 6, 4: 24}[num_examples]
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


# With the 24 key bits of a single pass, 3,000 orders would collide with a probability of 0.24.
def test_no_order_comes_twice():
    pairs = [(0, epoch) for epoch in range(1000)] + [(seed, 0) for seed in range(1, 2000)]
    orders = first_indices(tf.constant(pairs, tf.int64), 8, 40_000).numpy()
    assert len(np.unique(orders, axis=0)) == len(pairs)


@pytest.mark.parametrize("period", [1, 256, 2048, 2**32])
@pytest.mark.parametrize("num_examples", [1197, 1_281_167])
def test_orders_have_no_period(num_examples, period):
    pairs = tf.constant([(0, 0), (period, 0), (0, period)], tf.int64)
    orders = first_indices(pairs, 16, num_examples).numpy()
    assert len(np.unique(orders, axis=0)) == 3


@pytest.mark.parametrize("num_examples", [2**14, 40_000])
def test_positions_and_steps_between_neighbours_are_uniform(num_examples):
    """Chi-square over 16 equal cells, 15 degrees of freedom: above 45 with probability 1e-4."""
    pairs = [(seed, epoch) for seed in range(40) for epoch in range(100)]
    orders = first_indices(tf.constant(pairs, tf.int64), 3, num_examples).numpy()
    steps = np.diff(orders, axis=1) % num_examples
    for drawn in (*orders.T, *steps.T):
        counts = np.bincount(drawn * 16 // num_examples, minlength=16)
        assert np.sum((counts - len(pairs) / 16) ** 2) / (len(pairs) / 16) < 45


# 60,000 is where the public index_shuffle, with its 4 rounds, correlates two epochs by 0.9.
@pytest.mark.parametrize("num_examples", [1_000, 60_000])
def test_epochs_seeds_and_neighbours_are_uncorrelated(num_examples):
    orders = [permutation(num_examples, seed=s, epoch=e) for s in range(3) for e in range(5)]
    for i, order in enumerate(orders):
        for other in orders[:i]:
            assert correlation_in_sigmas(order, other) < 5
        for lag in (1, 2, 64):
            assert correlation_in_sigmas(order[:-lag], order[lag:]) < 5
        assert correlation_in_sigmas(order, np.arange(num_examples)) < 5


def test_the_four_rounds_of_the_public_op_would_not_do():
    index = tf.range(60_000, dtype=tf.int64)
    first, second = (
        tf.random.experimental.index_shuffle(
            index, seed=tf.constant([0, epoch], tf.int64), max_index=tf.constant(59_999, tf.int64)
        ).numpy()
        for epoch in (0, 1)
    )
    assert correlation_in_sigmas(first, second) > 50


def test_an_example_seed_is_that_of_fold_in():
    word = _order.epoch_word(7, tf.constant(3, tf.int64))
    folded = tf.random.fold_in(tf.constant([7, 3], tf.int64), tf.constant(11, tf.int64))
    np.testing.assert_array_equal([word, 11], folded)


@settings(deadline=None, max_examples=30)
@given(num_examples=st.integers(1, 50), data=st.data(), seed=seeds, shuffle=st.booleans())
def test_an_epoch_draws_each_example_at_most_once(num_examples, data, seed, shuffle):
    batch_size = data.draw(st.integers(1, num_examples))
    epoch = data.draw(st.integers(0, 100))
    order = _order.Order(
        num_examples=num_examples,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        steps_per_epoch=num_examples // batch_size,
    )
    first = epoch * order.steps_per_epoch
    batches = [
        order.batch(tf.constant(step, tf.int64))
        for step in range(first, first + order.steps_per_epoch)
    ]
    assert all(batch_epoch == epoch for batch_epoch, _ in batches)
    drawn = np.concatenate([indices for _, indices in batches])
    assert len(set(drawn)) == len(drawn) == order.steps_per_epoch * batch_size
    assert set(drawn) <= set(range(num_examples))
