"""Profiles of real pipelines: planted bottlenecks are found, and what is not known is said.

A bottleneck is planted with a stage that waits at least five times as long as all others together.
"""

import dataclasses
import gc
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


def test_variables_left_out_are_named():
    known, forgotten = tf.Variable(1.0), tf.Variable(2.0, name="forgotten")

    def step(batch):
        known.assign_add(1.0)
        forgotten.assign_add(1.0)

    with pytest.raises(ValueError, match="which stay as they are now: 'forgotten:0'"):
        pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=step, variables=[known])
    assert known.numpy() == 1.0


def test_variables_that_cannot_be_found_are_asked_for():
    gc.freeze()
    try:
        with pytest.raises(ValueError, match="must be given after"):
            pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=lambda batch: None)
    finally:
        gc.unfreeze()


class Trainer:
    """Training as users write it, with nothing that the step itself names."""

    def __init__(self):
        self.model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        self.optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        self.optimizer.build(self.model.trainable_variables)
        self.averages = {"ema": [tf.Variable(v.numpy()) for v in self.model.trainable_variables]}
        self.compiled = tf.function(self.step)

    def step(self, batch):
        x, y = batch
        with tf.GradientTape() as tape:
            loss = loss_of(self.model, x, y)
        gradients = tape.gradient(loss, vars_of(self.model))
        self.optimizer.apply(gradients, vars_of(self.model))
        for average, value in zip(self.averages["ema"], vars_of(self.model), strict=True):
            average.assign(0.9 * average + 0.1 * tf.convert_to_tensor(value))
        return loss

    def state(self):
        variables = [*self.model.variables, *self.optimizer.variables, *self.averages["ema"]]
        return [v.numpy().copy() for v in variables]


def loss_of(model, x, y):
    return tf.reduce_mean((model(x) - y) ** 2)


def vars_of(model):
    return model.trainable_variables


hidden = {}


def step_through_helpers(batch):
    hidden_trainer().step(batch)


def hidden_trainer():
    return hidden["trainer"]


@pytest.mark.parametrize(
    "step_of",
    [
        lambda trainer: trainer.step,
        lambda trainer: trainer.compiled,
        lambda trainer: step_through_helpers,
    ],
    ids=["method", "tf.function", "helpers"],
)
def test_all_that_a_step_reaches_is_put_back(step_of):
    trainer = hidden["trainer"] = Trainer()
    trainer.step(next(iter(batches(slow=False))))
    before = trainer.state()
    found = pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=step_of(trainer))
    assert found.training.real_seconds > 0
    for one, other in zip(before, trainer.state(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_list_of_variables_is_put_back():
    counters = [tf.Variable(1), tf.Variable(2)]

    def step(batch):
        for counter in counters:
            counter.assign_add(1)

    pipelines.profile(lambda: batches(slow=False), seconds=0.1, step_fn=step)
    assert [counter.numpy() for counter in counters] == [1, 2]


def test_replicas_of_variables_are_put_back():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = compiled()
    model.train_on_batch(*next(iter(batches(slow=False))))
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    pipelines.profile(
        lambda: batches(slow=False),
        seconds=0.1,
        step_fn=lambda batch: model.train_on_batch(*batch),
    )
    after = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_picture_says_what_long_bars_of_parallel_calls_mean():
    dataset = tf.data.Dataset.range(100).map(wait, num_parallel_calls=4)
    serial = pipelines.profile(tf.data.Dataset.range(100).take(50), seconds=0.1).plot()
    parallel = pipelines.profile(dataset, seconds=0.1).plot()
    assert "parallel calls that only wait" in parallel.get_xlabel()
    assert "parallel calls that only wait" not in serial.get_xlabel()
