import numpy as np
import pytest

import pipelines


def prepare(x, y, seed=None):
    return x, y


def stage_names(dataset):
    return [stage.name for stage in dataset.stages]


@pytest.fixture
def arrays():
    return np.zeros((10, 2)), np.zeros(10)


def test_stages_stand_in_the_order_in_which_they_run(arrays):
    train = pipelines.training_pipeline(arrays, batch_size=4, seed=0, map=prepare)
    valid = pipelines.evaluation_pipeline(arrays, batch_size=4, map=prepare)
    assert stage_names(train) == ["order", "gather", "map", "batch", "prefetch"]
    assert stage_names(valid) == ["read", "map", "batch", "pad", "prefetch"]


def test_a_stream_shows_its_buffer(arrays):
    import tensorflow as tf

    source = tf.data.Dataset.from_tensor_slices(arrays)
    train = pipelines.training_pipeline(source, batch_size=4, seed=0, shuffle_buffer_size=7)
    assert stage_names(train) == ["read", "shuffle", "batch", "prefetch"]
    assert "buffer of 7 examples" in pipelines.describe(train)
    plain = pipelines.training_pipeline(source, batch_size=4, seed=0, shuffle=False)
    assert stage_names(plain) == ["read", "batch", "prefetch"]


def test_the_text_has_every_stage_with_its_size_and_reason(arrays):
    train = pipelines.training_pipeline(arrays, batch_size=4, seed=5, map=prepare)
    text = pipelines.describe(train)
    assert text.startswith("TrainingPipeline\n1. order     a permutation")
    assert "seed 5" in text
    assert "prepare, in parallel and in order, a stateless seed per (epoch, example)" in text
    assert "2 steps per epoch, 2 of 10 dropped, others each epoch" in text
    for stage in train.stages:
        assert stage.size in text
        assert stage.reason in text


def test_nothing_dropped_is_said_too(arrays):
    train = pipelines.training_pipeline(arrays, batch_size=5, seed=0)
    assert "nothing dropped" in pipelines.describe(train)


def test_plain_datasets_are_refused(arrays):
    train = pipelines.training_pipeline(arrays, batch_size=4, seed=0)
    with pytest.raises(TypeError, match="Methods such as `take` and `map` return plain datasets"):
        pipelines.describe(train.take(1))
    with pytest.raises(TypeError, match="type tuple"):
        pipelines.describe(arrays)
