"""Profiles of real pipelines: planted bottlenecks are found, and what is not known is said.

A bottleneck is planted with a stage that waits at least five times as long as all others together.
"""

import dataclasses
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import pipelines
from pipelines._measurement import make_dataset
from pipelines._stage_chain import links
from pipelines._stage_times import StageTimes
from pipelines._stage_work import match

SECONDS = 0.4


def wait(x):
    tf.py_function(lambda: time.sleep(0.01), [], [])
    return x


def cheap(x):
    return x + 1


def slow_map():
    return tf.data.Dataset.range(100).map(cheap).map(wait).map(cheap)


def slow_parallel_map():
    return tf.data.Dataset.range(100).repeat().map(wait, num_parallel_calls=2).batch(2)


def slow_files():
    return tf.data.Dataset.range(10).interleave(
        lambda x: tf.data.Dataset.range(20).map(wait), cycle_length=4
    )


def test_a_slow_serial_map_is_named_with_its_line_and_a_remedy():
    found = pipelines.profile(slow_map, seconds=SECONDS)
    assert found.bottleneck.stage.name == "map wait"
    assert found.bottleneck.stage.source.startswith("test_profile.py:")
    assert found.bottleneck.kind == "serial stage"
    assert found.bottleneck.waiting_fraction > 0.5
    assert "num_parallel_calls" in found.remedies[0].text
    assert found.remedies[0].stateful
    assert found.predicted_gain > 1.5
    assert [stage.name for stage in found.stages][:4] == [
        "range",
        "map cheap",
        "map wait",
        "map cheap",
    ]
    text = str(found)
    assert "bottleneck: map wait (test_profile.py:" in text
    assert "remedy:     map wait" in text


def test_a_full_thread_pool_is_told_from_a_serial_stage():
    found = pipelines.profile(slow_parallel_map, seconds=SECONDS)
    assert found.bottleneck.stage.name == "map wait, batch"
    assert found.bottleneck.kind in ("parallelism limit", "thread pool")
    assert found.bottleneck.stage.parallelism == 2


def test_the_datasets_of_an_interleave_are_seen():
    found = pipelines.profile(slow_files, seconds=SECONDS)
    assert found.bottleneck.stage.name == "each: map"
    assert found.remedies[0].text.startswith("interleave <lambda> (test_profile.py:")


def test_a_pipeline_that_costs_nothing_is_the_programs_fault():
    found = pipelines.profile(lambda: tf.data.Dataset.range(10**9).prefetch(8), seconds=SECONDS)
    assert found.remedies == ()
    if found.bottleneck is not None:
        assert found.bottleneck.kind in ("consumer", "CPU saturated")


def test_a_disagreement_of_model_and_observation_is_not_hidden(monkeypatch):
    from pipelines import _profile

    real = _profile.measure

    def measure(dataset, *, seconds):
        measured = real(dataset, seconds=seconds)
        return dataclasses.replace(measured, elements=measured.elements, seconds=9 * seconds)

    monkeypatch.setattr(_profile, "measure", measure)
    found = pipelines.profile(slow_map, seconds=SECONDS)
    assert (found.bottleneck, found.remedies, found.confidence) == (None, (), "none")
    assert "bottleneck: does not know: the model predicts" in str(found)


def test_profiling_changes_nothing_of_the_pipeline():
    dataset = tf.data.Dataset.range(6).shuffle(6, seed=1, reshuffle_each_iteration=False)
    before = list(dataset.as_numpy_iterator())
    pipelines.profile(dataset, seconds=0.05)
    assert list(dataset.as_numpy_iterator()) == before


def test_the_picture_has_a_bar_per_stage_and_names_the_bottleneck():
    found = pipelines.profile(slow_map, seconds=0.1)
    ax = found.plot()
    assert len(ax.patches) == len(found.stages)
    assert "map wait" in ax.get_title(loc="left")
    other = ax.figure.add_subplot()
    assert found.plot(other) is other


def stage(name, *path, nested=False):
    return StageTimes(name, (*path, name), nested)


def test_fused_and_added_stages_are_matched():
    def factory():
        return tf.data.Dataset.range(9).shuffle(3).repeat().map(cheap).batch(2)

    written = links(*make_dataset(factory))
    ran = [stage("Prefetch"), stage("MapAndBatch"), stage("ShuffleAndRepeat"), stage("Range")]
    found = match(ran, written)
    assert found[0] is None
    assert [link.kind for link in found[1:]] == ["Map", "Shuffle", "Range"]


@pytest.mark.parametrize("seconds", [0, -1.0, "3", True, float("nan")])
def test_seconds_must_be_positive(seconds):
    with pytest.raises(ValueError, match="`seconds` must be a number above 0"):
        pipelines.profile(slow_map, seconds=seconds)


@pytest.mark.parametrize("wrong", [3, lambda: None])
def test_only_datasets(wrong):
    with pytest.raises(TypeError, match=r"must be a `tf\.data\.Dataset` or a function"):
        pipelines.profile(wrong)


def test_empty_and_untuned_pipelines_are_refused():
    with pytest.raises(ValueError, match="Received an empty dataset"):
        pipelines.profile(tf.data.Dataset.range(0), seconds=0.1)
    options = tf.data.Options()
    options.autotune.enabled = False
    with pytest.raises(ValueError, match="leave autotuning on"):
        pipelines.profile(tf.data.Dataset.range(9).with_options(options), seconds=0.1)


def batches(slow):
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(8)
    if not slow:
        return dataset.cache()

    def wait_for(x, y):
        (x,) = tf.py_function(lambda x: time.sleep(0.05) or [x], [x], [tf.float32])
        return tf.ensure_shape(x, (None, 4)), y

    return dataset.map(wait_for)


def compiled():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_training_that_waits_for_its_input_is_told_and_its_state_is_put_back():
    model = compiled()
    model.train_on_batch(*next(iter(batches(slow=False))))
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    found = pipelines.profile(
        lambda: batches(slow=True),
        seconds=SECONDS,
        step_fn=lambda batch: model.train_on_batch(*batch),
    )
    assert found.training.input_bound
    assert found.training.waiting_seconds > 0.5 * found.training.real_seconds
    assert "training:   input-bound" in str(found)
    for one, other in zip(
        before, [v.numpy() for v in [*model.variables, *model.optimizer.variables]], strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_step_with_named_variables_is_put_back_even_when_it_fails():
    counter = tf.Variable(5)
    calls = []

    def step(batch):
        counter.assign_add(1)
        calls.append(batch)
        if len(calls) > 3:
            raise RuntimeError("broken step")

    with pytest.raises(RuntimeError, match="broken step"):
        pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=step)
    assert counter.numpy() == 5


def test_a_step_whose_state_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"pass `variables=\[\.\.\.\]`"):
        pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=lambda batch: None)
    found = pipelines.profile(
        lambda: batches(slow=False), seconds=0.1, step_fn=lambda batch: None, variables=[]
    )
    assert found.training.real_seconds > 0


def test_a_step_that_makes_variables_is_refused():
    made = [tf.Variable(0.0)]

    class Holder:
        variables = made

    holder = Holder()

    def step(batch):
        holder.variables.append(tf.Variable(1.0))

    with pytest.raises(ValueError, match="must not make variables"):
        pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=step)
