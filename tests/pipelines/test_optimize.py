"""Changes are kept when they help, and only then; the elements stay what they are."""

import time

import numpy as np
import pytest
import tensorflow as tf

import pipelines

SECONDS = 0.3


def wait(x):
    (x,) = tf.py_function(lambda x: time.sleep(0.01) or [x], [x], [tf.int64])
    return tf.ensure_shape(x, [])


def slow():
    return tf.data.Dataset.range(200).map(wait).batch(2)


@pytest.fixture(scope="module")
def optimized():
    return pipelines.optimize(slow, seconds=SECONDS, repeats=2, max_changes=1, allow_stateful=True)


def test_a_change_that_helps_is_kept_with_its_history(optimized):
    (trial,) = optimized.history
    assert trial.kept
    assert trial.gain == optimized.gain > 1.5
    assert len(trial.rates) == 2
    assert "map wait" in str(trial)
    assert "test_optimize.py:" in str(trial)
    assert str(trial).endswith(f"measured {trial.gain:.2f} times the rate, kept")
    assert optimized.after.rate > optimized.before.rate


def test_the_elements_are_the_same_in_the_same_order(optimized):
    got = np.concatenate(list(optimized.dataset.as_numpy_iterator()))
    np.testing.assert_array_equal(got, np.arange(200))


def test_functions_with_a_state_are_left_alone_unless_allowed():
    found = pipelines.optimize(slow, seconds=0.1, repeats=2, max_changes=1)
    (trial,) = found.history
    assert not trial.kept
    assert trial.rates == ()
    assert "allow_stateful=True" in str(trial)
    assert found.gain == 1.0


def test_a_change_that_does_not_help_is_dropped(monkeypatch):
    from pipelines import _optimize

    monkeypatch.setattr(_optimize, "measure_rate", lambda dataset, seconds: 10.0)
    found = pipelines.optimize(slow, seconds=0.1, repeats=2, max_changes=1, allow_stateful=True)
    (trial,) = found.history
    assert (trial.gain, trial.kept) == (1.0, False)
    assert "not kept: it is not faster" in str(trial)
    assert [len(batch) for batch in found.dataset.take(1)] == [2]


def shuffled():
    return tf.data.Dataset.range(40).map(wait).shuffle(40, seed=3).batch(4)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_seeded_shuffle_begins_with_its_first_order(allowed):
    found = pipelines.optimize(
        shuffled, seconds=SECONDS, repeats=2, max_changes=1, allow_stateful=allowed
    )
    assert [trial.kept for trial in found.history] == [allowed]
    for got, expected in zip(found.dataset, shuffled(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_function_that_makes_other_stages_each_time_is_refused():
    made = []

    def growing():
        made.append(None)
        numbers = tf.data.Dataset.range(40)
        return numbers.batch(4) if len(made) == 1 else numbers.shuffle(40, seed=3).batch(4)

    with pytest.raises(ValueError, match=r"made \['Range', 'Batch'\] first and \['Range', 'Shuf"):
        pipelines.optimize(growing, seconds=0.1, repeats=2)


def test_what_cannot_be_changed_is_said():
    def windows():
        return tf.data.Dataset.range(200).map(wait).window(2).flat_map(lambda x: x.batch(2))

    found = pipelines.optimize(windows, seconds=0.1, repeats=2, allow_stateful=True)
    assert not any(trial.kept for trial in found.history)
    assert found.gain == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 1}, "`repeats` must be an integer of at least 2"),
        ({"max_changes": 0}, "`max_changes` must be an integer of at least 1"),
        ({"allow_stateful": 1}, "`allow_stateful` must be True or False"),
        ({"seconds": 0}, "`seconds` must be a number above 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pipelines.optimize(slow, **options)
