"""A sample is fixed, as large as asked, and keeps the classes' shares."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import pipelines
from pipelines._sample import choose


@settings(deadline=None, max_examples=60)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=80), fraction=st.floats(0.01, 1.0))
def test_a_stratified_sample_keeps_shares_to_within_one(labels, fraction):
    labels = np.array(labels)
    num_samples = max(1, int(fraction * len(labels)))
    indices = choose(len(labels), num_samples, labels)
    assert len(set(indices)) == num_samples
    assert np.all(np.diff(indices) > 0)
    for label in set(labels):
        exact = num_samples * np.mean(labels == label)
        assert abs(np.sum(labels[indices] == label) - exact) < 1


def test_the_largest_remainders_are_rounded_up():
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    # Of 4 examples the shares are 2.0, 1.2 and 0.8.
    np.testing.assert_array_equal(np.bincount(labels[choose(10, 4, labels)]), [2, 1, 1])


def test_a_plain_sample_is_spread_over_the_set():
    indices = choose(10_000, 1000)
    assert len(set(indices)) == 1000
    assert np.all(np.abs(np.bincount(indices // 1000) - 100) < 5 * np.sqrt(100))


@pytest.fixture
def arrays():
    number = np.arange(30)
    return number.astype("float32"), number % 3


def evaluated(source, **options):
    valid = pipelines.evaluation_pipeline(source, batch_size=4, **options)
    parts = [[part.numpy() for part in batch] for batch in valid]
    x, y, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert weight.mean() == pytest.approx(1.0)
    return x[weight > 0], y[weight > 0]


@pytest.mark.parametrize("stratify_by", [None, lambda x, y: y])
def test_arrays_and_streams_give_the_same_examples_in_order(arrays, stratify_by):
    options = {"sample": 9, "stratify_by": stratify_by}
    x, y = evaluated(arrays, **options)
    assert len(x) == 9
    assert np.all(np.diff(x) > 0)
    np.testing.assert_array_equal(y, x % 3)
    if stratify_by is not None:
        np.testing.assert_array_equal(np.bincount(y), [3, 3, 3])
    stream = tf.data.Dataset.from_tensor_slices(arrays)
    np.testing.assert_array_equal(evaluated(stream, **options)[0], x)


def test_examples_of_any_size_can_be_sampled():
    source = tf.data.Dataset.range(10).map(lambda i: (tf.range(i), i))
    source = source.map(lambda x, y: (tf.ensure_shape(x, [None]), y))
    x, y = evaluated(source, sample=3, map=lambda x, y: (tf.size(x), y))
    assert len(y) == 3
    np.testing.assert_array_equal(x, y)


def test_a_feature_stratifies_by_its_name(arrays):
    x, y = arrays
    _, labels = evaluated(
        {"x": x, "label": y},
        sample=6,
        stratify_by="label",
        map=lambda example: (example["x"], example["label"]),
    )
    np.testing.assert_array_equal(np.bincount(labels), [2, 2, 2])


def test_describe_says_that_it_is_a_sample(arrays):
    valid = pipelines.evaluation_pipeline(arrays, batch_size=4, sample=6)
    assert valid.num_examples == 6
    assert "6 of 30 examples in memory" in pipelines.describe(valid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 31}, "`sample` must be an integer of at least 1 and at most 30"),
        ({"sample": 0}, "`sample` must be an integer"),
        ({"stratify_by": lambda x, y: y}, "`sample` is None"),
        ({"sample": 3, "stratify_by": "label"}, "`stratify_by` must be the name of a feature"),
        ({"sample": 3, "stratify_by": lambda x, y: x}, "one integer, boolean or string"),
    ],
)
def test_what_cannot_be_sampled_is_refused(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        pipelines.evaluation_pipeline(arrays, batch_size=4, **options)
